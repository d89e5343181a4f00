"""What a payment and an operation are, how they look outside, and what an outcome changes.

Pure: nothing here waits or writes. Field order of `Payment`, `Operation` and `Change` is the
column order of the statements in `store.py`.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.errors import EasyPayError, NotExecuted, ProcessorRejected
from easypay.payments.status import Event, Status, advance
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

EXCLUSIVE: Final = frozenset({"authorize", "sale", "capture", "void"})
"""Kinds of operation that hold their payment alone; refunds share it and reserve an amount."""

CREATES: Final = frozenset({"authorize", "sale"})
OPEN_STATES: Final = frozenset({"in_flight", "unknown", "not_sent"})


class Payment(msgspec.Struct, frozen=True, gc=False):
    """One row of `payments`."""

    merchant_id: UUID
    id: UUID
    mode: str
    status: str
    amount_minor: int
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    refund_reserved_minor: int
    version: int
    currency: str
    capture: str
    active_operation: UUID | None
    method_type: str
    card_brand: str | None
    card_last4: str | None
    card_exp_month: int | None
    card_exp_year: int | None
    decline_code: str | None
    processor: str
    transaction_id: str | None
    network_transaction_id: str | None
    auth_code: str | None
    avs_result: str | None
    cvv_result: str | None
    processor_code: str | None
    processor_message: str | None
    order_reference: str | None
    customer_reference: str | None
    description: str | None
    statement_descriptor: str | None
    metadata: str | None
    settled_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def refundable_minor(self) -> int:
        """What is left to refund, not counting refunds whose outcome is open."""
        return self.captured_minor - self.refunded_minor - self.refund_reserved_minor


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One row of `operations`: one call to a processor."""

    merchant_id: UUID
    id: UUID
    payment_id: UUID
    mode: str
    kind: str
    state: str
    attempt: int
    amount_minor: int
    currency: str
    reference: str
    parent_transaction_id: str | None
    transaction_id: str | None
    auth_code: str | None
    decline_code: str | None
    processor_code: str | None
    processor_message: str | None
    evidence: str | None
    processor_us: int | None
    reply_status: int | None
    reply_body: bytes | None
    begun_at: datetime
    finished_at: datetime | None


# How they look outside -----------------------------------------------------------------------


