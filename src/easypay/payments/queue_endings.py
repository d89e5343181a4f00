"""How a queued operation ends without being sent. Pure: a change for the one door, `Recorder`."""

from datetime import datetime
from typing import Final

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.errors import EasyPayError, NotExecuted
from easypay.payments.model import CREATES, Event, Kind, Operation, Payment, State, advance
from easypay.payments.outcome_changes import (
    Change,
    Evidence,
    OperationEffect,
    PaymentEffect,
    payment_after,
)
from easypay.payments.views import body_of, payment_view
from easypay.problems import render
from easypay.processors.base import ProcessorAnswer

TOO_LATE: Final = "expired_payment_token"
"""The decline code of a payment whose token expired before it could be sent."""

_EXPIRED: Final = ProcessorAnswer(
    decline_code=TOO_LATE,
    message="The token expired before the payment could be sent. Nothing was sent.",
    retry="fix_data",
)
_LATE: Final = ProcessorAnswer(
    decline_code="processor_unavailable",
    message="The payment could not be sent in time. Nothing was sent.",
    retry="later",
)
"""What a payment by a stored method has for an answer, which does not expire."""
_GONE: Final = ProcessorAnswer(
    decline_code="stored_method_not_found",
    message="The payment method was deleted before the payment was sent. Nothing was sent.",
    retry="fix_data",
)
_json: Final = msgspec.json.Encoder()


def expired(operation: Operation, payment: Payment, why: str | None, at: datetime) -> Change:
    """Return the end of an operation that waited until nothing could be sent any more. `why` is the
    reason of its last failure."""
    finding = "it could not be sent in time" + (f": {why}" if why else "")
    if operation.kind in CREATES:
        answer = _EXPIRED if payment.payment_method_id is None else _LATE
        return _failed(operation, payment, answer, finding, at)
    late = NotExecuted(
        f"The {operation.kind} could not be sent in time and was given up. Nothing was sent and no "
        "money moved. If it is still wanted, send a new request with a new Idempotency-Key."
    )
    return refused(operation, payment, late, at, finding)


def without_method(operation: Operation, payment: Payment, why: str, at: datetime) -> Change:
    """Return the end of a payment whose stored method cannot be used any more. `why` says it."""
    return _failed(operation, payment, _GONE, why, at)


def refused(
    operation: Operation,
    payment: Payment,
    refusal: EasyPayError,
    at: datetime,
    finding: str | None = None,
) -> Change:
    """Return the end of an operation that its payment does not allow. It never held the payment,
    which only gets a new version, as with any refusal."""
    assert operation.kind not in CREATES, "a new payment depends on no other"
    body = render(
        refusal,
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        operation_id=ids.typed(ids.OPERATION, operation.id),
    )
    return Change(
        operation=operation,
        at=at,
        effect=_effect(finding or refusal.detail, refusal.http_status, body, at),
        payment=PaymentEffect(
            moves_payment=True,
            status_from=payment.status,
            status_to=payment.status,
            authorized_minor=payment.authorized_minor,
            captured_minor=payment.captured_minor,
        ),
        event_id=ids.new_id_from(at),
        event_type=f"{'refund' if operation.kind is Kind.REFUND else operation.kind}.failed",
    )


def _failed(
    operation: Operation, payment: Payment, answer: ProcessorAnswer, finding: str, at: datetime
) -> Change:
    moved = PaymentEffect(
        moves_payment=True,
        describes_payment=True,
        status_from=payment.status,
        status_to=advance(payment.status, Event.FAILED),
        authorized_minor=0,
        captured_minor=0,
    )
    body = body_of(payment_view(payment_after(payment, moved, answer, at)))
    return Change(
        operation=operation,
        at=at,
        effect=_effect(finding, 201, body, at),
        payment=moved,
        answer=answer,
        event_id=ids.new_id_from(at),
        event_type="payment.failed",
    )


def _effect(finding: str, status: int, body: bytes, at: datetime) -> OperationEffect:
    evidence = Evidence(source="queue", finding=finding, at=rfc3339(at))
    return OperationEffect(
        from_states=(State.QUEUED,),
        state=State.CANCELLED,
        evidence=_json.encode(evidence).decode(),
        processor_us=None,
        reply_status=status,
        reply_body=body,
        finished_at=at,
    )
