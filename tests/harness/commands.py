"""The command line, run as an operator runs it."""

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple


class Output(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Return the JSON that a successful command printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def run_easypay(*words: str, stdin: bytes = b"", **env: str) -> Output:
    """Run `easypay …` to its end, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "easypay", *words],
        env=os.environ | env,
        input=stdin,
        capture_output=True,
        timeout=90,
        check=False,
    )
    return Output(done.returncode, done.stdout.decode(), done.stderr.decode())
