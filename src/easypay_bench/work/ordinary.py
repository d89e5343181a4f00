"""The ordinary path beside that of another commit: both run, and are loaded in turn.

Each is a program of its own with the sources of its commit, so each has its own schema.
"""

import asyncio
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from easypay_bench import counters, cpu, load
from easypay_bench.load import Job, LoadFailed
from easypay_bench.payment_request import orders
from easypay_bench.single_payment_latency import Payer

ROOT: Final = Path(__file__).parents[3]
_CONNECTIONS: Final = 64
_SLICE_S: Final = 1.0
_WARMUPS: Final = 4
_SETTLE_S: Final = 0.5
"""What follows a payment off its path, as the feed, is done by then and belongs to its cost."""
_COUNTED: Final = 100
_NUMBERS_PER_LOAD: Final = 100_000
"""Each load has its own range of numbers, so no key is used twice."""
_STARTS_WITHIN_S: Final = 120.0
_STOPS_WITHIN_S: Final = 60.0


class Cost(msgspec.Struct, frozen=True):
    """Payments per second; CPU, WAL and statements for each payment."""

    per_s: float
    gateway_us: float
    postgres_us: float
    wal_bytes: float
    statements: float


class Pair(msgspec.Struct, frozen=True):
    """Both, measured in turn."""

    before: Cost
    now: Cost


def sources(commit: str, folder: Path) -> Path:
    """Write the sources of a commit to a folder, and return the path to import them from. Raises
    LoadFailed if there is no such commit."""
    found = subprocess.run(  # noqa: S603  (our own command line)
        ["git", "-c", "safe.directory=*", "-C", str(ROOT), "archive", commit, "src"],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if found.returncode:
        raise LoadFailed(f"--base {commit}: {found.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        # Python 3.11 before 3.11.4 has no filters. These are our own commit's files.
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # noqa: S202
    return folder / "src"


def pairs(
    base: Path, count: int, seconds: float, folder: Path, say: Callable[[str], None]
) -> list[Pair]:
    """Start both anew, `count` times, and load each for `seconds`, in turn second by second: what
    the machine does for longer than that disturbs both. Raises LoadFailed."""
    found = []
    for number in range(count):
        if number % 2 == 0:
            before, now = _pair([base, ROOT / "src"], seconds, folder)
        else:
            now, before = _pair([ROOT / "src", base], seconds, folder)
        found.append(Pair(before, now))
        say(f"pair {number + 1}: {_told(before)}, now {_told(now)}")
    return found


def _told(cost: Cost) -> str:
    return f"{cost.per_s:,.0f}/s at {cost.gateway_us:.0f} us"


@dataclass(frozen=True)
class _Standing:
    """What `standing.py` prints: a stack that runs."""

    host: str
    port: int
    api_key: str = field(repr=False)
    database_url: str = field(repr=False)
    gateway_pids: list[int]
    postmaster_pid: int


class _Side:
    """One of the two, and what its loads have cost so far."""

    def __init__(self, standing: _Standing, generator: str) -> None:
        self._standing = standing
        self._generator = generator
        asked = orders(f"{standing.host}:{standing.port}", standing.api_key)
        self._job = Job(standing.host, standing.port, asked, _CONNECTIONS, _SLICE_S)
        self._loads = 0
        self._replies = 0
        self._seconds = self._gateway_s = self._postgres_s = self._wal_bytes = 0.0
        self._statements = self._counted()

    def _counted(self) -> float:
        """Return the statements of a payment, taken one at a time."""

        async def count(payer: Payer) -> float | None:
            async def pay() -> None:
                payer.pay()

            url = self._standing.database_url
            return (await counters.measure(url, pay, payments=_COUNTED)).statements_per_payment

        with closing(Payer(self._job)) as payer:
            return asyncio.run(count(payer)) or 0.0

    def load(self, *, counts: bool = True) -> None:
        """Load it for a slice of time."""
        self._loads += 1
        before = self._spent()
        done = load.run(
            self._generator, replace(self._job, first_number=self._loads * _NUMBERS_PER_LOAD)
        )
        if done.wrong or not done.replies:
            raise LoadFailed(f"not all payments were answered 201: {done.wrong}")
        time.sleep(_SETTLE_S)
        if counts:
            now = self._spent()
            gateway_s, postgres_s, wal_bytes = (a - b for a, b in zip(now, before, strict=True))
            self._gateway_s += gateway_s
            self._postgres_s += postgres_s
            self._wal_bytes += wal_bytes
            self._replies += done.replies
            self._seconds += done.seconds

    def _spent(self) -> tuple[float, float, float]:
        standing = self._standing
        gateway_s = cpu.processes(standing.gateway_pids)()
        postgres_s = cpu.family_s(standing.postmaster_pid)
        return gateway_s, postgres_s, asyncio.run(_wal_bytes(standing.database_url))

    def cost(self) -> Cost:
        return Cost(
            per_s=self._replies / self._seconds,
            gateway_us=self._gateway_s / self._replies * 1e6,
            postgres_us=self._postgres_s / self._replies * 1e6,
            wal_bytes=self._wal_bytes / self._replies,
            statements=self._statements,
        )


async def _wal_bytes(url: str) -> float:
    connection = await asyncpg.connect(url)
    try:
        return (await counters.totals(connection)).wal_bytes
    finally:
        await connection.close()


def _pair(paths: Sequence[Path], seconds: float, folder: Path) -> list[Cost]:
    """Return the cost of each path's sources, started in this order."""
    generator = load.choose("auto", _SLICE_S)
    with ExitStack() as running:
        stacks = [running.enter_context(_started(path, folder)) for path in paths]
        sides = [_Side(stack, generator) for stack in stacks]
        for _ in range(_WARMUPS):
            for side in sides:
                side.load(counts=False)
        for number in range(max(1, round(seconds / _SLICE_S))):
            for side in sides if number % 2 == 0 else reversed(sides):
                side.load()
        return [side.cost() for side in sides]


@contextmanager
def _started(path: Path, folder: Path) -> Iterator[_Standing]:
    """Run the stack of the sources at `path` until the block ends. Raises LoadFailed."""
    with (
        tempfile.TemporaryFile(dir=folder) as complaints,
        subprocess.Popen(  # noqa: S603  (our own command line)
            [sys.executable, "-P", str(Path(__file__).with_name("standing.py"))],
            env={**os.environ, "PYTHONPATH": str(path)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
        ) as program,
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            too_late = threading.Timer(_STARTS_WITHIN_S, program.terminate)
            too_late.start()
            line = program.stdout.readline()
            too_late.cancel()
            if not line:
                complaints.seek(0)
                told = complaints.read().decode(errors="replace").strip()
                raise LoadFailed(f"the stack of {path} did not start: {told[-400:]}")
            yield msgspec.json.decode(line, type=_Standing)
        finally:
            program.stdin.close()
            for stop in (program.terminate, program.kill):
                try:
                    program.wait(_STOPS_WITHIN_S)
                except subprocess.TimeoutExpired:
                    stop()
