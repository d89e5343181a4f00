"""What follows the feed: each reader folds events into a table of its own, in their order.

A reader is one statement. `$1` is the number of the last event it has read, `$2` of the last to
read now. It moves its row of `feed_readers` from `$1` to `$2`, writes what follows from the events
between them, and returns a row; or does nothing if another process was quicker. So each event is
folded exactly once, whoever dies when.

Reading through all months' tables costs a millisecond for every ten years of them, however few
events there are. So a reader's statement is first run on the tables of this month and the last. It
does nothing if an event or its payment lies in another month; then it is run on all of them.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from easypay import clock, ids
from easypay.db.connections import Lane
from easypay.db.partitions import month_start

Runner = Any

_POSITIONS: Final = "SELECT last_seq FROM feed_readers WHERE name = $1"
_HEAD: Final = "SELECT last_seq FROM feed_head"
_WITHIN: Final = """NOT EXISTS (
               SELECT FROM feed WHERE seq > $1 AND seq <= $2
                  AND (payment_id < '{low}' OR payment_id >= '{high}'
                       OR event_id < '{low}' OR event_id >= '{high}'))"""
_PLANNED_FOR: Final = 500
_PLANNED_FOR_GOOD: Final = 1_000_000


class Tables(msgspec.Struct, frozen=True):
    """What a reader's statement reads: the events and payments of some months, or of all.

    `within` is the condition that all ids between `$1` and `$2` lie in these months.
    """

    events: str
    payments: str
    within: str


class Reader(msgspec.Struct, frozen=True):
    """A reader's name in `feed_readers`, its statement for some tables, and the most events of one
    statement."""

    name: str
    sql: Callable[[Tables], str]
    most: int


def tables_of(month: str) -> Tables:
    """Return the tables of a month (`2026_11`) and the one before; all tables if it is empty.

    The month itself is first: nearly every look-up ends there.
    """
    if not month:
        return Tables("events", "payments", "true")
    present = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    last = month_start(present, -1)
    low, high = ids.lowest_id_at(last), ids.lowest_id_at(month_start(present, 1))
    events, payments = (
        "(" + " UNION ALL ".join(f"SELECT * FROM {table}_{m:%Y_%m}" for m in (present, last)) + ")"
        for table in ("events", "payments")
    )
    return Tables(events, payments, _WITHIN.format(low=low, high=high))


class Follower:
    """Runs one reader's statement over a connection of its own."""

    def __init__(self, reader: Reader, dsn: str, *, limit_s: float) -> None:
        self.name = reader.name
        self._most = reader.most
        self._lane = Lane(
            dsn,
            f"feed {reader.name}",
            lambda month: reader.sql(tables_of(month)),
            lookups=True,
            limit_s=limit_s,
        )
        self._position: int | None = None
        self._planned_for = self._left = _PLANNED_FOR

    async def catch_up(self, runner: Runner, head: int) -> None:
        """Read up to the number `head`. Stops early if nothing moves: the next look tries again."""
        if self._position is None:
            self._position = await runner.fetchval(_POSITIONS, self.name)
        while self._position < head:
            until = min(head, self._position + self._most)
            await self._plan_anew(until - self._position)
            if not await self._read(self._position, until):
                before = self._position
                self._position = await runner.fetchval(_POSITIONS, self.name)
                if self._position == before:
                    return
                continue
            self._position = until

    async def _plan_anew(self, events: int) -> None:
        """Have the statement planned again after 500 events, then after 1,000 more, 2,000 more and
        so on: among several indexes the right one shows only as the tables grow."""
        self._left -= events
        if self._left <= 0 and self._planned_for <= _PLANNED_FOR_GOOD:
            await self._lane.close()
            self._planned_for *= 2
            self._left = self._planned_for

    async def _read(self, position: int, until: int) -> bool:
        """Whether the events after `position` were read, by this process and now."""
        for month in (f"{clock.now():%Y_%m}", ""):
            if await self._lane.fetch((position, until), month):
                return True
        return False

    async def close(self) -> None:
        """Forget where it was, and close the connection."""
        self._position = None
        await self._lane.close()


async def head(runner: Runner) -> int:
    """Return the number of the newest event of the feed."""
    found: int = await runner.fetchval(_HEAD)
    return found
