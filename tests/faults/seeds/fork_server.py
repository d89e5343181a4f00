"""Start gateways and workers fast, by forking a process that has already loaded the code.

Run as a program, it reads orders, one JSON line each, and forks. Each child is a process like any
other: its own process and settings, that can be killed, stopped and terminated.
"""

import asyncio
import ctypes
import faulthandler
import gc
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

FORKED: Final = "forked\n"
"""The first line of each process in its log."""
_PR_SET_PDEATHSIG: Final = 1
_FORKS_WITHIN_S: Final = 60.0
"""Loading the code takes a second; much longer on a machine that is busy."""


class ForkServer:
    """The forking process, as the test controls it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> "ForkServer":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "faults.seeds.fork_server",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def fork(self, settings: dict[str, str], port: int | None, log: Path) -> int:
        """Fork a gateway, or a worker if there is no port, and return its process id."""
        assert self._process is not None
        assert self._process.stdin is not None
        order = {"settings": settings, "port": port, "log": str(log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return await asyncio.wait_for(self._started.get(), _FORKS_WITHIN_S)

    async def end_of(self, pid: int) -> int:
        """Wait for a child's end; return its exit status, or minus the signal that killed it."""
        return await asyncio.shield(self._end(pid))

    def is_alive(self, pid: int) -> bool:
        return not self._end(pid).done()

    def _end(self, pid: int) -> asyncio.Future[int]:
        return self._ends.setdefault(pid, asyncio.get_running_loop().create_future())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "started" in message:
                self._started.put_nowait(message["started"])
            else:
                self._end(message["ended"]).set_result(message["status"])

    async def close(self) -> None:
        """Close the forking process; its children end with it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
        if self._reader is not None:
            await self._reader


# In the forking process ----------------------------------------------------------------------


def _serve(order: dict[str, Any], parent: int) -> None:
    """Become a gateway or a worker, in the child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.write(log, FORKED.encode())
    faulthandler.enable()  # SIGABRT shows where it is
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.update(
        {f"EASYPAY_{name.upper()}": value for name, value in order["settings"].items()}
    )
    from easypay.server.serve import listen, serve
    from easypay.settings import Settings
    from easypay.worker.process import work

    status = 1
    try:
        settings = Settings()  # type: ignore[call-arg]
        if order["port"] is None:
            status = work(settings)
        else:
            serve(settings, listen("127.0.0.1", order["port"]))
            status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _say(**what: int) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _reap() -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def main() -> None:
    """Fork as ordered until the input ends; then kill all children."""
    import easypay.server.app
    import easypay.server.serve
    import easypay.worker.process  # noqa: F401 - loaded once, for all

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)
    parent = os.getpid()
    children: set[int] = set()
    gc.collect()
    gc.freeze()
    import select

    pending = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
            _reap()
        if 0 in ready:
            data = os.read(0, 65_536)
            if not data:
                break
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    _serve(json.loads(line), parent)
                children.add(pid)
                _say(started=pid)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
