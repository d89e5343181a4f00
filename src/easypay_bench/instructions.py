"""How many machine instructions processes execute, counted by Linux's `perf` where it can.

Unlike a time, the count is nearly the same on a busy machine. Most virtual machines have no such
counter, and some forbid its use (`kernel.perf_event_paranoid`); then there is no figure.
"""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Final

_EVENT: Final = "instructions:u"
_ENDS_WITHIN_S: Final = 10.0


class Instructions:
    """Counts the user instructions of processes for the length of the block."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.total: int | None = None
        """After the block; None if they could not be counted."""
        self._pids = pids
        self._perf: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Instructions":
        if (perf := shutil.which("perf")) is not None and self._pids:
            self._perf = subprocess.Popen(  # noqa: S603  (our own command line)
                [perf, "stat", "-x", ",", "-e", _EVENT, "-p", ",".join(map(str, self._pids))],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._perf is None:
            return
        self._perf.send_signal(signal.SIGINT)  # it prints what it counted
        try:
            _, told = self._perf.communicate(timeout=_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._perf.kill()
            self._perf.communicate()
            return
        self.total = parsed(told)


def parsed(told: str) -> int | None:
    """Return the count in what `perf stat -x ,` printed; None if it says that it has none."""
    for line in told.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2].startswith("instructions"):
            return int(fields[0]) if fields[0].isdigit() else None
    return None
