"""The replies that the gateway stored for seeded operations, made by the gateway's own functions.

Only operations whose idempotency key is still kept have one, so these may be slow.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from easypay.clock import rfc3339
from easypay.mode import MODE
from easypay.payments.begin import new_operation
from easypay.payments.model import CREATES, KIND, Kind, Operation, Payment, State, Status
from easypay.payments.outcome_changes import Learned, decide, payment_after
from easypay.processors.base import Absent, Declined, ProcessorAnswer, Rejected, Unknown
from easypay.seeding import processor_answers as answers
from easypay.seeding.stories import Outcome, Step, Told

Reply = tuple[int, bytes]
"""HTTP status and body."""


def at(unix_us: int) -> datetime:
    """Return a moment in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=unix_us)


def replies(told: Told) -> Iterator[Reply | None]:
    """Yield the reply to each step of a payment; None for one that nobody asked for."""
    payment = payment_at_first(told)
    for step in told.steps:
        if step.kind == "expiry":
            yield None
            continue
        payment, reply = _stepped(told, payment, step)
        yield reply


def _stepped(told: Told, payment: Payment, step: Step) -> tuple[Payment, Reply]:
    operation, payment = begun(payment, step)
    reply = None
    if step.reply_lost or step.outcome is None:
        unknown = Unknown(reason=answers.NO_ANSWER)
        when = at(step.begun_us + step.processor_us + 900)
        change = decide(operation, payment, unknown, at=when, first_inquiry_s=5)
        reply = change.effect.reply_status, change.effect.reply_body
    if step.outcome is not None:
        learned = learned_of(told, step, step.outcome)
        change = decide(operation, payment, learned, at=at(step.ended_us), first_inquiry_s=5)
        payment = payment_after(payment, change.payment, change.answer, at(step.ended_us))
        if reply is None:
            reply = change.effect.reply_status, change.effect.reply_body
    status, body = reply if reply is not None else (None, None)
    assert status is not None, "every operation of a merchant is answered"
    assert body is not None
    return payment, (status, body)


def payment_at_first(told: Told) -> Payment:
    """Return the payment as it was written before the first call."""
    token = told.method == "accept_token"
    return Payment(
        merchant_id=UUID(bytes=told.shop.id),
        id=UUID(bytes=told.id),
        mode=MODE[told.mode],
        status=Status.PROCESSING,
        amount_minor=told.amount_minor,
        authorized_minor=0,
        captured_minor=0,
        refunded_minor=0,
        refund_reserved_minor=0,
        version=1,
        currency=told.currency,
        capture=told.capture,
        active_operation=UUID(bytes=told.steps[0].id),
        method_type=told.method,
        card_brand=None if token else told.brand,
        card_last4=None if token else told.last4,
        card_exp_month=told.exp_month,
        card_exp_year=told.exp_year,
        processor="authorize_net",
        metadata=None if told.metadata is None else told.metadata.decode(),
        settled_at=None,
        settlement_state=None,
        created_at=at(told.created_us),
        updated_at=at(told.created_us),
        login_id=UUID(bytes=told.shop.login_id),
        possible_duplicate_of=None,
        customer_id=None,
        payment_method_id=None,
        details=told.details,
        answer=ProcessorAnswer(),
    )


def begun(payment: Payment, step: Step) -> tuple[Operation, Payment]:
    """Return an operation and its payment as they were written before the call."""
    kind = KIND[step.kind]
    operation = new_operation(
        payment, UUID(bytes=step.id), kind, step.amount_minor, at(step.begun_us)
    )
    if step.reply_lost:
        operation = msgspec.structs.replace(operation, state=State.UNKNOWN)
    if kind is not Kind.REFUND:
        return operation, payment
    reserved = payment.refund_reserved_minor + step.amount_minor
    return operation, msgspec.structs.replace(payment, refund_reserved_minor=reserved)


def learned_of(told: Told, step: Step, outcome: Outcome) -> Learned:
    """Return the outcome with what the processor said about this operation."""
    if isinstance(outcome, Absent | Rejected):
        return outcome
    said: dict[str, Any] = {"transaction_id": step.transaction_id}
    if not isinstance(outcome, Declined):
        said["auth_code"] = step.auth_code
    if KIND[step.kind] in CREATES:
        said |= told.checks._asdict()
        said |= {
            "network_transaction_id": told.network_id,
            "card_brand": told.brand,
            "card_last4": told.last4,
        }
    return msgspec.structs.replace(outcome, **said)


def evidence_of(step: Step) -> bytes | None:
    """Return the stored JSON of why an outcome is believed that was not the call's own answer."""
    if step.kind == "expiry" or not (step.reply_lost or step.outcome is None):
        return None
    if step.outcome is None:
        when = rfc3339(at(step.begun_us + step.processor_us + 900))
        found = answers.evidence(answers.NO_ANSWER, when)
    elif isinstance(step.outcome, Absent):
        why = f"absent: no charge was found in {answers.SEARCHED}; a newer charge is listed"
        found = answers.evidence(why, rfc3339(at(step.ended_us)), inquiries=2)
    else:
        why = f"found: {step.transaction_id} in {answers.SEARCHED}"
        found = answers.evidence(why, rfc3339(at(step.ended_us)), inquiries=1)
    return msgspec.json.encode(found)
