"""Workers that tests kill, stop and await: forks of a process that has loaded the code."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.forks import Program, end_of, start_logged
from harness.processes import ENCRYPTION_KEY, variables
from harness.stack import Stack
from harness.waiting import until


class ForkedWorker:
    """A worker that is a fork of a process which has loaded the code."""

    def __init__(self, program: Program, log: Path) -> None:
        self._program = program
        self._log = log

    @property
    def pid(self) -> int:
        return self._program.pid

    def logs(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def works(self) -> bool:
        assert self.is_alive, self.logs()
        return "working on" in self.logs()

    async def is_stopped(self) -> bool:
        """Whether the process is stopped by a signal."""
        with open(f"/proc/{self.pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"

    def send(self, which: signal.Signals) -> None:
        os.kill(self.pid, which)

    @property
    def is_alive(self) -> bool:
        return self._program.poll() is None

    async def ends(self) -> int:
        """Wait for its end, and return its exit status, or minus the signal that killed it."""
        return await asyncio.wait_for(end_of(self._program), 20)

    async def stop(self) -> None:
        """Stop it for good, if it runs."""
        self._program.kill()
        await self.ends()


class ForkedWorkers:
    """Starts workers on a stack's database, with these settings."""

    def __init__(self, stack: Stack, **settings: str) -> None:
        self._stack = stack
        self._settings = settings
        self.started: list[ForkedWorker] = []

    async def start(self, **over: str) -> ForkedWorker:
        """Start a worker, and wait until it works, or is stopped or dead by its failpoint."""
        wire = self._stack.simulator.wire
        settings = {
            "database_url": self._stack.dsn,
            "encryption_key": ENCRYPTION_KEY,
            "authorize_net_test_url": wire,
            "authorize_net_live_url": wire,
            **self._settings,
            **over,
        }
        log = self._stack.folder / f"forked-{next(_numbers)}.log"
        environment = os.environ | variables(settings)
        worker = ForkedWorker(start_logged(["easypay", "worker"], environment, log), log)
        self.started.append(worker)
        if "failpoint" not in over:
            await until(worker.works, what="the worker works")
        return worker


_numbers = itertools.count(1)


@asynccontextmanager
async def forked_workers(stack: Stack, **settings: str) -> AsyncIterator[ForkedWorkers]:
    """Yield what starts workers; they end with the block."""
    made = ForkedWorkers(stack, **settings)
    try:
        yield made
    finally:
        for worker in made.started:
            await worker.stop()
