"""Runs an export: from the snapshot, turn by turn, to whoever takes the bytes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import msgspec

from easypay.clock import stopwatch
from easypay.errors import EasyPayError
from easypay.exporting.pace import IsBusy, Pace
from easypay.exporting.snapshot import Snapshot
from easypay.exporting.statement import COPY_OPTIONS, Wish, end_of, head_of, rows_sql, where_of
from easypay.payments.lists import Span

Sink = Callable[[bytes], Awaitable[None]]
"""Takes the next bytes. While it waits, PostgreSQL waits too, and nothing piles up here."""


class Progress(msgspec.Struct):
    """How far an export has come."""

    rows: int = 0
    bytes: int = 0
    months_done: float = 0.0
    """How many months have been read; a part of one counts as that part of its time."""
    months: int = 0


Watcher = Callable[[Progress], None]


class TookTooLong(EasyPayError):
    """The export reached its time limit and was cut off."""


class MonthTakenOut(EasyPayError):
    """A month that the export had not read yet was taken out of the database."""


def _nobody(progress: Progress) -> None:
    pass


async def run(
    snapshot: Snapshot,
    wish: Wish,
    sink: Sink,
    *,
    share: float,
    limit_s: float,
    is_busy: IsBusy | None = None,
    watch: Watcher = _nobody,
) -> Progress:
    """Write everything that fits, and a last line with the number of rows.

    `share`: the part of the time that it works while payments are written. `is_busy` tells whether
    they are; by default the snapshot's server is asked. Raises TookTooLong after `limit_s`,
    MonthTakenOut, what `sink` raises, and what the database raises; then the last line is missing.
    """
    try:
        async with asyncio.timeout(limit_s) as limit:
            pace = Pace(share, is_busy or snapshot.payments_are_written)
            return await _run(snapshot, wish, sink, pace, watch)
    except asyncpg.UndefinedTableError as error:
        raise MonthTakenOut(
            "A month was archived before the export had read it, so the export was cut off. Repeat "
            "it: it will be without that month."
        ) from error
    except TimeoutError:
        if not limit.expired():
            raise
        raise TookTooLong(
            f"The export took more than {limit_s:g} s and was cut off: it must not keep the "
            "database from cleaning up. Export less at once, such as one month, or ask the "
            "operator to raise the limit."
        ) from None


async def _run(snapshot: Snapshot, wish: Wish, sink: Sink, pace: Pace, watch: Watcher) -> Progress:
    meter = _Meter(sink)
    where = await where_of(snapshot.connection, wish)
    parts = await snapshot.parts(wish.span)
    progress = Progress(months=len(parts))
    await meter.take(head_of(wish.format))
    for done, (table, whole) in enumerate(parts):
        part = whole
        while not part.empty:
            begun, waited_s = stopwatch(), meter.waited_s
            edge = await snapshot.edge(table, part, await pace.rows())
            turn = part if edge is None else part.up_to(edge)
            progress.rows += await _copy(
                snapshot.connection,
                rows_sql(table, turn, where, wish.format),
                meter,
                COPY_OPTIONS[wish.format],
            )
            await pace.rest(stopwatch() - begun - (meter.waited_s - waited_s))
            if edge is None:
                break
            part = part.after(edge)
            progress.months_done = done + _passed(whole, part)
            progress.bytes = meter.bytes
            watch(progress)
        progress.months_done = done + 1
        progress.bytes = meter.bytes
        watch(progress)
    await meter.take(end_of(wish.format, progress.rows))
    progress.bytes = meter.bytes
    watch(progress)
    return progress


class _Meter:
    """Hands bytes on, counts them, and measures how long their taker let us wait."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.bytes = 0
        self.waited_s = 0.0

    async def take(self, data: bytes) -> None:
        begun = stopwatch()
        await self._sink(data)
        self.waited_s += stopwatch() - begun
        self.bytes += len(data)


async def _copy(connection: Any, sql: str, meter: _Meter, options: dict[str, Any]) -> int:
    """Copy the rows of a statement to the meter's sink. Return how many they are."""
    tag: str = await connection.copy_from_query(sql, output=meter.take, **options)
    return int(tag.rpartition(" ")[2])


def _passed(whole: Span, left: Span) -> float:
    """Return which part of a span's time has been read."""
    return 1 - (left.below.int - left.floor.int) / (whole.below.int - whole.floor.int)
