"""What a learned outcome changes, as data for `statements.RECORD`. Pure.

`Recorder` calls `decide` for every outcome, whatever its source. A change holds its effect on the
operation (`OperationEffect`) and on the payment (`PaymentEffect`), and the processor's answer.
"""

from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, assert_never
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.errors import EasyPayError
from easypay.payments.model import (
    CREATES,
    REVIEWS,
    Event,
    Kind,
    Operation,
    Payment,
    State,
    Status,
    advance,
)
from easypay.payments.refusals import refusal_of
from easypay.payments.views import REFUND_STATUS, body_of, payment_view, refund_view
from easypay.problems import render
from easypay.processors.base import (
    Absent,
    Approved,
    Declined,
    HeldForReview,
    NotSent,
    Outcome,
    ProcessorAnswer,
    Rejected,
    Unknown,
    answer_of,
)

_json = msgspec.json.Encoder()
_NOTHING: Final = ProcessorAnswer()
ABSENT_ANSWER: Final = ProcessorAnswer(message="No charge was found at the processor.")
"""What a payment has for an answer if no charge was found."""

REVIEW_INTERVAL_S: Final = 300.0
NOT_SENT_S: Final = 60.0

OPEN: Final = (State.IN_FLIGHT, State.UNKNOWN, State.NOT_SENT)
"""The states in which an operation gets its outcome, unless it was held or called absent."""

Conclusive = Approved | Declined | Rejected | HeldForReview | Absent
Learned = Outcome | Absent
"""What can be learned about an operation: a call's outcome, or proof that it never happened."""


