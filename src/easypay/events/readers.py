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

_POSITIONS: Final = "SELECT last_seq, ctid FROM feed_readers WHERE name = $1"
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
#
# The mark is looked for where it was put last, and if it is not there, by its name.
_MARK: Final = """mark AS MATERIALIZED (
        SELECT ctid AS row, version FROM feed_readers WHERE ctid = {place}::tid AND name = '{name}'
        UNION ALL SELECT ctid, version FROM feed_readers WHERE name = '{name}'
        LIMIT 1
    )"""
# $3 and $4: the places that the statement before has told.
_FOLLOW: Final = """
    WITH {mark}, taken AS (
        UPDATE feed_readers r SET last_seq = $2::bigint FROM mark
         WHERE r.ctid = mark.row AND r.name = '{name}' AND r.last_seq = $1::bigint
           AND r.version = mark.version
           AND NOT EXISTS (SELECT FROM feed WHERE seq > $1 AND seq <= $2 AND ({outside}))
        RETURNING r.last_seq, r.ctid AS row
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
    SELECT row, (SELECT places FROM places) FROM taken
"""
# Beside the numbering of new events: `found` are the events, `placed` the same with their places,
# `head` the numbers before and after. The caller has learned `$9` from a statement that was over,
# so this one sees all that was written of the events before. $10 and $11: places as above.
_AT_ONCE: Final = """, {mark}, taken AS (
        UPDATE feed_readers r SET last_seq = head.last_seq FROM head, mark
         WHERE r.ctid = mark.row AND r.name = '{name}' AND r.last_seq = $9::bigint
           AND r.version = mark.version AND head.before = $9
           AND head.last_seq - head.before <= {most}
           AND NOT EXISTS (SELECT FROM found WHERE {outside})
        RETURNING r.last_seq, r.ctid AS row
    ), happening AS (
        SELECT placed.* FROM taken CROSS JOIN placed
    ), {parts}"""
_PLANNED_FOR: Final = 500
_PLANNED_FOR_GOOD: Final = 1_000_000


Place = tuple[int, int]
"""Where a row lies in its table, as PostgreSQL's `ctid` says: the page, and the number there. Until
the row is changed nothing else is found there."""


class Places(msgspec.Struct, frozen=True, gc=False):
    """Where a reader's statement has put the rows that it changes again and again."""

    mark: Place | None = None
    others: Sequence[str | None] = ()
    """What the reader's own parts want to be given the next time. Nobody else reads it."""


UNKNOWN: Final = Places()


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
    stream, merchant_id, mode, payment_id, type, status, amount_minor and created_at. Their second
    argument is the parameter with what the statement before has left in `places`, the last part:
    one row with an array of texts of that name. It may be out of date, or empty.
    """

    name: str
    parts: Callable[[Tables, str], str]
    most: int

    def sql(self, tables: Tables) -> str:
        """Return the statement that reads the events after number `$1` up to number `$2`."""
        return _FOLLOW.format(
            mark=_MARK.format(place="$3", name=self.name),
            name=self.name,
            events=tables.events,
            outside=tables.outside,
            parts=self.parts(tables, "$4::text[]"),
        )

    def sql_at_once(self, tables: Tables) -> str:
        """Return what is added to the statement that numbers events, to read them, too."""
        return _AT_ONCE.format(
            mark=_MARK.format(place="$10", name=self.name),
            name=self.name,
            most=self.most,
            outside=tables.outside,
            parts=self.parts(tables, "$11::text[]"),
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

    def __init__(self, events: int = _PLANNED_FOR) -> None:
        self._planned_for = self._left = events

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

    def __init__(
        self, reader: Reader, dsn: str, *, limit_s: float, plan: PlanAge | None = None
    ) -> None:
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
        self.places = UNKNOWN
        self._plan = plan or PlanAge()

    async def catch_up(self, runner: Runner, head: int) -> None:
        """Read up to the number `head`. Stops early if nothing moves: the next look tries again."""
        if self.position is None:
            await self._find(runner)
        assert self.position is not None
        while self.position < head:
            until = min(head, self.position + self.reader.most)
            if self._plan.is_over(until - self.position):
                await self._lane.close()
            if not await self._read(self.position, until):
                before = self.position
                await self._find(runner)
                if self.position == before:
                    return
                continue
            self.position = until

    async def _find(self, runner: Runner) -> None:
        self.position, place = await runner.fetchrow(_POSITIONS, self.reader.name)
        self.places = msgspec.structs.replace(self.places, mark=place)

    async def _read(self, position: int, until: int) -> bool:
        """Whether the events after `position` were read, by this process and now."""
        for month in (f"{clock.now():%Y_%m}", ""):
            given = (position, until, self.places.mark, self.places.others)
            if rows := await self._lane.fetch(given, month):
                self.places = Places(*rows[0])
                return True
        return False

    async def close(self) -> None:
        """Forget where it was, and close the connection."""
        self.position, self.places = None, UNKNOWN
        await self._lane.close()


async def any_of(runner: Runner, names: Sequence[str]) -> bool:
    """Whether the feed has any of these readers."""
    found: bool = await runner.fetchval(_ANY_OF, list(names))
    return found


async def head(runner: Runner) -> int:
    """Return the number of the newest event of the feed."""
    found: int = await runner.fetchval(_HEAD)
    return found
