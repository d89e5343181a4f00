"""How far the feed is behind, and what its leader costs: its looks, its CPU, its CPU per event.

Under a gateway a second reader asks for what is new every few milliseconds. How late an event is
counts from its id, which is made just before its commit, until this reader has it: so it is the
truth, a little more, and at most one pause of the reader.

A gateway at its highest rate fills a small machine by itself. Then the feed is late because it gets
no CPU, as everything else is. So the feed is also measured beside the gateway's statements alone,
and there PostgreSQL tells how late it is (`track_commit_timestamp`): from the commit of an event to
the commit that gave it its place. Nobody else reads the feed then.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter, time
from typing import Any, Final

import asyncpg
import msgspec

from easypay_bench import cpu

_PAUSE_S: Final = 0.004
_NEW: Final = "SELECT seq, event_id FROM feed WHERE seq > $1 ORDER BY seq LIMIT 10000"
_HEAD: Final = "SELECT last_seq FROM feed_head"
_LOOKS: Final = "SELECT sum(version)::bigint FROM feed_months"
_BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'easypay feed%'"
_METER_S: Final = 0.1
_LATE_MS: Final = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(f.xmin) - pg_xact_commit_timestamp(e.xmin))
           ::float8 * 1000
      FROM feed f JOIN events e ON e.id = f.event_id
     WHERE f.seq > $1
"""
COMMIT_TIMES: Final = {"track_commit_timestamp": "on"}
"""What `watched(by_commits=True)` needs of PostgreSQL."""


class FeedRun(msgspec.Struct, kw_only=True):
    """The feed during one load."""

    events: int = 0
    seconds: float = 0.0
    late_ms: list[float] = []
    """How late each event was, in rising order."""
    looks: int = 0
    """How often the leader's statement ran. It counts its runs itself."""
    cpu_s: float = 0.0
    """CPU of PostgreSQL in the leader's connections and those of its reader."""
    cores: dict[str, float] = {}
    """How many cores each part used, beside the statements alone."""


@asynccontextmanager
async def watched(dsn: str, *, by_commits: bool = False) -> AsyncIterator[FeedRun]:
    """Measure the feed during the block. What it yields is filled when the block has ended.
    `by_commits`: by what PostgreSQL knows, and not by a reader."""
    run = FeedRun()
    asking, reading, metering = [await asyncpg.connect(dsn) for _ in range(3)]
    try:
        head, looks = await asking.fetchval(_HEAD), await asking.fetchval(_LOOKS)
        began = perf_counter()
        tasks = [asyncio.create_task(_meter(metering, run))]
        if not by_commits:
            tasks.append(asyncio.create_task(_read(reading, head, run)))
        try:
            yield run
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)
        run.seconds = perf_counter() - began
        if by_commits:
            run.late_ms = [late_ms for (late_ms,) in await asking.fetch(_LATE_MS, head)]
        run.looks = await asking.fetchval(_LOOKS) - looks
        run.events = len(run.late_ms)
        run.late_ms.sort()
    finally:
        await asyncio.gather(*(each.close() for each in (asking, reading, metering)))


async def _read(connection: Any, after: int, run: FeedRun) -> None:
    statement = await connection.prepare(_NEW)
    while True:
        rows = await statement.fetch(after)
        now_ms = time() * 1000
        for _, event_id in rows:
            run.late_ms.append(now_ms - (event_id.int >> 80))
        if rows:
            after = rows[-1][0]
        await asyncio.sleep(_PAUSE_S)


async def _meter(connection: Any, run: FeedRun) -> None:
    """Add up the CPU of the leader's backends. They change: a plan that is too old is made anew
    over a new connection."""
    statement = await connection.prepare(_BACKENDS)
    before: dict[int, float] = {}
    while True:
        now = {pid: cpu.process_s(pid) for (pid,) in await statement.fetch()}
        if before:
            run.cpu_s += sum(max(0.0, used - before.get(pid, 0.0)) for pid, used in now.items())
        before |= now
        await asyncio.sleep(_METER_S)
