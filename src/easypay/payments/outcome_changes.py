"""What a learned outcome changes, as data for `statements.RECORD`. Pure: nothing here waits."""

from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.errors import EasyPayError, NotExecuted, NotSettled
from easypay.payments.model import CREATES, REVIEWS, Operation, Payment
from easypay.payments.refusals import refused_by_processor
from easypay.payments.said import Said, also_said_before, operation_after, payment_after, said_of
from easypay.payments.status import BY_NAME, Event, Status, advance
from easypay.payments.views import REFUND_STATUS, body_of, payment_view, refund_view
from easypay.problems import render
from easypay.processors.base import (
    Absent,
    Approved,
    Declined,
    HeldForReview,
    NotSent,
    Outcome,
    Rejected,
    Unknown,
)

_json = msgspec.json.Encoder()


class Change(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything one learned outcome does to the rows. Field order is recorded_change_2's."""

    merchant_id: UUID
    mode: str
    payment_id: UUID
    operation_id: UUID
    attempt: int
    from_states: str
    """The operation states this may replace, space separated: the fence against a late writer."""
    state: str
    transaction_id: str | None
    auth_code: str | None
    decline_code: str | None
    processor_code: str | None
    processor_message: str | None
    evidence: str | None
    processor_us: int | None
    reply_status: int | None
    reply_body: bytes | None
    finished_at: datetime | None
    moves_payment: bool
    describes_payment: bool
    """The processor's words about this operation are the payment's (authorize and sale)."""
    status_from: str
    status_to: str
    authorized_minor: int
    captured_minor: int
    refunded_delta: int
    reserved_delta: int
    network_transaction_id: str | None
    avs_result: str | None
    cvv_result: str | None
    card_brand: str | None
    card_last4: str | None
    event_id: UUID | None
    event_type: str | None
    amount_minor: int
    currency: str
    changed_at: datetime
    next_inquiry_at: datetime | None
    voided: bool
    """A refund that was done by voiding the payment."""
    avs_word: str | None
    cvv_word: str | None
    retry: str | None


class Evidence(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Why an outcome that did not come as the call's own reply is believed."""

    source: str
    finding: str
    inquiries: int = 0
    at: str = ""


# (state of the operation, event when it created the payment, when it captured, when it voided)
_EFFECT: Final[dict[type, tuple[str, Event | None, Event | None, Event | None]]] = {
    Approved: ("approved", None, Event.CAPTURED, Event.VOIDED),
    Declined: ("declined", Event.DECLINED, None, None),
    Rejected: ("rejected", Event.FAILED, None, None),
    Absent: ("absent", Event.FAILED, None, None),
    HeldForReview: ("held", Event.HELD_FOR_REVIEW, None, None),
}

_UNDECIDED: Final = {"voided": Event.VOIDED, "expired": Event.EXPIRED}
"""How a payment in review ends without a decision."""

REVIEW_INTERVAL_S: Final = 300.0
NOT_SENT_S: Final = 60.0

Learned = Outcome | Absent
"""What can be learned of an operation: a call's outcome, or proof that it never happened."""


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
    """What `learned` changes, given the operation and its payment as they were at its begin.

    `at` stamps the change. `first_inquiry_s` is when the resolver first asks about an unknown,
    `review_interval_s` when it does about what is held for review, `not_sent_s` when it gives up
    what never left. Of a held operation, `learned` is how the review ended. Raises InvalidState
    where the status table has no such edge.
    """
    if isinstance(learned, HeldForReview) and operation.kind not in CREATES:
        learned = Unknown(reason="held for review, which only an inquiry can end")
    match learned:
        case Unknown() | NotSent():
            again_s = not_sent_s if isinstance(learned, NotSent) else first_inquiry_s
            return _open_change(operation, payment, learned, at, again_s, processor_us)
        case _ if operation.gives_back is not None:
            return _give_back_change(operation, payment, learned, at, processor_us, evidence)
        case Approved() | Declined() | Rejected() | HeldForReview() | Absent():
            change = _final_change(operation, payment, learned, at, processor_us, evidence)
            if isinstance(learned, HeldForReview):
                again_at = at + timedelta(seconds=review_interval_s)
                change = msgspec.structs.replace(change, next_inquiry_at=again_at)
            return change
        case _:
            assert_never(learned)


def _open_change(
    operation: Operation,
    payment: Payment,
    learned: Unknown | NotSent,
    at: datetime,
    again_s: float,
    processor_us: int | None,
) -> Change:
    """Nothing learned, nothing moves. An unknown is answered 202; a not-sent may be repeated."""
    unknown = isinstance(learned, Unknown)
    refund = operation.kind == "refund"
    reply = None
    if unknown and operation.gives_back is None:
        reply = body_of(
            refund_view(msgspec.structs.replace(operation, state="unknown"))
            if refund
            else payment_view(payment)
        )
    evidence = Evidence(source="reply", finding=learned.reason, at=rfc3339(at))
    return Change(
        merchant_id=operation.merchant_id,
        mode=operation.mode,
        payment_id=operation.payment_id,
        operation_id=operation.id,
        attempt=operation.attempt,
        from_states="in_flight",
        state="unknown" if unknown else "not_sent",
        transaction_id=None,
        auth_code=None,
        decline_code=None,
        processor_code=None,
        processor_message=None,
        evidence=_json.encode(evidence).decode(),
        processor_us=processor_us,
        reply_status=None if reply is None else 202,
        reply_body=reply,
        finished_at=None,
        moves_payment=False,
        describes_payment=False,
        status_from=payment.status,
        status_to=payment.status,
        authorized_minor=payment.authorized_minor,
        captured_minor=payment.captured_minor,
        refunded_delta=0,
        reserved_delta=0,
        network_transaction_id=None,
        avs_result=None,
        cvv_result=None,
        card_brand=None,
        card_last4=None,
        event_id=None,
        event_type=None,
        amount_minor=operation.amount_minor,
        currency=operation.currency,
        changed_at=at,
        next_inquiry_at=at + timedelta(seconds=again_s),
        voided=False,
        avs_word=None,
        cvv_word=None,
        retry=None,
    )


def _give_back_change(
    operation: Operation,
    payment: Payment,
    learned: Approved | Declined | Rejected | HeldForReview | Absent,
    at: datetime,
    processor_us: int | None,
    evidence: Evidence | None,
) -> Change:
    """A late charge goes back: its payment stays failed, as the shop was told, whatever comes."""
    said = said_of(learned)
    approved = isinstance(learned, Approved)
    nothing = Unknown(reason="")
    return msgspec.structs.replace(
        _open_change(operation, payment, nothing, at, 0.0, processor_us),
        from_states="absent" if operation.state == "absent" else "in_flight unknown not_sent",
        state=_EFFECT[type(learned)][0],
        transaction_id=said.transaction_id,
        auth_code=said.auth_code,
        decline_code=said.decline_code,
        processor_code=said.code,
        processor_message=said.message,
        retry=said.retry,
        evidence=None if evidence is None else _json.encode(evidence).decode(),
        finished_at=at,
        event_id=ids.new_id() if approved else None,
        event_type="late_charge.returned" if approved else None,
        next_inquiry_at=None,
        voided=isinstance(learned, Approved) and learned.voided,
    )


def _final_change(
    operation: Operation,
    payment: Payment,
    learned: Approved | Declined | Rejected | HeldForReview | Absent,
    at: datetime,
    processor_us: int | None,
    evidence: Evidence | None,
) -> Change:
    approved = isinstance(learned, Approved)
    late = operation.state == "absent"
    reviewed = operation.state == "held"
    ends_review = operation.kind in REVIEWS and isinstance(learned, (Approved, Declined))
    describes = operation.kind in CREATES or ends_review
    refund = operation.kind == "refund"
    voided = refund and isinstance(learned, Approved) and learned.voided
    state = _EFFECT[type(learned)][0]
    if operation.kind == "decline" and ends_review:
        state = (
            "rejected" if approved else "approved"
        )  # what it asked for is that there is no money
    event = _payment_event(operation, payment, learned, late=late)
    status = BY_NAME[payment.status] if event is None else advance(payment.status, event)
    authorized, captured = _amounts_after(operation, payment, approved=approved, voided=voided)
    said = said_of(learned)
    if reviewed or ends_review:
        said = also_said_before(said, payment)
    reply_status, reply_body = 201, b""
    refusal = _refusal(operation, payment, learned)
    if refusal is not None:
        reply_status, reply_body = refusal.http_status, _refused(operation, said, refusal)
    elif refund:
        reply_body = body_of(
            refund_view(operation_after(operation, state, said, at, voided=voided))
        )
    else:
        after = payment_after(
            payment, status, authorized, captured, said if describes else None, at
        )
        reply_body = body_of(payment_view(after))

    return Change(
        merchant_id=operation.merchant_id,
        mode=operation.mode,
        payment_id=operation.payment_id,
        operation_id=operation.id,
        attempt=operation.attempt,
        from_states=("absent" if late else "held" if reviewed else "in_flight unknown not_sent"),
        state=state,
        transaction_id=said.transaction_id,
        auth_code=said.auth_code,
        decline_code=said.decline_code,
        processor_code=said.code,
        processor_message=said.message,
        evidence=None if evidence is None else _json.encode(evidence).decode(),
        processor_us=processor_us,
        reply_status=reply_status,
        reply_body=reply_body,
        finished_at=at,
        moves_payment=True,
        describes_payment=describes,
        status_from=payment.status,
        status_to=status,
        authorized_minor=authorized,
        captured_minor=captured,
        refunded_delta=operation.amount_minor if refund and approved and not voided else 0,
        reserved_delta=-operation.amount_minor if refund and not late else 0,
        network_transaction_id=said.network_transaction_id,
        avs_result=said.avs_result,
        cvv_result=said.cvv_result,
        card_brand=said.card_brand,
        card_last4=said.card_last4,
        event_id=ids.new_id(),
        event_type=_event_name(operation, state, status),
        amount_minor=operation.amount_minor,
        currency=operation.currency,
        changed_at=at,
        next_inquiry_at=None,
        voided=voided,
        avs_word=said.avs,
        cvv_word=said.cvv,
        retry=said.retry,
    )


def _amounts_after(
    operation: Operation, payment: Payment, *, approved: bool, voided: bool
) -> tuple[int, int]:
    """(authorized, captured) after an operation, minor units.

    A refund changes neither, but for one that voided: then nothing was taken, and so nothing given
    back either.
    """
    if not approved:
        return payment.authorized_minor, payment.captured_minor
    if voided:
        return payment.authorized_minor, 0
    match operation.kind:
        case "sale":
            return operation.amount_minor, operation.amount_minor
        case "authorize":
            return operation.amount_minor, 0
        case "capture":
            return payment.authorized_minor, operation.amount_minor
        case "void":
            return payment.authorized_minor, 0
        case "approve" | "decline":
            taken = payment.amount_minor if payment.capture == "automatic" else 0
            return payment.amount_minor, taken
        case _:
            return payment.authorized_minor, payment.captured_minor


_TOO_EARLY: Final = {
    False: "The payment has not settled yet, and until then only a full refund is possible. No "
    "money moved. Refund all of it now, or this part once it has settled; either is a new "
    "request with a new Idempotency-Key.",
    True: "The payment is being settled just now: too late to void it, too early to refund it. No "
    "money moved. Refund it when it has settled, with a new Idempotency-Key.",
}
"""By whether all of it was to be given back."""


def _refusal(operation: Operation, payment: Payment, learned: Learned) -> EasyPayError | None:
    """The problem where there is no resource to show for the request."""
    if isinstance(learned, Approved):
        return None
    follow_up = operation.kind not in CREATES and operation.kind != "refund"
    if isinstance(learned, Rejected) and learned.not_settled:
        return NotSettled(_TOO_EARLY[operation.amount_minor == payment.voidable_minor])
    plain = operation.kind in ("capture", "void")  # of which a decline shows nothing
    if isinstance(learned, Rejected) or (isinstance(learned, Declined) and plain):
        return refused_by_processor(operation.kind, learned)
    if isinstance(learned, Absent) and follow_up:
        return NotExecuted(
            f"The {operation.kind} was not carried out: the processor was asked until it was "
            "proven, and the operation is closed. No money moved. If it is still wanted, send a "
            "new request with a new Idempotency-Key."
        )
    return None


def _refused(operation: Operation, said: Said, refusal: EasyPayError) -> bytes:
    return render(
        refusal,
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        operation_id=ids.typed(ids.OPERATION, operation.id),
        processor_code=said.code,
        processor_message=said.message,
        decline_code=said.decline_code,
    )


def _payment_event(
    operation: Operation, payment: Payment, learned: Learned, *, late: bool
) -> Event | None:
    _, created, captured, voided = _EFFECT[type(learned)]
    match operation.kind:
        case "authorize" if isinstance(learned, Approved):
            return Event.FOUND_AUTHORIZED if late else Event.AUTHORIZED
        case "sale" if isinstance(learned, Approved):
            return Event.FOUND_CAPTURED if late else Event.CAPTURED
        case "authorize" | "sale" if operation.state == "held":
            return _review_event(learned)
        case "authorize" | "sale":
            return created
        case "capture":
            return captured
        case "void":
            return voided
        case "approve" | "decline":
            if isinstance(learned, Approved):
                return Event.CAPTURED if payment.capture == "automatic" else Event.AUTHORIZED
            return _review_event(learned) if isinstance(learned, Declined) else None
        case _ if isinstance(learned, Approved) and learned.voided:
            return Event.VOIDED
        case _:
            return None  # a refund is an amount, not a status


def _review_event(learned: Learned) -> Event | None:
    """How a payment in review ends, where it was not approved."""
    if isinstance(learned, Declined) and learned.undecided is not None:
        return _UNDECIDED[learned.undecided]
    return Event.DECLINED if isinstance(learned, Declined | Rejected) else _EFFECT[type(learned)][1]


_PAYMENT_EVENTS: Final = {status: f"payment.{status}" for status in Status}


def _event_name(operation: Operation, state: str, status: Status) -> str:
    """`payment.captured`, `refund.succeeded`, `capture.failed`: what the merchant sees."""
    if operation.kind in CREATES:
        return _PAYMENT_EVENTS[status]
    if operation.kind == "refund":
        return f"refund.{REFUND_STATUS[state]}"
    if operation.kind in REVIEWS and status != Status.IN_REVIEW:
        return _PAYMENT_EVENTS[status]
    return _PAYMENT_EVENTS[status] if state == "approved" else f"{operation.kind}.failed"
