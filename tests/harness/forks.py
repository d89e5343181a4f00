"""Programs as forks of a process that has loaded the code (`harness.fork_server`): they start in a
fraction of the time that importing takes.

`start_program` starts one. It is a fork where that makes no difference to what it does; where it
would, because something is decided when Python starts, it is an ordinary process.
"""

import asyncio
import atexit
import functools
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from harness.fork_server import FORKED, LIMITS, PROGRAMS, REPORT, RUNS

_STARTS_WITHIN_S: Final = 60.0
"""Loading the code takes a second; much longer on a machine that is busy."""
_READ_BY_PYTHON: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")
"""How variables begin that Python or the C library reads once, when it starts."""

_ENVIRONMENT: Final = dict(os.environ)
"""The fork server's: of this moment, since a test may set what it likes when it starts the first
program."""


class Fork:
    """A program that runs as a fork. It is used as a `subprocess.Popen` is."""

    def __init__(self, program: Sequence[str], report: int) -> None:
        self.args = ["python", "-m", *program]
        self.returncode: int | None = None
        self.runs = False
        """Whether it is a process of its own. It may be that and wait for the machine."""
        self._pid: int | None = None
        self._report = report
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, report)

    @property
    def pid(self) -> int:
        """Its process id. Waits until it is forked."""
        while self._pid is None:
            assert _is_readable(self._report, _STARTS_WITHIN_S), "the fork server does not answer"
            self._read()
        return self._pid

    def poll(self) -> int | None:
        """Return its exit status, or minus the signal that killed it, or None while it runs."""
        return self._end(within_s=0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return what `poll` does. Raises subprocess.TimeoutExpired."""
        status = self._end(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def _end(self, within_s: float | None) -> int | None:
        ends = None if within_s is None else time.monotonic() + within_s
        while self.returncode is None:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            if not _is_readable(self._report, left):
                break
            self._read()
        return self.returncode

    def _read(self) -> None:
        """Read the next part of the report, if no other thread has read it meanwhile."""
        with self._lock:
            if self.returncode is not None or not _is_readable(self._report, 0):
                return
            said = os.read(self._report, REPORT.size)
            if not said:
                raise RuntimeError("the fork server has ended; standard error may say why")
            what, number = REPORT.unpack(said)
            if what == FORKED:
                self._pid = number
            elif what == RUNS:
                self.runs = True
            else:
                self.returncode = number

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Program: TypeAlias = "Fork | subprocess.Popen[bytes]"


async def end_of(program: Program) -> int:
    """Wait for its end; return its exit status, or minus the signal that killed it."""
    while (status := program.poll()) is None:
        await asyncio.sleep(0.01)
    return status


class ForkServer:
    """The process of which programs are forks. It ends with this one, and its forks with it."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("fork_server.py")
        with theirs:
            # -P: without it this folder would be searched first, and has modules with the names
            # of Python's own.
            self._process = subprocess.Popen(
                # Its forks have the same command line, by which `easypay loadtest` finds gateways.
                [sys.executable, "-P", str(program), str(theirs.fileno()), "easypay"],
                stdin=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._close)

    def fork(
        self, program: Sequence[str], environment: Mapping[str, str], files: Mapping[int, int]
    ) -> Fork:
        """Fork, and run the program with these files: what number in it is which file here."""
        order = {
            "program": program,
            "environment": dict(environment),
            "directory": os.getcwd(),
            "files": list(files),
            "limits": {limit: resource.getrlimit(limit) for limit in LIMITS},
        }
        report, theirs = os.pipe()
        try:
            message = [json.dumps(order).encode()]
            socket.send_fds(self._orders, message, [*files.values(), theirs])
        finally:
            os.close(theirs)
        return Fork(program, report)

    def _close(self) -> None:
        self._orders.close()
        self._process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Return the one that all programs share. The first call starts it, and does not wait."""
    return ForkServer()


def start_program(
    program: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: int | None = None,
    stdout: int,
    stderr: int,
    pass_fds: Sequence[int] = (),
) -> Program:
    """Start `python -m program…` with these files, as a fork if possible. Without `stdin` it reads
    nothing."""
    with open(os.devnull, "rb") as nothing:
        read = nothing.fileno() if stdin is None else stdin
        if _can_fork(program, environment):
            files = {0: read, 1: stdout, 2: stderr, **{file: file for file in pass_fds}}
            return fork_server().fork(program, environment, files)
        return subprocess.Popen(
            [sys.executable, "-m", *program],
            env=environment,
            stdin=read,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
        )


def start_logged(
    program: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    pass_fds: Sequence[int] = (),
) -> Program:
    """Start a program that writes to the end of a file."""
    with log.open("ab") as out:
        to = out.fileno()
        return start_program(program, environment, stdout=to, stderr=to, pass_fds=pass_fds)


def _can_fork(program: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork is what Python would become. Of `easypay up`, the start is what matters."""
    return (
        sys.platform == "linux"
        and program[0] in PROGRAMS
        and program[1:2] != ["up"]
        and _read_by_python(environment) == _read_by_python(_ENVIRONMENT)
    )


def _read_by_python(given: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in given.items() if value and name.startswith(_READ_BY_PYTHON)
    }


def _is_readable(file: int, within_s: float | None) -> bool:
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(None if within_s is None else within_s * 1000))