class OperationEffect(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a change does to the operation. Field order is recorded_change_3's."""

    from_states: tuple[State, ...]
    """The states that this change may replace: the fence against a late writer."""
    state: State
    evidence: str | None
    processor_us: int | None
    reply_status: int | None = None
    reply_body: bytes | None = None
    finished_at: datetime | None = None
    next_inquiry_at: datetime | None = None
    voided: bool = False
    """The refund was made as a void of the payment."""


class PaymentEffect(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a change does to the payment. Field order is recorded_change_3's."""

    moves_payment: bool
    describes_payment: bool = False
    """The processor's answer becomes the payment's, too (authorize, sale, the end of a review)."""
    status_from: Status
    status_to: Status
    authorized_minor: int
    captured_minor: int
    refunded_delta: int = 0
    reserved_delta: int = 0


class Change(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything that one outcome changes in the rows."""

    operation: Operation
    """The operation as it was when it began."""
    at: datetime
    effect: OperationEffect
    payment: PaymentEffect
    answer: ProcessorAnswer = _NOTHING
    event_id: UUID | None = None
    event_type: str | None = None


class Evidence(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Why we believe an outcome that is not the call's own reply."""

    source: str
    finding: str
    inquiries: int = 0
    at: str = ""


NEVER_SENT: Final = Absent(searched="nothing: the request never left this gateway")
"""What ends an operation that was never sent and that nobody repeated in time."""
NEVER_SENT_FINDING: Final = f"absent: {NEVER_SENT.searched}"
"""What the evidence of such an operation says."""
_evidence: Final = msgspec.json.Decoder(Evidence)


def ended_unsent(operation: Operation) -> bool:
    """Whether an operation ended without ever being sent: proven, so what it asked for may be begun
    anew. Absence that was concluded from the processor's lists is no such proof."""
    if operation.state is not State.ABSENT or operation.evidence is None:
        return False
    return _evidence.decode(operation.evidence).finding == NEVER_SENT_FINDING


class _Meaning(NamedTuple):
    """What an outcome means: the operation's state, and the payment's event by operation kind."""

    state: State
    created: Event | None = None
    captured: Event | None = None
    voided: Event | None = None


_MEANING: Final[dict[type, _Meaning]] = {
    Approved: _Meaning(State.APPROVED, captured=Event.CAPTURED, voided=Event.VOIDED),
    Declined: _Meaning(State.DECLINED, created=Event.DECLINED),
    Rejected: _Meaning(State.REJECTED, created=Event.FAILED),
    Absent: _Meaning(State.ABSENT, created=Event.FAILED),
    HeldForReview: _Meaning(State.HELD, created=Event.HELD_FOR_REVIEW),
}

_UNDECIDED: Final = {"voided": Event.VOIDED, "expired": Event.EXPIRED}
"""The payment's event when a review ends without a decision."""


def decide(
    operation: Operation,
    payment: Payment,
    learned: Learned,
    *,
    at: datetime,
    first_inquiry_s: float,
    review_interval_s: float = REVIEW_INTERVAL_S,
    not_sent_s: float = NOT_SENT_S,
    processor_us: int | None = None,
    evidence: Evidence | None = None,
) -> Change:
    """Return what `learned` changes. Takes the operation and payment as they were at the begin.

    `at` stamps the change. `first_inquiry_s` is when the resolver first asks about an unknown
    outcome, `review_interval_s` when it asks about a held operation, and `not_sent_s` when it gives
    up an operation that was never sent. For a held operation, `learned` is how its review ended.

    Raises InvalidState if the status table has no such entry.
    """
    if isinstance(learned, HeldForReview) and operation.kind not in CREATES:
        learned = Unknown(reason="held for review; only an inquiry can resolve it")
    match learned:
        case Approved() | Declined() | Rejected() | HeldForReview() | Absent():
            held = isinstance(learned, HeldForReview)
            effect = OperationEffect(
                from_states=_from_states(operation),
                state=_MEANING[type(learned)].state,
                evidence=None if evidence is None else _json.encode(evidence).decode(),
                processor_us=processor_us,
                finished_at=at,
                next_inquiry_at=at + timedelta(seconds=review_interval_s) if held else None,
                voided=isinstance(learned, Approved) and learned.voided,
            )
            if operation.gives_back is not None:
                return _given_back(operation, payment, learned, at, effect)
            return _ended(operation, payment, learned, at, effect)
        case Unknown():
            again_at = at + timedelta(seconds=first_inquiry_s)
            return _still_open(
                operation, payment, State.UNKNOWN, learned.reason, at, again_at, processor_us
            )
        case NotSent():
            again_at = at + timedelta(seconds=not_sent_s)
            return _still_open(
                operation, payment, State.NOT_SENT, learned.reason, at, again_at, processor_us
            )
        case _:
            assert_never(learned)


def _still_open(
    operation: Operation,
    payment: Payment,
    state: Literal[State.UNKNOWN, State.NOT_SENT],
    reason: str,
    at: datetime,
    again_at: datetime,
    processor_us: int | None,
) -> Change:
    """Return a change that leaves the payment as it is. An unknown outcome is answered 202; an
    operation that was not sent may be repeated."""
    body = None
    if state is State.UNKNOWN and operation.gives_back is None:
        if operation.kind is Kind.REFUND:
            body = body_of(
                refund_view(msgspec.structs.replace(operation, state=state), payment.processor)
            )
        else:
            body = body_of(payment_view(payment))
    evidence = Evidence(source="reply", finding=reason, at=rfc3339(at))
    effect = OperationEffect(
        from_states=(State.IN_FLIGHT,),
        state=state,
        evidence=_json.encode(evidence).decode(),
        processor_us=processor_us,
        reply_status=None if body is None else 202,
        reply_body=body,
        next_inquiry_at=again_at,
    )
    return Change(operation=operation, at=at, effect=effect, payment=_unmoved(payment))


def _given_back(
    operation: Operation,
    payment: Payment,
    learned: Conclusive,
    at: datetime,
    effect: OperationEffect,
) -> Change:
    """Return the change of an operation that gives a late charge back. Whatever its outcome, the
    payment stays failed, as the merchant was told."""
    approved = isinstance(learned, Approved)
    return Change(
        operation=operation,
        at=at,
        effect=effect,
        payment=_unmoved(payment),
        answer=_answer(learned),
        event_id=ids.new_id_from(at) if approved else None,
        event_type="late_charge.returned" if approved else None,
    )


def _ended(
    operation: Operation,
    payment: Payment,
    learned: Conclusive,
    at: datetime,
    effect: OperationEffect,
) -> Change:
    """Return the change for the outcome of a merchant's operation, with the reply."""
    late, approved = operation.state is State.ABSENT, isinstance(learned, Approved)
    ends_review = operation.kind in REVIEWS and isinstance(learned, (Approved, Declined))
    describes = operation.kind in CREATES or ends_review
    if operation.kind is Kind.DECLINE and ends_review:
        # The operation asked for the payment to be declined, so an approval is its failure.
        state = State.REJECTED if approved else State.APPROVED
        effect = msgspec.structs.replace(effect, state=state)
    refund = operation.kind is Kind.REFUND
    voided = refund and effect.voided
    event = _payment_event(operation, payment, learned, late=late)
    status = payment.status if event is None else advance(payment.status, event)
    authorized, captured = _amounts_after(operation, payment, approved=approved, voided=voided)
    answer = _answer(learned)
    if operation.state is State.HELD or ends_review:
        answer = _completed(answer, payment.answer)
    moved = PaymentEffect(
        moves_payment=True,
        describes_payment=describes,
        status_from=payment.status,
        status_to=status,
        authorized_minor=authorized,
        captured_minor=captured,
        refunded_delta=operation.amount_minor if refund and approved and not voided else 0,
        reserved_delta=-operation.amount_minor if refund and not late else 0,
    )
    reply_status, reply_body = _reply(operation, payment, learned, answer, effect, moved, at)
    return Change(
        operation=operation,
        at=at,
        effect=msgspec.structs.replace(
            effect, voided=voided, reply_status=reply_status, reply_body=reply_body
        ),
        payment=moved,
        answer=answer,
        event_id=ids.new_id_from(at),
        event_type=_event_name(operation, effect.state, status),
    )


def _unmoved(payment: Payment) -> PaymentEffect:
    return PaymentEffect(
        moves_payment=False,
        status_from=payment.status,
        status_to=payment.status,
        authorized_minor=payment.authorized_minor,
        captured_minor=payment.captured_minor,
    )


def _from_states(operation: Operation) -> tuple[State, ...]:
    """Return the states that the change may replace: its own if held or absent, else OPEN."""
    if operation.state is State.ABSENT:
        return (State.ABSENT,)
    if operation.state is State.HELD and operation.gives_back is None:
        return (State.HELD,)
    return OPEN


def _answer(learned: Conclusive) -> ProcessorAnswer:
    if isinstance(learned, Absent):
        return ABSENT_ANSWER
    if isinstance(learned, Declined) and learned.undecided is not None:
        return msgspec.structs.replace(answer_of(learned), decline_code=None, retry=None)
    return answer_of(learned)


def _completed(now: ProcessorAnswer, before: ProcessorAnswer) -> ProcessorAnswer:
    """Fill what the end of a review leaves empty from the answer that came with the hold."""
    return msgspec.structs.replace(
        now,
        transaction_id=now.transaction_id or before.transaction_id,
        auth_code=now.auth_code or before.auth_code,
        avs_result=now.avs_result or before.avs_result,
        avs=now.avs if now.avs_result else before.avs,
        cvv_result=now.cvv_result or before.cvv_result,
        cvv=now.cvv if now.cvv_result else before.cvv,
        network_transaction_id=now.network_transaction_id or before.network_transaction_id,
    )


def _amounts_after(
    operation: Operation, payment: Payment, *, approved: bool, voided: bool
) -> tuple[int, int]:
    """Return (authorized, captured) after an operation, in minor units.

    A refund changes neither, unless it was made as a void: then nothing counts as captured, and
    nothing as refunded.
    """
    if not approved:
        return payment.authorized_minor, payment.captured_minor
    match operation.kind:
        case Kind.SALE:
            return operation.amount_minor, operation.amount_minor
        case Kind.AUTHORIZE:
            return operation.amount_minor, 0
        case Kind.CAPTURE:
            return payment.authorized_minor, operation.amount_minor
        case Kind.VOID:
            return payment.authorized_minor, 0
        case Kind.APPROVE | Kind.DECLINE:
            taken = payment.amount_minor if payment.capture == "automatic" else 0
            return payment.amount_minor, taken
        case Kind.REFUND:
            return payment.authorized_minor, 0 if voided else payment.captured_minor
        case _:
            assert_never(operation.kind)


def _reply(
    operation: Operation,
    payment: Payment,
    learned: Conclusive,
    answer: ProcessorAnswer,
    effect: OperationEffect,
    moved: PaymentEffect,
    at: datetime,
) -> tuple[int, bytes]:
    """Return the reply to the merchant: (HTTP status, body)."""
    refusal = None if isinstance(learned, Approved) else refusal_of(operation, payment, learned)
    if refusal is not None:
        return refusal.http_status, _problem(operation, answer, refusal)
    if operation.kind is Kind.REFUND:
        after = msgspec.structs.replace(
            operation,
            state=effect.state,
            finished_at=at,
            voided=effect.voided,
            answer=answer,
        )
        return 201, body_of(refund_view(after, payment.processor))
    return 201, body_of(payment_view(payment_after(payment, moved, answer, at)))


def payment_after(
    payment: Payment, moved: PaymentEffect, answer: ProcessorAnswer, at: datetime
) -> Payment:
    """Return the payment as RECORD leaves it."""
    described = moved.describes_payment
    return msgspec.structs.replace(
        payment,
        status=moved.status_to,
        authorized_minor=moved.authorized_minor,
        captured_minor=moved.captured_minor,
        refunded_minor=payment.refunded_minor + moved.refunded_delta,
        refund_reserved_minor=payment.refund_reserved_minor + moved.reserved_delta,
        version=payment.version + 1,
        active_operation=None,
        updated_at=at,
        answer=answer if described else payment.answer,
        card_brand=payment.card_brand or (answer.card_brand if described else None),
        card_last4=payment.card_last4 or (answer.card_last4 if described else None),
    )


def _problem(operation: Operation, answer: ProcessorAnswer, refusal: EasyPayError) -> bytes:
    return render(
        refusal,
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        operation_id=ids.typed(ids.OPERATION, operation.id),
        processor_code=answer.code,
        processor_message=answer.message,
        decline_code=answer.decline_code,
    )


def _payment_event(
    operation: Operation, payment: Payment, learned: Conclusive, *, late: bool
) -> Event | None:
    meaning, approved = _MEANING[type(learned)], isinstance(learned, Approved)
    match operation.kind:
        case Kind.AUTHORIZE if approved:
            return Event.FOUND_AUTHORIZED if late else Event.AUTHORIZED
        case Kind.SALE if approved:
            return Event.FOUND_CAPTURED if late else Event.CAPTURED
        case Kind.AUTHORIZE | Kind.SALE:
            held = operation.state is State.HELD
            return _review_event(learned) if held else meaning.created
        case Kind.CAPTURE:
            return meaning.captured
        case Kind.VOID:
            return meaning.voided
        case Kind.APPROVE | Kind.DECLINE if approved:
            return Event.CAPTURED if payment.capture == "automatic" else Event.AUTHORIZED
        case Kind.APPROVE | Kind.DECLINE:
            return _review_event(learned) if isinstance(learned, Declined) else None
        case Kind.REFUND:  # changes an amount, and the status only if made as a void
            return Event.VOIDED if isinstance(learned, Approved) and learned.voided else None
        case _:
            assert_never(operation.kind)


def _review_event(learned: Conclusive) -> Event | None:
    """Return the event of a review that ended without approval."""
    if isinstance(learned, Declined) and learned.undecided is not None:
        return _UNDECIDED[learned.undecided]
    if isinstance(learned, Declined | Rejected):
        return Event.DECLINED
    return _MEANING[type(learned)].created


_PAYMENT_EVENTS: Final = {status: f"payment.{status}" for status in Status}


def _event_name(operation: Operation, state: State, status: Status) -> str:
    """Return the event type: `payment.captured`, `refund.succeeded`, `capture.failed`."""
    if operation.kind in CREATES:
        return _PAYMENT_EVENTS[status]
    if operation.kind is Kind.REFUND:
        return f"refund.{REFUND_STATUS[state]}"
    if operation.kind in REVIEWS and status is not Status.IN_REVIEW:
        return _PAYMENT_EVENTS[status]
    return _PAYMENT_EVENTS[status] if state is State.APPROVED else f"{operation.kind}.failed"
