"""The message that tells of an event: its type, its time and its object, as JSON.

`objects_of` is the one place that knows what the object is. The body of an event is the same at
every attempt and for every endpoint; only the time of the attempt and the signature differ.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.events.readers import tables_of
from easypay.payments.views import EVENT_VIEW_COLUMNS, event_view
from easypay.webhooks.model import Delivery

MOST_BYTES: Final = 20_000
"""Bytes of a message's body. What is longer carries only the ids, to be read from the API."""

EventKey = tuple[UUID, UUID]
"""Merchant and event."""
Objects = Mapping[EventKey, msgspec.Raw]


class Message(msgspec.Struct, frozen=True):
    """The body of a webhook."""

    type: str
    timestamp: str
    """When it happened."""
    id: str
    data: Any


class _Thin(msgspec.Struct, frozen=True):
    """The object of an event that is too large to be sent."""

    payment_id: str
    too_large: bool = True


_READ: Final = f"""
    SELECT e.merchant_id, {", ".join(f"e.{name}" for name in EVENT_VIEW_COLUMNS.split(", "))}
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS t(merchant_id, payment_id, event_id)
     CROSS JOIN LATERAL (SELECT * FROM {{events}} AS e
            WHERE e.merchant_id = t.merchant_id AND e.payment_id = t.payment_id
              AND e.id = t.event_id LIMIT 1) AS e
"""


def read_events(month: str) -> str:
    """Return the statement that reads events of a month (`2026_11`) and the one before; of all if
    it is empty."""
    return _READ.format(events=tables_of(month).events)


async def objects_of(lane: Any, month: str, deliveries: Sequence[Delivery]) -> Objects:
    """Return the objects of the events by their keys, for a whole group in one statement, or two
    if one is older than last month. An event of a month that was archived has none.

    `lane` runs `read_events`.
    """
    found: dict[EventKey, msgspec.Raw] = {}
    wanted = {(each.merchant_id, each.event_id): each for each in deliveries if each.data is None}
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
        for merchant_id, *row in rows:
            found[merchant_id, row[0]] = msgspec.Raw(msgspec.json.encode(event_view(row)))
    return found


def body_of(delivery: Delivery, data: msgspec.Raw) -> bytes:
    """Return the body of the message about an event, at most `MOST_BYTES` long."""
    message = Message(
        delivery.type,
        rfc3339(ids.moment_of(delivery.event_id)),
        message_id(delivery.event_id),
        data,
    )
    body = msgspec.json.encode(message)
    if len(body) <= MOST_BYTES:
        return body
    thin = _Thin(ids.typed(ids.PAYMENT, delivery.payment_id))
    return msgspec.json.encode(msgspec.structs.replace(message, data=thin))


def message_id(event_id: UUID) -> str:
    """Return the id of a message: the event's. It stays the same whenever it is sent."""
    return ids.typed(ids.EVENT, event_id)
