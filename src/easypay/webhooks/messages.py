"""The message that tells of an event: its type, its time and its payment after it, as JSON.

It has the fields that `GET /events` shows, and `timestamp`. The body about an event is the same at
every attempt and for every endpoint; only the time of the attempt and the signature differ.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.events.pages import FeedEvent
from easypay.events.readers import tables_of
from easypay.payments.event_objects import API_VERSION, FeedEventView, objects_of
from easypay.webhooks.model import Delivery

MOST_BYTES: Final = 20_000
"""Bytes of a message's body. If it would be longer, `data` is null, and the payment is to be read
from the API."""

EventKey = tuple[UUID, UUID]
"""Merchant and event."""
Views = Mapping[EventKey, FeedEventView]


class PaymentMessage(msgspec.Struct, frozen=True, gc=False):
    """The body of a message about a payment. `data` is the payment after the event."""

    type: str
    timestamp: str
    id: str
    api_version: str
    mode: str
    payment_id: str | None
    operation_id: str | None
    status: str | None
    amount: int | None
    currency: str | None
    data: Any


class OtherMessage(msgspec.Struct, frozen=True, gc=False):
    """The body of a message that is about no payment."""

    type: str
    timestamp: str
    id: str
    api_version: str
    mode: str
    data: msgspec.Raw


class ShownEvent(FeedEventView, frozen=True, gc=False):
    """An event as `GET /events` shows it, whose payment is kept as it is written there."""

    data: msgspec.Raw


_COLUMNS: Final = ", ".join(f"e.{name}" for name in FeedEvent.__struct_fields__[1:])
_READ: Final = f"""
    SELECT {_COLUMNS}
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS t(merchant_id, payment_id, event_id)
     CROSS JOIN LATERAL (SELECT * FROM {{events}} AS e
            WHERE e.merchant_id = t.merchant_id AND e.payment_id = t.payment_id
              AND e.id = t.event_id LIMIT 1) AS e
"""


def read_events(month: str) -> str:
    """Return the statement that reads events of a month (`2026_11`) and the one before; of all if
    it is empty."""
    return _READ.format(events=tables_of(month).events)


async def views_of(lane: Any, pool: Any, month: str, deliveries: Sequence[Delivery]) -> Views:
    """Return the events with their payments, by their keys: a few statements for a whole group.

    `lane` runs `read_events`. An event of a month that was archived is missing.
    """
    wanted = {(each.merchant_id, each.event_id): each for each in deliveries if each.data is None}
    found: dict[EventKey, FeedEvent] = {}
    for variant in (month, ""):
        missing = [each for key, each in wanted.items() if key not in found]
        if not missing:
            break
        rows = await lane.fetch(
            (
                [each.merchant_id for each in missing],
                [each.payment_id for each in missing],
                [each.event_id for each in missing],
            ),
            variant,
        )
        # The place in the stream is not shown.
        events = (FeedEvent(0, *row) for row in rows)
        found |= {(event.merchant_id, event.id): event for event in events}
    keys = sorted(found, key=lambda key: key[1])
    views = await objects_of(pool, [found[key] for key in keys])
    return dict(zip(keys, views, strict=True))


def body_of(delivery: Delivery, view: FeedEventView | None) -> bytes:
    """Return the body of the message about an event, at most `MOST_BYTES` long. `view` is the
    event; None if it is not in the feed."""
    if view is None:
        data = delivery.data or "null"
        return other_body(delivery.type, delivery.event_id, delivery.mode, data)
    return payment_body(view)


def other_body(event_type: str, event_id: UUID, mode: str, data: str) -> bytes:
    """Return the body of a message that is about no payment. `data` is its object as JSON."""
    return msgspec.json.encode(
        OtherMessage(
            type=event_type,
            timestamp=rfc3339(ids.moment_of(event_id)),
            id=message_id(event_id),
            api_version=API_VERSION,
            mode=mode,
            data=msgspec.Raw(data.encode()),
        )
    )


def payment_body(event: FeedEventView) -> bytes:
    """Return the body of the message about an event of the feed, at most `MOST_BYTES` long."""
    if event.payment_id is None:
        return _other_event_body(event)
    message = PaymentMessage(
        type=event.type,
        timestamp=event.created_at,
        id=event.id,
        api_version=event.api_version,
        mode=event.mode,
        payment_id=event.payment_id,
        operation_id=event.operation_id,
        status=event.status,
        amount=event.amount,
        currency=event.currency,
        data=event.data,
    )
    body = msgspec.json.encode(message)
    if len(body) <= MOST_BYTES:
        return body
    return msgspec.json.encode(msgspec.structs.replace(message, data=None))


def _other_event_body(event: FeedEventView) -> bytes:
    """Return the body of the message about an event of no payment."""
    message = OtherMessage(
        type=event.type,
        timestamp=event.created_at,
        id=event.id,
        api_version=event.api_version,
        mode=event.mode,
        data=msgspec.Raw(msgspec.json.encode(event.data)),
    )
    body = msgspec.json.encode(message)
    if len(body) <= MOST_BYTES:
        return body
    return msgspec.json.encode(msgspec.structs.replace(message, data=msgspec.Raw(b"null")))


def message_id(event_id: UUID) -> str:
    """Return the id of a message: the event's. It stays the same whenever it is sent."""
    return ids.typed(ids.EVENT, event_id)
