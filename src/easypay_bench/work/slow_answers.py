"""Why an answer was slow: whether what it waited for ran, waited for a core, or waited itself.

Linux counts for each thread how long it ran and how long it could have run but had no core
(`/proc/PID/schedstat`). Both are read every few milliseconds for the gateway's event loop and for
the connections over which it commits. So of each slow answer it is known how much of its time was
the machine's, and how much ours. On other systems nothing is told.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import asyncpg
import msgspec
import psutil  # type: ignore[import-untyped]

from easypay_bench.stack import Stack
from easypay_bench.work.sender import SlowAnswer

_EVERY_S: Final = 0.004
_BACKENDS_EVERY_S: Final = 0.5
_BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1"
_PROC: Final = Path("/proc")


class Explained(msgspec.Struct, frozen=True):
    """One slow answer, in milliseconds: how long it took from when the request was due; how long
    the gateway says that it had it, 0 if it says nothing; how long the gateway's loop ran
    meanwhile, and waited for a core; the same of its connections' backends."""

    took: float
    in_gateway: float
    loop_ran: float
    loop_waited: float
    backends_ran: float
    backends_waited: float

    @property
    def no_core(self) -> float:
        """How much of it somebody waited for a core. The waits of loop and backends follow one
        another, but for those of another answer's group."""
        return min(self.took, self.loop_waited + self.backends_waited)


class SlowAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """The slow answers of a load. `stolen_s`: what the machine's host gave to others meanwhile."""

    answers: int
    slow: list[Explained]
    loop_ran_s: float
    loop_waited_s: float
    stolen_s: float
    seconds: float

    def summary(self) -> str:
        """Return what there is to say, in a few lines."""
        load = (
            f"the gateway's loop ran {self.loop_ran_s / self.seconds:.0%} of the time and waited "
            f"for a core {self.loop_waited_s / self.seconds:.1%}, "
            f"{self.stolen_s:.2f} s were stolen from the machine"
        )
        if not self.slow:
            return f"no slow answer; {load}"
        middle = Explained(*(median(each) for each in zip(*map(_fields, self.slow), strict=True)))
        no_core = sum(each.no_core for each in self.slow) / sum(each.took for each in self.slow)
        inside = f", {middle.in_gateway:.0f} of them in the gateway" if middle.in_gateway else ""
        return (
            f"{len(self.slow)} of {self.answers} answers were slow: {middle.took:.0f} ms{inside} "
            f"(medians); its loop ran {middle.loop_ran:.1f} ms and waited {middle.loop_waited:.1f} "
            f"for a core, its connections {middle.backends_ran:.1f} and "
            f"{middle.backends_waited:.1f}: {no_core:.0%} of their time was for want of a core; "
            f"{load}"
        )


def _fields(each: Explained) -> tuple[float, ...]:
    fields: tuple[float, ...] = msgspec.structs.astuple(each)
    return fields


class Series:
    """How long a thread ran and waited for a core since its start, at each of some moments."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.ran: list[float] = []
        self.waited: list[float] = []

    def add(self, at: float, ran_s: float, waited_s: float) -> None:
        """Add a reading. Moments rise."""
        self.at.append(at)
        self.ran.append(ran_s)
        self.waited.append(waited_s)

    def between(self, begins: float, ends: float) -> tuple[float, float]:
        """Return for how many seconds it ran and waited between two moments."""
        return (
            self._at(self.ran, ends) - self._at(self.ran, begins),
            self._at(self.waited, ends) - self._at(self.waited, begins),
        )

    def _at(self, values: Sequence[float], moment: float) -> float:
        """Return a value between two readings as if it had grown evenly."""
        right = bisect_right(self.at, moment)
        if right == 0 or right == len(self.at):
            return values[min(right, len(values) - 1)] if values else 0.0
        before, after = self.at[right - 1], self.at[right]
        share = (moment - before) / (after - before)
        return values[right - 1] + share * (values[right] - values[right - 1])


class Watch:
    """What was read during one load."""

    def __init__(self, loops: Sequence[int]) -> None:
        self.loops = {pid: Series() for pid in loops}
        self.backends: dict[int, Series] = {}
        self._began = perf_counter()
        self._stolen_s = _stolen_s()

    def read(self) -> None:
        """Read everything once."""
        for pid, series in (*self.loops.items(), *self.backends.items()):
            with suppress(OSError, ValueError):  # it has ended, or this is not Linux
                ran, waited, _ = (_PROC / str(pid) / "schedstat").read_text().split()
                series.add(perf_counter(), int(ran) / 1e9, int(waited) / 1e9)

    def explain(self, answers: int, slow: Sequence[SlowAnswer]) -> SlowAnswers:
        """Return the slow ones of so many answers, with what happened meanwhile."""
        now = perf_counter()
        ran, waited = _sum(self.loops.values(), self._began, now)
        return SlowAnswers(
            answers=answers,
            slow=[self._explained(each) for each in slow],
            loop_ran_s=ran,
            loop_waited_s=waited,
            stolen_s=_stolen_s() - self._stolen_s,
            seconds=now - self._began,
        )

    def _explained(self, answer: SlowAnswer) -> Explained:
        ends = answer.due + answer.took_s
        parts = (
            *(answer.took_s, answer.total_s),
            *_sum(self.loops.values(), answer.due, ends),
            *_sum(self.backends.values(), answer.due, ends),
        )
        return Explained(*(1000 * each for each in parts))


def _sum(series: Any, begins: float, ends: float) -> tuple[float, float]:
    parts = [each.between(begins, ends) for each in series]
    return sum(ran for ran, _ in parts), sum(waited for _, waited in parts)


@asynccontextmanager
async def watched(stack: Stack, statement: str) -> AsyncIterator[Watch]:
    """Watch the gateway and its connections for a statement during the block."""
    watch = Watch(stack.gateway_pids)
    connection = await asyncpg.connect(stack.database_url)
    tasks = [
        asyncio.create_task(each)
        for each in (_keep_reading(watch), _find_backends(watch, connection, statement))
    ]
    try:
        yield watch
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)
        await connection.close()


async def _keep_reading(watch: Watch) -> None:
    while True:
        watch.read()
        await asyncio.sleep(_EVERY_S)


async def _find_backends(watch: Watch, connection: Any, statement: str) -> None:
    """Find the backends now and then: a gateway connects when it needs to."""
    while True:
        for (pid,) in await connection.fetch(_BACKENDS, f"easypay {statement} %"):
            watch.backends.setdefault(pid, Series())
        await asyncio.sleep(_BACKENDS_EVERY_S)


def _stolen_s() -> float:
    return float(getattr(psutil.cpu_times(), "steal", 0.0))
