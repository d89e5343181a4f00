"""The command line, run as an operator runs it."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

from harness.forks import Program, start_program

_ENDS_WITHIN_S: Final = 90
_STANDARD_ERROR: Final = 2


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
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        files = {"stdin": given.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        running = start_program(["easypay", *words], os.environ | env, **files)
        try:
            code = running.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
        for file in (out, err):
            file.seek(0)
        return Output(code, out.read().decode(), err.read().decode())


@asynccontextmanager
async def running_easypay(
    *words: str, **env: str
) -> AsyncIterator[tuple[Program, asyncio.StreamReader]]:
    """Start `easypay …` as a process of its own, and yield it with what it prints. If it still runs
    at the end of the block, it is killed."""
    reads, writes = os.pipe()
    printed = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(printed), os.fdopen(reads, "rb", 0)
    )
    try:
        try:
            program = start_program(
                ["easypay", *words], os.environ | env, stdout=writes, stderr=_STANDARD_ERROR
            )
        finally:
            os.close(writes)
        try:
            yield program, printed
        finally:
            program.kill()
            program.wait()
    finally:
        pipe.close()
