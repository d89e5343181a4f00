"""A program that starts programs fast: it has loaded the code of `python -m easypay` and
`python -m authorizenet_simulator`, and forks. `harness.forks` starts it and gives it orders.

An order is one message: JSON of what to run, and the file descriptors of its standard input,
output and error, of what else it is to have, and of the pipe for the report. That says which
process id the fork has, that it runs, and after its end its exit status, or minus the signal that
killed it.

A fork is a process like any other: it can be killed, stopped and terminated, has its own
environment, directory and standard streams, and of this program's files, sockets and threads
nothing. What it runs is what `python -m` runs, with the same command line.
"""

import atexit
import ctypes
import faulthandler
import fcntl
import gc
import importlib
import io
import json
import os
import resource
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

PROGRAMS: Final = ("easypay", "authorizenet_simulator")
"""What it can run."""
_LOADED: Final = (
    "authorizenet_simulator.server",
    "authorizenet_simulator.simulator",
    "concurrent.futures.thread",
    "easypay.command_line.data_dir",
    "easypay.command_line.main",
    "easypay.processors.authorize_net.processor",
    "easypay.server.app",
    "easypay.server.serve",
    "easypay.worker.process",
    "uvicorn.lifespan.off",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
)
LIMITS: Final = tuple(
    getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
)
REPORT: Final = struct.Struct("!Bi")
FORKED, RUNS, ENDED = range(3)
_LARGEST_ORDER: Final = 1 << 17
"""Bytes: an environment, and a command line."""
_MOST_FILES: Final = 16
_PR_SET_PDEATHSIG: Final = 1
_ABOVE_ALL: Final = 200
"""From here on a descriptor is in nobody's way while others get their numbers."""


def main() -> None:
    """Fork as ordered until there is nobody who orders; then kill all forks."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    original = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load()
    gc.collect()
    gc.freeze()  # a collection would write to every object, and so copy every page
    waiting = select.poll()
    waiting.register(orders, select.POLLIN)
    forks: dict[int, tuple[int, int]] = {}
    try:
        while True:
            for ready, _ in waiting.poll():
                if ready in forks:
                    waiting.unregister(ready)
                    _report_end(ready, *forks.pop(ready))
                    continue
                order, files, _, _ = socket.recv_fds(orders, _LARGEST_ORDER, _MOST_FILES)
                if not order:
                    return
                *given, report = files
                pid = _fork(json.loads(order), given, report, original)
                _say(report, FORKED, pid)
                for file in given:
                    os.close(file)
                forks[end := os.pidfd_open(pid)] = pid, report
                waiting.register(end, select.POLLIN)
    finally:
        for pid, _ in forks.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _load() -> None:
    """Import what the programs import, and use none of it: what is made at the first use, such as
    random numbers, is each fork's own."""
    for name in _LOADED:
        importlib.import_module(name)
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"a fork has no threads but one, and the code started {threads}"


def _report_end(end: int, pid: int, report: int) -> None:
    _, status = os.waitpid(pid, 0)
    _say(report, ENDED, os.waitstatus_to_exitcode(status))
    os.close(end)
    os.close(report)


def _say(report: int, what: int, number: int = 0) -> None:
    with suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(report, REPORT.pack(what, number))


def _fork(order: dict[str, Any], files: Sequence[int], report: int, on_interrupt: Any) -> int:
    server = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            _say(report, RUNS)
            _become_a_process(order, files, server)
            signal.signal(signal.SIGINT, on_interrupt)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        _run(order["program"])
    return pid


def _become_a_process(order: dict[str, Any], files: Sequence[int], server: int) -> None:
    """Take from the order what a process gets when it starts, and nothing of the server."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)
    _take(files, order["files"])
    for limit, values in order["limits"].items():
        resource.setrlimit(int(limit), tuple(values))
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.stdin = _stream(sys.stdin, 0, "r")
    sys.stdout = _stream(sys.stdout, 1, "w")
    sys.stderr = _stream(sys.stderr, 2, "w", buffering=1)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    faulthandler.enable()  # SIGABRT shows where it is
    gc.enable()


def _stream(servers: Any, number: int, mode: str, buffering: int = -1) -> Any:
    """Return a standard stream as Python makes it, with the server's encoding."""
    kind = {"encoding": servers.encoding, "errors": servers.errors}
    if mode == "w" and servers.write_through:  # PYTHONUNBUFFERED
        return io.TextIOWrapper(open(number, "wb", 0, closefd=False), write_through=True, **kind)
    return open(number, mode, buffering, closefd=False, **kind)


def _take(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give these files these numbers, and close all others."""
    out_of_the_way = [fcntl.fcntl(file, fcntl.F_DUPFD, _ABOVE_ALL) for file in files]
    for file, number in zip(out_of_the_way, numbers, strict=True):
        os.dup2(file, number)
    for file in map(int, os.listdir("/proc/self/fd")):
        if file not in numbers:
            with suppress(OSError):  # the list's own is closed by now
                os.close(file)


def _run(program: Sequence[str]) -> NoReturn:
    """Run `python -m …`, and end as Python ends."""
    sys.argv = list(program)
    sys.path.insert(0, os.getcwd())
    status = 0
    try:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = _status(end)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for them, as Python does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _status(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
