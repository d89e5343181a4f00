"""The newest events of all merchants, for the operator: `easypay events tail`. SQL only."""

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from easypay.db.partitions import within_months
from easypay.events.pages import FeedEvent

Runner = Any

_STEP: Final = 1_000
MOST_LOOKED_BACK: Final = 20_000
"""How many of the newest events are looked at for those that are wanted."""

_NEXT: Final = """
    SELECT f.seq, m.merchant_id, m.mode, f.event_id, f.payment_id
      FROM feed f JOIN streams m USING (stream)
     WHERE f.seq > $1 AND f.seq <= $1 + $2 ORDER BY f.seq
"""
_EVENTS: Final = """
    SELECT i.seq, e.merchant_id, e.mode, e.id, e.payment_id, e.operation_id, e.type, e.status,
           e.amount_minor, e.currency, e.created_at
      FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[])
           AS i(seq, merchant_id, event_id, payment_id)
     CROSS JOIN LATERAL (
           SELECT * FROM events e
            WHERE e.merchant_id = i.merchant_id AND e.payment_id = i.payment_id
              AND e.id = i.event_id AND {within} LIMIT 1) AS e
     ORDER BY i.seq
"""


async def newer(
    runner: Runner,
    after: int,
    head: int,
    *,
    merchant_id: UUID | None = None,
    types: Collection[str] = (),
) -> tuple[list[FeedEvent], int]:
    """Return the wanted events among the next thousand after a number of the feed, and the number
    up to which they were looked at. `position` of each is its number over all merchants."""
    until = min(after + _STEP, head)
    found = [
        (row[0], row[1], row[3], row[4])
        for row in map(tuple, await runner.fetch(_NEXT, after, until - after))
        if merchant_id in (None, row[1])
    ]
    if not found:
        return [], until
    columns = [list(column) for column in zip(*found, strict=True)]
    sql = _EVENTS.format(within=within_months("e.id", columns[2]))
    events = [FeedEvent(*row) for row in await runner.fetch(sql, *columns)]
    return [event for event in events if not types or event.type in types], until


async def latest(
    runner: Runner,
    head: int,
    most: int,
    *,
    merchant_id: UUID | None = None,
    types: Collection[str] = (),
) -> list[FeedEvent]:
    """Return the last `most` wanted events up to a number of the feed, oldest first."""
    found: list[FeedEvent] = []
    upper, lowest = head, max(0, head - MOST_LOOKED_BACK)
    while upper > lowest and len(found) < most:
        lower = max(lowest, upper - _STEP)
        part, _ = await newer(runner, lower, upper, merchant_id=merchant_id, types=types)
        found = part + found
        upper = lower
    return found[-most:]
