"""Events about batches: written in the transaction that makes them true.

They stand in `events` with all others, so the feed, webhooks and `easypay events tail` have them.
There they have the batch's id in the place of a payment's: the events of one batch keep their
order. The batch as it was at that moment is kept beside them, in `batch_events`.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import clock, ids
from easypay.mode import Mode

TYPES: Final = (
    "batch.created",
    "batch.invalid",
    "batch.started",
    "batch.progress",
    "batch.paused",
    "batch.resumed",
    "batch.cancelled",
    "batch.done",
)
"""The types of all events about batches."""

_TELL: Final = """
    WITH told AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        VALUES ($1, $2, $3, $2, $4, $5, '', 0, '', $6)
    )
    INSERT INTO batch_events (merchant_id, batch_id, event_id, data) VALUES ($1, $3, $2, $7::json)
"""
OBJECTS: Final = """
    SELECT e.event_id, e.data
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS i(merchant_id, batch_id, event_id)
     CROSS JOIN LATERAL (
           SELECT * FROM batch_events
            WHERE merchant_id = i.merchant_id AND batch_id = i.batch_id
              AND event_id = i.event_id LIMIT 1) AS e
"""


def is_of_batch(event_type: str) -> bool:
    """Whether an event is about a batch, not about a payment."""
    return event_type.startswith("batch.")


async def tell(
    connection: Any, merchant_id: UUID, mode: Mode, batch_id: UUID, event_type: str, data: bytes
) -> None:
    """Write an event. `data` is the batch as JSON. Call it in the transaction that changes it."""
    await connection.execute(
        _TELL, merchant_id, ids.new_id(), batch_id, mode, event_type, clock.now(), data.decode()
    )


async def objects_of(runner: Any, events: Sequence[Any]) -> dict[UUID, msgspec.Raw]:
    """Return the batches, as JSON, of events about them (`events.pages.FeedEvent`) by the event's
    id, in one statement. Those of a batch that was purged are missing."""
    if not events:
        return {}
    rows = await runner.fetch(
        OBJECTS,
        [event.merchant_id for event in events],
        [event.payment_id for event in events],
        [event.id for event in events],
    )
    return {event_id: msgspec.Raw(data.encode()) for event_id, data in rows}
