"""How far the feed is behind, and what its leader costs: its looks, its CPU, its CPU per event.

A second reader asks for what is new every few milliseconds. How late an event is counts from its
id, which is made just before its commit, until this reader has it: so it is the truth, a little
more, and at most one pause of the reader.
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
_BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name = 'easypay feed'"


class FeedRun(msgspec.Struct, kw_only=True):
    """The feed during one load."""

    events: int = 0
    seconds: float = 0.0
    late_ms: list[float] = []
    """How late each event was, in rising order."""
    looks: int = 0
    """How often the leader's statement ran. It counts its runs itself."""
    cpu_s: float = 0.0
    """CPU of PostgreSQL in the leader's connections."""


@asynccontextmanager
async def watched(dsn: str) -> AsyncIterator[FeedRun]:
    """Measure the feed during the block. What it yields is filled when the block has ended."""
    run = FeedRun()
    asking, reading = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    try:
        pids = [row[0] for row in await asking.fetch(_BACKENDS)]
        head, looks = await asking.fetchval(_HEAD), await asking.fetchval(_LOOKS)
        used_s, began = sum(map(cpu.process_s, pids)), perf_counter()
        reader = asyncio.create_task(_read(reading, head, run))
        try:
            yield run
        finally:
            reader.cancel()
            await asyncio.wait([reader])
        run.seconds = perf_counter() - began
        run.cpu_s = sum(map(cpu.process_s, pids)) - used_s
        run.looks = await asking.fetchval(_LOOKS) - looks
        run.events = len(run.late_ms)
        run.late_ms.sort()
    finally:
        await asyncio.gather(asking.close(), reading.close())


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
