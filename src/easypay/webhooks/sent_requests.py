"""What an attempt sent: its headers and its body, made again from the event.

They are not stored: the body of an event is the same whenever it is made, so storing it would keep
each payment once more for each attempt. The signature is left out. What was told of no payment is
kept only until it is delivered.
"""

from typing import Any, Final

import msgspec

from easypay import ids
from easypay.db.partitions import within_months
from easypay.events.pages import FeedEvent
from easypay.payments.event_objects import objects_of
from easypay.webhooks.messages import message_id, other_body, payment_body
from easypay.webhooks.model import DISABLED, TEST, Attempt, Endpoint, object_of_test

Runner = Any


class SentRequest(msgspec.Struct, frozen=True):
    """What was sent. `body` is None if it is not known any more: see `sent_request`."""

    headers: dict[str, str]
    body: str | None


_COLUMNS: Final = ", ".join(FeedEvent.__struct_fields__[1:])
_EVENT: Final = f"SELECT {_COLUMNS} FROM events WHERE merchant_id = $1 AND id = $2 AND {{within}}"
_DATA: Final = """
    SELECT data FROM webhook_deliveries
     WHERE merchant_id = $1 AND endpoint_id = $2 AND event_id = $3
"""


async def sent_request(runner: Runner, endpoint: Endpoint, attempt: Attempt) -> SentRequest:
    """Return what an attempt sent, without its signature.

    The body is not known if the event's month was archived, or after an endpoint was told of
    something else than a payment.
    """
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id(attempt.event_id),
        "webhook-timestamp": str(int(attempt.sent_at.timestamp())),
    }
    body = await _body(runner, endpoint, attempt)
    return SentRequest(headers, None if body is None else body.decode())


async def _body(runner: Runner, endpoint: Endpoint, attempt: Attempt) -> bytes | None:
    key = attempt.merchant_id, attempt.event_id
    if attempt.type == TEST:
        data = object_of_test(ids.typed(ids.ENDPOINT, endpoint.id))
        return other_body(attempt.type, attempt.event_id, endpoint.mode, data)
    if attempt.type == DISABLED:
        data = await runner.fetchval(_DATA, attempt.merchant_id, endpoint.id, attempt.event_id)
        if data is None:
            return None
        return other_body(attempt.type, attempt.event_id, endpoint.mode, data)
    within = within_months("id", [attempt.event_id])
    row = await runner.fetchrow(_EVENT.format(within=within), *key)
    if row is None:
        return None
    (view,) = await objects_of(runner, [FeedEvent(0, *row)])
    return payment_body(view)
