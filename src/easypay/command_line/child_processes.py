"""Child processes of `easypay up`: started, restarted with delays, stopped, never orphaned."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from easypay.db import postgres_binaries

FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 10.0
STEADY_AFTER_S: Final = 30.0
"""A child that ran this long is restarted after the first, short delay again."""


class Child:
    """A program that is kept running, and its log file."""

    def __init__(
        self,
        name: str,
        program: Sequence[str],
        *,
        log_path: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        inherit: Sequence[int] = (),
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.restarts = 0
        self._program = program
        self._environment = environment
        self._inherit = tuple(inherit)
        self._say = say
        self._on_start = on_start
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the running process; None between two."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start the program, and restart it whenever it ends."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, patience_s: float) -> None:
        """Send SIGTERM, and SIGKILL after `patience_s`. Safe to call twice."""
        self._stopping = True
        if self._keeper is not None and self.pid is None:
            self._keeper.cancel()  # it is waiting to restart the program
        self.signal(signal.SIGTERM)
        process = self._process
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), patience_s)
        except TimeoutError:
            self._say(f"{self.name} did not stop within {patience_s:.0f} s: killing it")
            self.signal(signal.SIGKILL)
            await process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self.pid is not None and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def last_words(self) -> str:
        """Return the end of its log, for a message to a person."""
        with suppress(OSError):
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "its log is empty"
        return "it has no log"

    async def _spawn(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *postgres_binaries.command("same", self._program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._environment),
                pass_fds=self._inherit,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which stops in order
            )
        self._on_start()

    async def _keep(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            assert self._process is not None
            started = time.monotonic()
            status = await self._process.wait()
            if self._stopping:
                return
            if time.monotonic() - started > STEADY_AFTER_S:
                delay_s = FIRST_DELAY_S
            self._say(
                f"{self.name} (process {self._process.pid}) ended with status {status}: "
                f"starting it again in {delay_s:g} s (log: {self.log_path})"
            )
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)
            self.restarts += 1
            await self._spawn()


def remember(path: Path, pids: Sequence[int]) -> None:
    """Write down the running children, each with its birth, for the next start after a crash."""
    noted = [{"pid": pid, "born": birth} for pid in pids if (birth := born(pid))]
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(noted))
    aside.replace(path)


def stop_leftovers(path: Path) -> None:
    """End children that outlived a killed supervisor, and nothing else: pids are reused."""
    try:
        noted = [(int(child["pid"]), str(child["born"])) for child in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    for number, wait_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        left = [pid for pid, birth in noted if born(pid) == birth]
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        give_up_at = time.monotonic() + wait_s
        while time.monotonic() < give_up_at:
            if not any(born(pid) == birth for pid, birth in noted):
                path.unlink(missing_ok=True)
                return
            time.sleep(0.01)


def born(pid: int) -> str | None:
    """Return when a process began, in this system's terms; None if it has ended."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        state, *fields = text.rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() or None
