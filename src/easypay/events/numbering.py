"""Gives every event its place in the feed, after its transaction has committed. SQL only.

Ids are made before they commit, so a reader that follows ids misses what commits late. Here each
event gets two numbers once it is committed: `seq` over all merchants, and `position` for its
merchant and mode, 1, 2, 3 and so on. Neither changes afterwards, and nothing is ever put before
what a reader has seen.

New events are found by their transactions. Each month's table has its own mark: all
transactions below `read_below` have been read, except those that were still open then. So a
transaction that stays open for an hour is found when it ends, without reading the hour again. The
mark moves in the statement that numbers the events: either both are kept or neither.

What one look finds is put in the order of its transactions, since the clocks in ids differ: of two
events of a payment, the transaction of the second begins after that of the first has ended.

If the reader of the feed has read all that came before, it reads the new events in the same
statement: what it needs of them was just found, and is not looked up again.

A mark changes at every look. While a transaction elsewhere may still see its old versions, a search
by its key walks over all of them. So each statement tells at which place of the table it has put
the marks, and then the next one looks there first. A place that is out of date finds nothing, and
the mark is looked for by its key. While there is no such transaction keys are better: a search by
key lets PostgreSQL remove old versions on its way, so that new ones need no new page.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg
import msgspec

from easypay.events.readers import UNKNOWN, Place, Places, Reader, tables_of

Runner = Any

_EVERYTHING: Final = 1 << 61
_STREAM_ONCE: Final = "stream_once"
_NO_VERSION: Final = -1
"""The version of no mark: a statement that is given it writes nothing."""

# What one statement sees is one snapshot: the events of every transaction that had ended, and
# which were still open. Events of transactions above the snapshot are invisible, except in a
# database that was restored from a dump: `until` leaves those out, too.
#
# If there are more events than fit, nothing is written, and the caller asks for fewer transactions.
#
# $7 and $8: where the mark and the head were put last. If another process moves the head in this
# moment, its new place is not known: then the events have no number, and as `seq` is never null,
# the whole statement fails.
NUMBER_EVENTS: Final = """
    WITH seen AS MATERIALIZED (
        SELECT least(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, $2::bigint + $4::bigint)
            AS until
    ), found AS MATERIALIZED (
        SELECT e.merchant_id, e.mode, e.id AS event_id, e.payment_id, e.type, e.status,
               e.amount_minor, e.created_at, {turn} AS turn
          FROM {events} e, seen
         WHERE {new} AND e.written_by < seen.until::text::xid8
         LIMIT $5::bigint + 1
    ), counted AS MATERIALIZED (
        SELECT count(*) AS events, min(created_at) AS oldest FROM found
    ), moved AS (
        UPDATE feed_months
           SET read_below = until, version = version + 1, still_open = ARRAY(
               SELECT x::text::bigint FROM pg_snapshot_xip(pg_current_snapshot()) AS x
                WHERE x::text::bigint < until)
          FROM seen, counted, (
               SELECT ctid AS row FROM feed_months WHERE ctid = $7::tid AND month = $1
               UNION ALL SELECT ctid FROM feed_months WHERE month = $1 LIMIT 1) AS place
         WHERE feed_months.ctid = place.row AND version = $6 AND events <= $5
        RETURNING read_below, still_open, version, feed_months.ctid AS row
    ), head AS (
        UPDATE feed_head h SET last_seq = h.last_seq + events
          FROM moved, counted, (
               SELECT ctid AS row FROM feed_head WHERE ctid = $8::tid
               UNION ALL SELECT ctid FROM feed_head LIMIT 1) AS place
         WHERE events > 0 AND h.ctid = place.row
        RETURNING h.last_seq - events AS before, h.last_seq, h.ctid AS row
    ), grouped AS MATERIALIZED (
        SELECT (SELECT stream FROM streams
                 WHERE merchant_id = g.merchant_id AND mode = g.mode LIMIT 1) AS stream, g.*
          FROM (SELECT merchant_id, mode, array_agg(event_id ORDER BY turn, event_id) AS events,
                       array_agg(payment_id ORDER BY turn, event_id) AS payments,
                       array_agg(turn ORDER BY turn, event_id) AS turns{kept}
                  FROM found GROUP BY merchant_id, mode) AS g
    ), begun AS (
        INSERT INTO streams (merchant_id, mode)
        SELECT merchant_id, mode FROM grouped WHERE stream IS NULL
        RETURNING stream, merchant_id, mode
    ), placed AS {materialized} (
        SELECT head.before + row_number() OVER (ORDER BY each.turn, each.event_id) AS seq, s.stream,
               coalesce(last.position, 0) + each.n AS position, g.merchant_id, g.mode, each.*
          FROM moved LEFT JOIN head ON true CROSS JOIN grouped g
         CROSS JOIN LATERAL (SELECT coalesce(g.stream, (
               SELECT b.stream FROM begun b
                WHERE b.merchant_id = g.merchant_id AND b.mode = g.mode)) AS stream) AS s
          LEFT JOIN LATERAL (
               SELECT f.position FROM feed f WHERE f.stream = s.stream
                ORDER BY f.position DESC LIMIT 1) AS last ON true
         CROSS JOIN LATERAL unnest(g.events, g.payments, g.turns{unnested})
               WITH ORDINALITY AS each(event_id, payment_id, turn{names}, n)
    ), numbered AS (
        INSERT INTO feed (seq, stream, position, event_id, payment_id)
        SELECT seq, stream, position, event_id, payment_id FROM placed
    ){reading}
    SELECT events, extract(epoch FROM db_now() - oldest)::float8,
           moved.read_below, moved.still_open, moved.version, moved.row,
           (SELECT row FROM head), {read}
      FROM counted LEFT JOIN moved ON true
