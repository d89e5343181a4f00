"""What follows the feed: each reader folds events into a table of its own, in their order.

A reader is one statement. `$1` is the number of the last event it has read, `$2` of the last to
read now. It moves its row of `feed_readers` from `$1` to `$2`, writes what follows from the events
between them, and returns a row; or does nothing if another process was quicker. So each event is
folded exactly once, whoever dies when. A reader that is not behind is part of the statement that
numbers the events (numbering.py).

Reading through all months' tables costs a millisecond for every ten years of them, however few
events there are. So a reader's statement is first run on the tables of this month and the last. It
does nothing if an event or its payment lies in another month; then it is run on all of them.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from easypay import clock, ids
from easypay.db.connections import Lane
from easypay.db.partitions import month_start

Runner = Any

_POSITIONS: Final = "SELECT last_seq FROM feed_readers WHERE name = $1"
_ANY_OF: Final = "SELECT EXISTS (SELECT FROM feed_readers WHERE name = ANY ($1::text[]))"
_HEAD: Final = "SELECT last_seq FROM feed_head"
_OUTSIDE: Final = """payment_id < '{low}' OR payment_id >= '{high}'
                       OR event_id < '{low}' OR event_id >= '{high}'"""
# Every look-up is by key, for each event: the lane joins in no other way. A LIMIT keeps the whole
# key in each of them: a plan that was made for empty tables has to serve full ones.
#
# The mark's version is read by the statement's snapshot, and compared with the row as it is when
# it is locked. If somebody changed what the reader relies on in between, nothing is written, and
# the caller asks again: its next statement sees the change.
_FOLLOW: Final = """
    WITH taken AS (
        UPDATE feed_readers SET last_seq = $2::bigint
         WHERE name = '{name}' AND last_seq = $1::bigint
           AND version = (SELECT r.version FROM feed_readers r WHERE r.name = '{name}')
           AND NOT EXISTS (SELECT FROM feed WHERE seq > $1 AND seq <= $2 AND ({outside}))
        RETURNING last_seq
    ), happening AS (
        SELECT f.stream, m.merchant_id, m.mode, f.payment_id, e.type, e.status, e.amount_minor,
               e.created_at
          FROM taken CROSS JOIN feed f
         CROSS JOIN LATERAL (SELECT * FROM streams WHERE stream = f.stream LIMIT 1) AS m
         CROSS JOIN LATERAL (
               SELECT * FROM {events} AS e
                WHERE e.merchant_id = m.merchant_id AND e.payment_id = f.payment_id
                  AND e.id = f.event_id LIMIT 1) AS e
         WHERE f.seq > $1 AND f.seq <= $2
    ), {parts}
    SELECT last_seq FROM taken
"""
# Beside the numbering of new events: `found` are the events, `placed` the same with their places,
# `head` the numbers before and after. The caller has learned `$7` from a statement that was over,
# so this one sees all that was written of the events before.
_AT_ONCE: Final = """, taken AS (
        UPDATE feed_readers r SET last_seq = head.last_seq FROM head
         WHERE r.name = '{name}' AND r.last_seq = $7::bigint AND head.before = $7
           AND r.version = (SELECT r.version FROM feed_readers r WHERE r.name = '{name}')
           AND head.last_seq - head.before <= {most}
           AND NOT EXISTS (SELECT FROM found WHERE {outside})
        RETURNING r.last_seq
    ), happening AS (
        SELECT placed.* FROM taken CROSS JOIN placed
    ), {parts}"""
_PLANNED_FOR: Final = 500
_PLANNED_FOR_GOOD: Final = 1_000_000


class Tables(msgspec.Struct, frozen=True):
    """What a reader's statement reads: the events and payments of some months, or of all.

    `outside` is the condition that one of the ids `payment_id` and `event_id` lies in none of them.
    """

    events: str
    payments: str
    outside: str


class Reader(msgspec.Struct, frozen=True):
    """A reader's name in `feed_readers`, the parts of its statement for some tables, and the most
    events of one statement.

    The parts are common table expressions. They take the events from `happening`, whose columns are
    stream, merchant_id, mode, payment_id, type, status, amount_minor and created_at.
    """

    name: str
    parts: Callable[[Tables], str]
    most: int

    def sql(self, tables: Tables) -> str:
        """Return the statement that reads the events after number `$1` up to number `$2`."""
        return _FOLLOW.format(
            name=self.name,
            events=tables.events,
            outside=tables.outside,
            parts=self.parts(tables),
        )

    def sql_at_once(self, tables: Tables) -> str:
        """Return what is added to the statement that numbers events, to read them, too."""
        return _AT_ONCE.format(
            name=self.name, most=self.most, outside=tables.outside, parts=self.parts(tables)
        )


def tables_of(month: str) -> Tables:
    """Return the tables of a month (`2026_11`) and the one before; all tables if it is empty.

    The month itself is first: nearly every look-up ends there.
    """
    if not month:
        return Tables("events", "payments", "false")
    present = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    last = month_start(present, -1)
    low, high = ids.lowest_id_at(last), ids.lowest_id_at(month_start(present, 1))
    events, payments = (
        "(" + " UNION ALL ".join(f"SELECT * FROM {table}_{m:%Y_%m}" for m in (present, last)) + ")"
        for table in ("events", "payments")
    )
    return Tables(events, payments, _OUTSIDE.format(low=low, high=high))


class PlanAge:
    """Tells when a statement is to be planned again: after 500 events, then after 1,000 more, 2,000
    more and so on. Among several indexes the right one shows only as the tables grow."""

    def __init__(self) -> None:
        self._planned_for = self._left = _PLANNED_FOR

    def is_over(self, events: int) -> bool:
        """Whether the plan is too old for so many events more. If so, a new age begins."""
        self._left -= events
        if self._left > 0 or self._planned_for > _PLANNED_FOR_GOOD:
            return False
        self._planned_for *= 2
        self._left = self._planned_for
        return True


class Follower:
    """Runs one reader's statement over a connection of its own."""

    def __init__(self, reader: Reader, dsn: str, *, limit_s: float) -> None:
        self.reader = reader
        self._lane = Lane(
            dsn,
            f"feed {reader.name}",
            lambda month: reader.sql(tables_of(month)),
            lookups=True,
            limit_s=limit_s,
        )
        self.position: int | None = None
        """The number of the last event that was read; None if it is not known here."""
        self._plan = PlanAge()

    async def catch_up(self, runner: Runner, head: int) -> None:
        """Read up to the number `head`. Stops early if nothing moves: the next look tries again."""
        if self.position is None:
            self.position = await runner.fetchval(_POSITIONS, self.reader.name)
        while self.position < head:
            until = min(head, self.position + self.reader.most)
            if self._plan.is_over(until - self.position):
                await self._lane.close()
            if not await self._read(self.position, until):
                before = self.position
                self.position = await runner.fetchval(_POSITIONS, self.reader.name)
                if self.position == before:
                    return
                continue
            self.position = until

    async def _read(self, position: int, until: int) -> bool:
        """Whether the events after `position` were read, by this process and now."""
        for month in (f"{clock.now():%Y_%m}", ""):
            if await self._lane.fetch((position, until), month):
                return True
        return False

    async def close(self) -> None:
        """Forget where it was, and close the connection."""
        self.position = None
        await self._lane.close()


async def any_of(runner: Runner, names: Sequence[str]) -> bool:
    """Whether the feed has any of these readers."""
    found: bool = await runner.fetchval(_ANY_OF, list(names))
    return found


async def head(runner: Runner) -> int:
    """Return the number of the newest event of the feed."""
    found: int = await runner.fetchval(_HEAD)
    return found
