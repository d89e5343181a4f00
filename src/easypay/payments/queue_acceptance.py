"""How operations are accepted for the queue. SQL only.

An operation is accepted by one statement, with everything that an ordinary begin writes and a row
in `queued_operations`. It is `queued`, and its payment `pending`. What becomes of that row is in
`queue_rows`.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import astuple

from easypay.payment_details import INTENT_TYPE
from easypay.payments.begin import FollowUp, NewPayment
from easypay.payments.queue_rows import Link
from easypay.payments.statements import (
    Statement,
    begin_payments_arguments,
    claim_and_write,
)

Runner = Any


# a payment -------------------------------------------------------------------------------


class QueuedPayment(msgspec.Struct, frozen=True, gc=False):
    """A payment to accept. `sealed` is its request, encrypted; nothing is sent after `lives_s`
    seconds. `event_id` is that of its event `payment.pending`. `trace`: that of its request."""

    new: NewPayment
    sealed: bytes
    lives_s: float
    event_id: UUID
    trace: Link | None = None


QUEUED_FIELDS: Final = ("sealed", "lives_s", "event_id")
"""The fields of the type queued_payment, in the order of `enqueue_payments_arguments`."""

ENQUEUE_PAYMENTS: Final = f"""
    WITH input AS (
        SELECT * FROM unnest($1::{INTENT_TYPE}[], $2::queued_payment[], $3::trace_link[])
    ), {claim_and_write("pending", "queued")}, happened AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        SELECT merchant_id, event_id, payment_id, operation_id, mode, 'payment.pending', 'pending',
            amount_minor, currency, at
          FROM fresh
    ), waiting AS (
        INSERT INTO queued_operations
            (merchant_id, operation_id, payment_id, mode, kind, sealed, expires_at,
             trace_id, span_id)
        SELECT merchant_id, operation_id, payment_id, mode, kind, sealed,
               db_now() + make_interval(secs => lives_s), trace_id, span_id
          FROM fresh
    )
    SELECT operation_id FROM claimed
"""


def enqueue_payments_arguments(items: Sequence[QueuedPayment]) -> list[list[Any]]:
    """Return the group as arrays: its intents, what each has beside that, its trace."""
    intents: list[list[Any]] = [*begin_payments_arguments([item.new for item in items])]
    return [
        *intents,
        [(item.sealed, item.lives_s, item.event_id) for item in items],
        [item.trace for item in items],
    ]


def enqueue_payments_results(
    items: Sequence[QueuedPayment], rows: list[asyncpg.Record]
) -> Sequence[bool]:
    """Return for each item whether it claimed its key."""
    claimed = {row[0] for row in rows}
    return [item.new.operation_id in claimed for item in items]


ENQUEUE: Final = Statement[QueuedPayment, bool](
    "enqueue",
    ENQUEUE_PAYMENTS,
    enqueue_payments_arguments,
    enqueue_payments_results,
    order=lambda item: (item.new.merchant_id, item.new.payment.mode, item.new.key),
    touches=lambda item: ((item.new.merchant_id, item.new.payment.mode, item.new.key),),
    months=lambda item: (),  # it only inserts
)


# an operation of a payment ---------------------------------------------------------------

FOLLOW_UP_LIVES_S: Final = 86_400.0
"""How long an operation of a payment may wait to be sent."""

# The payment is not taken: operations that were accepted before this one may still change it. What
# it allows is looked at when the operation begins. So the amount is a first one.
_ENQUEUE_FOLLOW_UP: Final = """
    WITH input AS (
        SELECT * FROM unnest($1::follow_up_intent[])
    ), found AS (
        SELECT i.*, p.currency, CASE WHEN i.kind <> 'capture' OR p.authorized_minor = 0
                                     THEN p.amount_minor ELSE p.authorized_minor END AS all_of_it
          FROM input i JOIN payments p
            ON p.merchant_id = i.merchant_id AND p.mode = i.mode AND p.id = i.payment_id
    ), claimed AS (
        INSERT INTO idempotency_keys
            (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
        SELECT merchant_id, mode, key, fingerprint, operation_id, payment_id, db_now() FROM found
        ON CONFLICT DO NOTHING
        RETURNING operation_id
    ), fresh AS (
        SELECT f.* FROM found f JOIN claimed USING (operation_id)
    ), new_operations AS (
        INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
            currency, reference, begun_at)
        SELECT merchant_id, operation_id, payment_id, mode, kind, 'queued',
            coalesce(asked_minor, all_of_it), currency, reference, db_now()
          FROM fresh
    ), waiting AS (
        INSERT INTO queued_operations (merchant_id, operation_id, payment_id, mode, kind,
            asked_minor, whole, expected_version, expires_at, trace_id, span_id)
        SELECT merchant_id, operation_id, payment_id, mode, kind, asked_minor, whole,
            expected_version, db_now() + make_interval(secs => $2), $3::uuid, $4::bigint
          FROM fresh
    )
    SELECT operation_id FROM claimed
"""


async def enqueue_follow_up(runner: Runner, intent: FollowUp, trace: Link | None = None) -> bool:
    """Accept an operation of a payment. False if its key was used, or there is no such payment."""
    trace_id, span_id = trace or (None, None)
    arguments = ([astuple(intent)], FOLLOW_UP_LIVES_S, trace_id, span_id)
    return await runner.fetchval(_ENQUEUE_FOLLOW_UP, *arguments) is not None