"""
_ALONE: Final = dict.fromkeys(("kept", "unnested", "names", "reading"), "") | {
    "materialized": "NOT MATERIALIZED",
    "read": "NULL::tid, NULL::text[]",
}
"""What fills the gaps of NUMBER_EVENTS if nobody reads the events in the same statement."""
_KEPT: Final = ("type", "status", "amount_minor", "created_at")
"""What a reader gets of an event besides its ids."""
_READ_AT_ONCE: Final = {
    "materialized": "MATERIALIZED",
    "kept": "".join(f", array_agg({name} ORDER BY turn, event_id) AS {name}_of" for name in _KEPT),
    "unnested": "".join(f", g.{name}_of" for name in _KEPT),
    "names": "".join(f", {name}" for name in _KEPT),
    "read": "(SELECT row FROM taken), (SELECT places FROM places)",
}
_TURN: Final = "e.written_by"
_NO_TURN: Final = "'3'::xid8"
"""In a database that was restored the transactions of events say nothing about their order."""
_NEW: Final = """
               ((e.written_by::text::bigint >= $2 AND e.written_by::text::bigint < $2 + $4)
                OR e.written_by::text::bigint = ANY ($3::bigint[]))"""

# In a database that was restored from a dump, transactions have numbers of another server. Those
# that are still to come here become ones that have long ended, so that none is read again when
# this server's own numbers get there.
_RESTORED: Final = """
    SELECT EXISTS (SELECT FROM feed_months
                    WHERE read_below > pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
"""
_FORGET_TRANSACTIONS: Final = """
    UPDATE {events} SET written_by = '3'
     WHERE written_by::text::bigint >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""
_NOT_IN_FEED: Final = """
               $3::bigint[] IS NOT NULL AND NOT EXISTS (
                   SELECT FROM feed f WHERE f.event_id = e.id)"""

# A look that numbers nothing is itself the transaction `read_below`, so that is no news.
IS_ANY_NEW: Final = """
    SELECT pg_snapshot_xmax(s)::text::bigint > $1::bigint + 1
        OR NOT $2::bigint[] <@ ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(s) AS x)
      FROM pg_current_snapshot() AS s
"""
"""Whether a transaction has ended that the mark `$1` with those still open `$2` does not cover.
Reads no table."""
PEEK: Final = "peek"
"""The variant of a lane that runs IS_ANY_NEW."""

_MONTHS: Final = """
    SELECT month, read_below, still_open, version, ctid FROM feed_months ORDER BY month
"""
_ADD_MONTHS: Final = """
    INSERT INTO feed_months (month)
    SELECT substr(c.relname, length('events_') + 1)
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'events'::regclass
    ON CONFLICT DO NOTHING
"""
_GONE_MONTHS: Final = """
    DELETE FROM feed_months WHERE to_regclass('events_' || month) IS NULL
"""
_CAUGHT_UP: Final = "UPDATE feed_head SET caught_up = true WHERE NOT caught_up"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """How far a month's events have been read: one row of `feed_months`, and its place there."""

    month: str
    read_below: int
    still_open: Sequence[int]
    version: int
    row: Place | None = None


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """What one statement did. `mark` is None if it wrote nothing: another process has moved the
    mark, or there were more events than `most`. `head`: the place of the feed's head, if it moved.
    `read`: the places of what the reader wrote, if it has read the events, too."""

    events: int
    behind_s: float
    """The age of the oldest of these events, in seconds by the database's clock; 0 if none."""
    mark: Mark | None
    head: Place | None = None
    read: Places | None = None


async def marks(runner: Runner) -> list[Mark]:
    """Return the marks of all months, after making those of new months."""
    await runner.execute(_ADD_MONTHS)
    await runner.execute(_GONE_MONTHS)
    return [Mark(*row) for row in await runner.fetch(_MONTHS)]


def in_month(month: str) -> str:
    """Return the statement for one month's table of events; for no month, one that finds none."""
    table = f"events_{month}" if month else "(SELECT * FROM events_default WHERE false)"
    return NUMBER_EVENTS.format(events=table, new=_NEW, turn=_TURN, **_ALONE)


def and_read(month: str, reader: Reader) -> str:
    """Return the statement that numbers a month's events and has a reader read them, too, if the
    last one that it has read is the last one that had a number, `$9`."""
    reading = reader.sql_at_once(tables_of("" if month == "default" else month))
    return NUMBER_EVENTS.format(
        events=f"events_{month}", new=_NEW, turn=_TURN, reading=reading, **_READ_AT_ONCE
    )


async def number(
    lane: Any,
    mark: Mark,
    *,
    transactions: int,
    most: int,
    head: Place | None = None,
    read_to: int | None = None,
    places: Places = UNKNOWN,
    by_place: bool = True,
) -> Numbered:
    """Number the events of at most `transactions` transactions, if they are at most `most`.

    `lane` runs `in_month` statements, as `db.connections.Lane` does. With `read_to`, up to which
    the reader has read, it runs the `and_read` statement of the variant `<month> read`. `head` and
    `places`: what the statements before have told, if it is known; used only if `by_place`.
    """
    if not by_place:
        mark, head, places = msgspec.structs.replace(mark, row=None), None, UNKNOWN
    arguments = (*_arguments(mark, transactions, most), head)
    try:
        if read_to is None:
            (row,) = await lane.fetch(arguments, mark.month)
        else:
            given = (*arguments, read_to, places.mark, places.others)
            (row,) = await lane.fetch(given, f"{mark.month} read")
    except asyncpg.NotNullViolationError:  # another process moved the head in this moment
        return Numbered(0, 0.0, None)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _STREAM_ONCE:
            raise
        return Numbered(0, 0.0, None)  # another process has begun a stream in this moment
    events, behind_s, read_below, still_open, version, moved_to, head, reader, others = row
    moved = None if version is None else Mark(mark.month, read_below, still_open, version, moved_to)
    read = None if reader is None else Places(reader, others)
    return Numbered(events, behind_s or 0.0, moved, head, read)


def _arguments(mark: Mark, transactions: int, most: int) -> tuple[object, ...]:
    known = (mark.month, mark.read_below, mark.still_open)
    return *known, transactions, most, mark.version, mark.row


async def plan(lane: Any, mark: Mark, read_to: int) -> None:
    """Connect a lane, and have its two statements of a month planned. Numbers nothing. Leaves out
    what cannot be run: that with a reader also needs the month before."""
    none = msgspec.structs.replace(mark, still_open=(), version=_NO_VERSION)
    with suppress(asyncpg.UndefinedTableError):
        await number(lane, none, transactions=0, most=0)
        await number(lane, none, transactions=0, most=0, read_to=read_to)


async def is_any_new(lane: Any, mark: Mark) -> bool:
    """Whether any transaction has ended that the mark does not cover, whatever it wrote.

    `lane` runs IS_ANY_NEW as its variant PEEK.
    """
    ((new,),) = await lane.fetch((mark.read_below, mark.still_open), PEEK)
    return bool(new)


async def note_caught_up(runner: Runner) -> None:
    """Note that all months are read, so that only the newest events can have no number."""
    await runner.execute(_CAUGHT_UP)


async def is_restored(runner: Runner) -> bool:
    """Whether the marks are of another server: the database was restored from a dump."""
    restored: bool = await runner.fetchval(_RESTORED)
    return restored


async def adopt(connection: Any, mark: Mark) -> int:
    """Number what a restored month's table holds and the feed does not, and set its mark again.

    Reads all of the month once. Returns how many events were numbered.
    """
    events = f"events_{mark.month}"
    statement = NUMBER_EVENTS.format(events=events, new=_NOT_IN_FEED, turn=_NO_TURN, **_ALONE)
    async with connection.transaction():
        await connection.execute(_FORGET_TRANSACTIONS.format(events=events))
        everything = msgspec.structs.replace(mark, read_below=0, still_open=[])
        row = await connection.fetchrow(
            statement, *_arguments(everything, _EVERYTHING, _EVERYTHING), None
        )
    numbered: int = row[0]
    return numbered
