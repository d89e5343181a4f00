"""Events about customers and stored methods: written in the transaction that makes them true.

They stand in `events` with all others, so the feed, webhooks and `easypay events tail` have them.
There they have the customer's id in the place of a payment's: the events of one customer keep their
order. Their object is kept beside them, in `customer_events`, as it was at that moment.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import clock, ids
from easypay.customers.views import StoredCustomerView, StoredMethodView, object_of
from easypay.mode import Mode

Runner = Any

CUSTOMER_CREATED: Final = "customer.created"
CUSTOMER_UPDATED: Final = "customer.updated"
CUSTOMER_DELETED: Final = "customer.deleted"
CUSTOMER_ERASED: Final = "customer.erased"
METHOD_CREATED: Final = "payment_method.created"
METHOD_UPDATED: Final = "payment_method.updated"
METHOD_EXPIRING: Final = "payment_method.expiring"
METHOD_DELETED: Final = "payment_method.deleted"
TYPES: Final = (
    CUSTOMER_CREATED,
    CUSTOMER_UPDATED,
    CUSTOMER_DELETED,
    CUSTOMER_ERASED,
    METHOD_CREATED,
    METHOD_UPDATED,
    METHOD_EXPIRING,
    METHOD_DELETED,
)
"""The types of all events about customers."""

_TELL: Final = """
    WITH told AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        VALUES ($1, $2, $3, $2, $4, $5, '', 0, '', $6)
    )
    INSERT INTO customer_events (merchant_id, mode, customer_id, event_id, data)
    VALUES ($1, $4, $3, $2, $7::jsonb)
"""
OBJECTS: Final = """
    SELECT e.event_id, e.data
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS i(merchant_id, customer_id, event_id)
     CROSS JOIN LATERAL (
           SELECT * FROM customer_events
            WHERE merchant_id = i.merchant_id AND customer_id = i.customer_id
              AND event_id = i.event_id LIMIT 1) AS e
"""


def is_of_customer(event_type: str) -> bool:
    """Whether an event is about a customer or a stored method, not about a payment."""
    return event_type.startswith(("customer.", "payment_method."))


async def tell(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    customer_id: UUID,
    event_type: str,
    view: StoredCustomerView | StoredMethodView,
) -> None:
    """Write an event. Call it in the transaction that makes the change."""
    await connection.execute(
        _TELL,
        merchant_id,
        ids.new_id(),
        customer_id,
        mode,
        event_type,
        clock.now(),
        msgspec.json.encode(view).decode(),
    )


async def objects_of(
    runner: Runner, events: Sequence[Any]
) -> dict[UUID, StoredCustomerView | StoredMethodView | None]:
    """Return the objects of events about customers (`events.pages.FeedEvent`) by the event's id, in
    one statement. One that was erased is None."""
    if not events:
        return {}
    types = {event.id: event.type for event in events}
    rows: Collection[Any] = await runner.fetch(
        OBJECTS,
        [event.merchant_id for event in events],
        [event.payment_id for event in events],
        [event.id for event in events],
    )
    return {row[0]: object_of(types[row[0]], row[1]) for row in rows}
