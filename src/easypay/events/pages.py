"""Reading one stream of the feed: the events of a merchant and mode, by their positions. SQL only.

Positions are given after the commit and never change, so whoever follows them misses nothing that
commits late. A failover to a standby that lagged can take back the newest positions, and give them
to other events. So a reader remembers the id of its last event: if another event stands at its
position, it reads again from some time before. Then it may get events twice, but misses none.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.db.partitions import within_months

Runner = Any

MOST_LOOKED_AT: Final = 1000
"""How many events one read looks at for those of the wanted types."""
_GOES_BACK: Final = timedelta(minutes=10)
"""How much older than its last event a reader starts again. No commit waits that long."""
_MOST_GONE_BACK: Final = 100_000

_STREAM: Final = "SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2"
_HEAD: Final = """
    SELECT position, event_id FROM feed WHERE stream = $1 ORDER BY position DESC LIMIT 1
"""
_AT: Final = """
    SELECT (SELECT event_id FROM feed WHERE stream = $1 AND position = $2), position, event_id
      FROM feed WHERE stream = $1 ORDER BY position DESC LIMIT 1
"""
_BEFORE: Final = f"""
    SELECT min(position) FROM (
        SELECT position, event_id FROM feed WHERE stream = $1 AND position <= $2
         ORDER BY position DESC LIMIT {_MOST_GONE_BACK}) AS latest
     WHERE event_id >= $3
"""
_NEXT: Final = """
    SELECT position, event_id, payment_id FROM feed
     WHERE stream = $1 AND position > $2 ORDER BY position LIMIT $3
"""
# By its whole key, each: of an archived month there is nothing to find.
_EVENTS: Final = """
    SELECT i.position, e.merchant_id, e.mode, e.id, e.payment_id, e.operation_id, e.type, e.status,
           e.amount_minor, e.currency, e.created_at
      FROM unnest($2::bigint[], $3::uuid[], $4::uuid[]) AS i(position, event_id, payment_id)
     CROSS JOIN LATERAL (
           SELECT * FROM events e
            WHERE e.merchant_id = $1 AND e.payment_id = i.payment_id AND e.id = i.event_id
              AND {within} LIMIT 1) AS e
     ORDER BY i.position
"""


class FeedEvent(msgspec.Struct, frozen=True):
    """An event with its place in its merchant's stream."""

    position: int
    merchant_id: UUID
    mode: str
    id: UUID
    payment_id: UUID
    operation_id: UUID
    type: str
    status: str
    amount_minor: int
    currency: str
    created_at: datetime


class Place(msgspec.Struct, frozen=True):
    """How far a reader has come: the position and the id of the last event it has looked at."""

    position: int = 0
    event_id: UUID = UUID(int=0)


class FeedPage(msgspec.Struct, frozen=True):
    """Events in the order of their positions, and where the next read begins. `more`: there may be
    more already."""

    events: list[FeedEvent]
    after: Place
    more: bool


async def stream_of(runner: Runner, merchant_id: UUID, mode: str) -> int | None:
    """Return the number of a merchant's stream; None before its first event. It never changes."""
    stream: int | None = await runner.fetchval(_STREAM, merchant_id, mode)
    return stream


async def newest(runner: Runner, stream: int) -> Place:
    """Return the place after the newest event."""
    row = await runner.fetchrow(_HEAD, stream)
    return Place() if row is None else Place(*row)


async def checked(runner: Runner, stream: int, place: Place) -> Place:
    """Return the place from which a reader misses nothing: its own, unless the feed went back."""
    if place.position == 0:
        return place
    row = await runner.fetchrow(_AT, stream, place.position)
    if row is None:
        return Place()
    there, *newest = tuple(row)
    last = Place(*newest)
    if there == place.event_id or (there is None and place.position <= last.position):
        return place
    since = ids.lowest_id_at(ids.moment_of(place.event_id) - _GOES_BACK)
    first = await runner.fetchval(_BEFORE, stream, place.position, since)
    if first is not None:
        return Place(first - 1)
    # All that is left up to there is older. The place has an event's id again: the next look would
    # take any other for a feed that went back once more.
    return last if there is None else Place(place.position, there)


async def read(
    runner: Runner,
    merchant_id: UUID,
    stream: int,
    place: Place,
    *,
    limit: int,
    types: Collection[str] = (),
) -> FeedPage:
    """Return at most `limit` events after a place, of some types or of all.

    With types it looks at no more than MOST_LOOKED_AT events, so a page may be short or empty
    although there are more.
    """
    look_at = MOST_LOOKED_AT if types else limit
    found = [tuple(row) for row in await runner.fetch(_NEXT, stream, place.position, look_at)]
    if not found:
        return FeedPage([], place, more=False)
    events = await _events(runner, merchant_id, found)
    wanted = [event for event in events if not types or event.type in types]
    if len(wanted) > limit:
        last = wanted[limit - 1]
        return FeedPage(wanted[:limit], Place(last.position, last.id), more=True)
    position, event_id, _ = found[-1]
    return FeedPage(wanted, Place(position, event_id), more=len(found) == look_at)


async def _events(runner: Runner, merchant_id: UUID, found: Sequence[Any]) -> list[FeedEvent]:
    positions, event_ids, payment_ids = zip(*found, strict=True)
    sql = _EVENTS.format(within=within_months("e.id", event_ids))
    rows = await runner.fetch(sql, merchant_id, list(positions), list(event_ids), list(payment_ids))
    return [FeedEvent(*row) for row in rows]