class PaymentMethodView(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of the card: enough to recognise it, never enough to use it."""

    type: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None


class ProcessorView(msgspec.Struct, frozen=True, gc=False):
    """What the processor said, its codes verbatim."""

    name: str
    transaction_id: str | None
    auth_code: str | None
    avs_result: str | None
    cvv_result: str | None
    code: str | None
    message: str | None


class PaymentView(msgspec.Struct, frozen=True, gc=False):
    """A payment. Amounts are integers of minor units (cents for USD) of `currency`."""

    id: str
    status: Status
    amount: int
    currency: str
    captured_amount: int
    refunded_amount: int
    capture: str
    payment_method: PaymentMethodView
    decline_code: str | None
    processor: ProcessorView
    order_reference: str | None
    customer_reference: str | None
    description: str | None
    statement_descriptor: str | None
    metadata: dict[str, str]
    mode: str
    version: int
    created_at: str
    updated_at: str


class RefundView(msgspec.Struct, frozen=True, gc=False):
    """A refund: `processing` until its outcome is known, then `succeeded` or `failed`."""

    id: str
    payment_id: str
    status: str
    amount: int
    currency: str
    decline_code: str | None
    processor: ProcessorView
    mode: str
    created_at: str
    updated_at: str


class OperationView(msgspec.Struct, frozen=True, gc=False):
    """One call to the processor: what was asked, under which reference, and what came of it."""

    id: str
    payment_id: str
    kind: str
    state: str
    amount: int
    currency: str
    reference: str
    attempt: int
    decline_code: str | None
    processor: ProcessorView
    processor_ms: float | None
    evidence: msgspec.Raw | None
    begun_at: str
    finished_at: str | None


_json = msgspec.json.Encoder()
_metadata = msgspec.json.Decoder(dict[str, str])


def payment_view(payment: Payment) -> PaymentView:
    """A payment as the API shows it."""
    return PaymentView(
        id=ids.typed(ids.PAYMENT, payment.id),
        status=Status(payment.status),
        amount=payment.amount_minor,
        currency=payment.currency,
        captured_amount=payment.captured_minor,
        refunded_amount=payment.refunded_minor,
        capture=payment.capture,
        payment_method=PaymentMethodView(
            payment.method_type,
            payment.card_brand,
            payment.card_last4,
            payment.card_exp_month,
            payment.card_exp_year,
        ),
        decline_code=payment.decline_code,
        processor=ProcessorView(
            payment.processor,
            payment.transaction_id,
            payment.auth_code,
            payment.avs_result,
            payment.cvv_result,
            payment.processor_code,
            payment.processor_message,
        ),
        order_reference=payment.order_reference,
        customer_reference=payment.customer_reference,
        description=payment.description,
        statement_descriptor=payment.statement_descriptor,
        metadata=_metadata.decode(payment.metadata) if payment.metadata else {},
        mode=payment.mode,
        version=payment.version,
        created_at=rfc3339(payment.created_at),
        updated_at=rfc3339(payment.updated_at),
    )


REFUND_STATUS: Final = {
    "in_flight": "processing",
    "unknown": "processing",
    "not_sent": "processing",
    "held": "processing",
    "approved": "succeeded",
    "declined": "failed",
    "rejected": "failed",
    "absent": "failed",
}


def refund_view(operation: Operation) -> RefundView:
    """A refund as the API shows it: an operation of kind refund."""
    return RefundView(
        id=ids.typed(ids.REFUND, operation.id),
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        status=REFUND_STATUS[operation.state],
        amount=operation.amount_minor,
        currency=operation.currency,
        decline_code=operation.decline_code,
        processor=_operation_processor(operation),
        mode=operation.mode,
        created_at=rfc3339(ids.moment_of(operation.id)),
        updated_at=rfc3339(operation.finished_at or operation.begun_at),
    )


def operation_view(operation: Operation) -> OperationView:
    """An operation as the API shows it."""
    return OperationView(
        id=ids.typed(ids.OPERATION, operation.id),
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        kind=operation.kind,
        state=operation.state,
        amount=operation.amount_minor,
        currency=operation.currency,
        reference=operation.reference,
        attempt=operation.attempt,
        decline_code=operation.decline_code,
        processor=_operation_processor(operation),
        processor_ms=None if operation.processor_us is None else operation.processor_us / 1000,
        evidence=None if operation.evidence is None else msgspec.Raw(operation.evidence.encode()),
        begun_at=rfc3339(operation.begun_at),
        finished_at=None if operation.finished_at is None else rfc3339(operation.finished_at),
    )


def _operation_processor(operation: Operation) -> ProcessorView:
    return ProcessorView(
        "authorize_net",
        operation.transaction_id,
        operation.auth_code,
        None,
        None,
        operation.processor_code,
        operation.processor_message,
    )


def body_of(view: PaymentView | RefundView) -> bytes:
    """The JSON that is sent and stored, byte for byte."""
    return _json.encode(view)


# What an outcome changes ---------------------------------------------------------------------


class Change(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything one learned outcome does to the rows. Field order is recorded_change's."""

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

Learned = Outcome | Absent
"""What can be learned of an operation: a call's outcome, or proof that it never happened."""


def decide(
    operation: Operation,
    payment: Payment,
    learned: Learned,
    *,
    at: datetime,
    first_inquiry_s: float,
    processor_us: int | None = None,
    evidence: Evidence | None = None,
) -> Change:
    """What `learned` changes, given the operation and its payment as they were at its begin.

    `at` stamps the change. `first_inquiry_s` is when the resolver first asks about an unknown.
    Raises InvalidState where the status table has no such edge.
    """
    if isinstance(learned, HeldForReview) and operation.kind not in CREATES:
        learned = Unknown(reason="held for review, which only an inquiry can end")
    match learned:
        case Unknown() | NotSent():
            return _open_change(operation, payment, learned, at, first_inquiry_s, processor_us)
        case Approved() | Declined() | Rejected() | HeldForReview() | Absent():
            return _final_change(operation, payment, learned, at, processor_us, evidence)
        case _:
            assert_never(learned)


def _open_change(
    operation: Operation,
    payment: Payment,
    learned: Unknown | NotSent,
    at: datetime,
    first_inquiry_s: float,
    processor_us: int | None,
) -> Change:
    """Nothing learned, nothing moves. An unknown is answered 202; a not-sent may be repeated."""
    unknown = isinstance(learned, Unknown)
    refund = operation.kind == "refund"
    reply = None
    if unknown:
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
        reply_status=202 if unknown else None,
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
        next_inquiry_at=at + timedelta(seconds=first_inquiry_s),
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
    describes = operation.kind in CREATES
    refund = operation.kind == "refund"
    state = _EFFECT[type(learned)][0]
    event = _payment_event(operation, learned, late=late)
    status = Status(payment.status) if event is None else advance(Status(payment.status), event)
    authorized, captured = _amounts_after(operation, payment, approved=approved)
    said = _said(learned)
    reply_status, reply_body = 201, b""
    refusal = _refusal(operation, learned)
    if refusal is not None:
        reply_status, reply_body = refusal.http_status, _refused(operation, said, refusal)
    elif refund:
        reply_body = body_of(refund_view(_operation_after(operation, state, said, at)))
    else:
        after = _payment_after(
            payment, status, authorized, captured, said if describes else None, at
        )
        reply_body = body_of(payment_view(after))

    return Change(
        merchant_id=operation.merchant_id,
        mode=operation.mode,
        payment_id=operation.payment_id,
        operation_id=operation.id,
        attempt=operation.attempt,
        from_states="absent" if late else "in_flight unknown not_sent",
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
        refunded_delta=operation.amount_minor if refund and approved else 0,
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
    )


def _amounts_after(operation: Operation, payment: Payment, *, approved: bool) -> tuple[int, int]:
    """(authorized, captured) after an operation, minor units. Refunds change neither."""
    if not approved:
        return payment.authorized_minor, payment.captured_minor
    match operation.kind:
        case "sale":
            return operation.amount_minor, operation.amount_minor
        case "authorize":
            return operation.amount_minor, 0
        case "capture":
            return payment.authorized_minor, operation.amount_minor
        case "void":
            return payment.authorized_minor, 0
        case _:
            return payment.authorized_minor, payment.captured_minor


class Said(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the processor said of one operation, its words verbatim; None where it was silent."""

    transaction_id: str | None = None
    auth_code: str | None = None
    decline_code: str | None = None
    code: str | None = None
    message: str | None = None
    avs_result: str | None = None
    cvv_result: str | None = None
    network_transaction_id: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None


def _said(learned: Approved | Declined | Rejected | HeldForReview | Absent) -> Said:
    match learned:
        case Approved() | HeldForReview():
            network = learned.network_transaction_id if isinstance(learned, Approved) else None
            return Said(
                transaction_id=learned.transaction_id,
                auth_code=learned.auth_code,
                code=learned.code,
                message=learned.message,
                avs_result=learned.avs_result,
                cvv_result=learned.cvv_result,
                network_transaction_id=network,
                card_brand=learned.card_brand,
                card_last4=learned.card_last4,
            )
        case Declined():
            return Said(
                transaction_id=learned.transaction_id,
                decline_code=learned.decline_code,
                code=learned.code,
                message=learned.message,
                avs_result=learned.avs_result,
                cvv_result=learned.cvv_result,
                card_brand=learned.card_brand,
                card_last4=learned.card_last4,
            )
        case Rejected():
            return Said(
                decline_code=learned.decline_code, code=learned.code, message=learned.message
            )
        case Absent():
            return Said(message="The processor never received this request.")


def _operation_after(operation: Operation, state: str, said: Said, at: datetime) -> Operation:
    return msgspec.structs.replace(
        operation,
        state=state,
        transaction_id=said.transaction_id,
        auth_code=said.auth_code,
        decline_code=said.decline_code,
        processor_code=said.code,
        processor_message=said.message,
        finished_at=at,
    )


def _payment_after(
    payment: Payment,
    status: Status,
    authorized: int,
    captured: int,
    said: Said | None,
    at: datetime,
) -> Payment:
    """The payment as RECORD leaves it. `said` is None where it does not describe the payment."""
    after = msgspec.structs.replace(
        payment,
        status=status,
        authorized_minor=authorized,
        captured_minor=captured,
        version=payment.version + 1,
        active_operation=None,
        updated_at=at,
    )
    if said is None:
        return after
    return msgspec.structs.replace(
        after,
        decline_code=said.decline_code,
        transaction_id=said.transaction_id,
        auth_code=said.auth_code,
        avs_result=said.avs_result,
        cvv_result=said.cvv_result,
        processor_code=said.code,
        processor_message=said.message,
        card_brand=payment.card_brand or said.card_brand,
        card_last4=payment.card_last4 or said.card_last4,
    )


def _refusal(operation: Operation, learned: Learned) -> EasyPayError | None:
    """The problem where there is no resource to show for the request."""
    follow_up = operation.kind in ("capture", "void")
    if isinstance(learned, Rejected) or (isinstance(learned, Declined) and follow_up):
        return ProcessorRejected(
            f"The processor refused the {operation.kind}: {learned.message} (code {learned.code}). "
            "No money moved. Correct the cause and send a new request with a new Idempotency-Key."
        )
    if isinstance(learned, Absent) and follow_up:
        return NotExecuted(
            f"The {operation.kind} never reached the processor and was given up. "
            "Send a new request with a new Idempotency-Key."
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


def _payment_event(operation: Operation, learned: Learned, *, late: bool) -> Event | None:
    _, created, captured, voided = _EFFECT[type(learned)]
    match operation.kind:
        case "authorize" if isinstance(learned, Approved):
            return Event.FOUND_AUTHORIZED if late else Event.AUTHORIZED
        case "sale" if isinstance(learned, Approved):
            return Event.FOUND_CAPTURED if late else Event.CAPTURED
        case "authorize" | "sale":
            return created
        case "capture":
            return captured
        case "void":
            return voided
        case _:
            return None  # a refund is an amount, not a status


def _event_name(operation: Operation, state: str, status: Status) -> str:
    """`payment.captured`, `refund.succeeded`, `capture.failed`: what the merchant sees."""
    if operation.kind in CREATES:
        return f"payment.{status}"
    if operation.kind == "refund":
        return f"refund.{REFUND_STATUS[state]}"
    return f"payment.{status}" if state == "approved" else f"{operation.kind}.failed"
