"""What can come of the money calls, told by `decide` itself: every reply, and the rows after it."""

import json
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from easypay import ids
from easypay.api.examples import (
    AT,
    BY_STORED,
    CALLER,
    CUSTOMER_UUID,
    HOLD,
    MERCHANT_UUID,
    METHOD_UUID,
    SALE,
    example_id,
)
from easypay.api.http import encode
from easypay.clock import rfc3339
from easypay.customers.paying import PayableMethod
from easypay.payments.begin import Ask, new_operation, new_payment
from easypay.payments.model import Kind, Operation, Payment
from easypay.payments.outcome_changes import Evidence, Learned, decide, payment_after
from easypay.payments.requests import CreatePayment
from easypay.payments.views import event_view
from easypay.processors.base import (
    Absent,
    Approved,
    AvsMatch,
    CvvMatch,
    Declined,
    HeldForReview,
    Rejected,
    Unknown,
)
from easypay.processors.customer_vault import MethodIds

PROCESSOR: Final = "authorize_net"


def as_json(value: Any) -> Any:
    """A view as the client gets it, in plain JSON values."""
    return json.loads(encode(value))


class Told(msgspec.Struct, frozen=True):
    """An operation after its outcome: the reply, and the rows."""

    status: int
    value: Any
    payment: Payment
    operation: Operation
    event: dict[str, Any] | None


STORED: Final = PayableMethod(
    method_id=METHOD_UUID,
    customer_id=CUSTOMER_UUID,
    login_id=MERCHANT_UUID,
    processor=PROCESSOR,
    ids=MethodIds("39598611", "35000411"),
    type="card",
    brand="visa",
    last4="1111",
    exp_month=12,
    exp_year=2030,
    card_fingerprint=None,
    network_transaction_id=None,
    stored_at_ms=0,
)


def _intent(
    body: CreatePayment, name: str = "first", stored: PayableMethod | None = None
) -> tuple[Payment, Operation]:
    """A payment and its first operation as they stand when the processor is called."""
    ask = Ask(CALLER, name, bytes(32))
    new = new_payment(ask, body, PROCESSOR, lambda number: bytes(32), AT, stored)
    payment = replace(new.payment, id=example_id(ids.PAYMENT, name), active_operation=None)
    return payment, _operation(payment, new.operation.kind, body.amount, at=AT)


def _operation(payment: Payment, kind: Kind, amount: int, at: datetime) -> Operation:
    operation_id = example_id(ids.OPERATION, f"{kind} {payment.id}", at)
    return new_operation(payment, operation_id, kind, amount, at)


def _learn(
    operation: Operation, payment: Payment, learned: Learned, *, ms: int = 412, **more: Any
) -> Told:
    at = operation.begun_at + timedelta(milliseconds=ms)
    change = decide(
        operation, payment, learned, at=at, first_inquiry_s=5, processor_us=ms * 1000, **more
    )
    effect = change.effect
    assert effect.reply_status is not None
    assert effect.reply_body is not None
    finished = replace(
        operation,
        state=effect.state,
        evidence=effect.evidence,
        processor_us=effect.processor_us,
        reply_status=effect.reply_status,
        reply_body=effect.reply_body,
        finished_at=effect.finished_at,
        voided=effect.voided,
        answer=change.answer,
    )
    event = None
    if change.event_type is not None and change.event_id is not None:
        row = (
            *(example_id(ids.EVENT, change.event_type, at), change.event_type, payment.id),
            *(operation.id, change.payment.status_to, operation.amount_minor),
            *(operation.currency, at),
        )
        event = as_json(event_view(row))
    after = payment
    if change.payment.moves_payment:
        after = payment_after(payment, change.payment, change.answer, at)
    return Told(effect.reply_status, json.loads(effect.reply_body), after, finished, event)


_YES: Final = Approved(
    transaction_id="60198237461", auth_code="HH5414", avs_result="Y", avs=AvsMatch.FULL_MATCH,
    cvv_result="P", cvv=CvvMatch.NOT_PROCESSED, code="1",
    message="This transaction has been approved.", network_transaction_id="8QZ5VX2MQ1T7B0RLW94KC2D",
)  # fmt: skip
_NO: Final = Declined(
    decline_code="generic_decline", code="2", message="This transaction has been declined.",
    transaction_id="60198237462", avs_result="Y", avs=AvsMatch.FULL_MATCH, cvv_result="P",
    cvv=CvvMatch.NOT_PROCESSED, retry="later",
)  # fmt: skip
_REFUSED: Final = Rejected(
    code="8", message="The credit card has expired.", decline_code="expired_card", retry="fix_data"
)
_UNSETTLED: Final = Rejected(
    decline_code="not_refundable", code="54",
    message="The referenced transaction does not meet the criteria for issuing a credit.",
    retry="later",
)  # fmt: skip
_NO_SUCH: Final = Rejected(
    decline_code="transaction_not_found", code="16", message="The transaction cannot be found."
)
_TOO_LATE: Final = Rejected(
    decline_code="not_voidable", code="327",
    message="The void request failed. Either the original transaction type does not support void, "
    "or the transaction is in the process of being settled.",
)  # fmt: skip
_TOO_MUCH: Final = Rejected(
    decline_code="amount_exceeds_authorization", code="47",
    message="The amount requested for settlement cannot be greater than the original amount "
    "authorized.",
)  # fmt: skip
_TOO_MUCH_BACK: Final = Rejected(
    decline_code="amount_exceeds_captured", code="55",
    message="The sum of credits against the referenced transaction would exceed original debit "
    "amount.",
)  # fmt: skip
_NOT_THIS: Final = Rejected(
    decline_code="transaction_not_allowed", code="128",
    message="This transaction cannot be processed.",
)  # fmt: skip
_NOT_SET_UP: Final = Rejected(
    decline_code="account_not_set_up", code="30",
    message="The configuration with processor is invalid. Call Merchant Service Provider.",
)  # fmt: skip
_NOT_READY: Final = Rejected(
    decline_code="processor_unavailable", code="901",
    message="This transaction cannot be accepted at this time due to system maintenance. Please "
    "try again later.",
)  # fmt: skip
_ENDED: Final = Declined(
    decline_code="fraud_suspected", code="254", message="This transaction has been declined.",
    retry="never",
)  # fmt: skip
_LOST: Final = Unknown(reason="no answer within the deadline")
_ABSENT: Final = Absent(searched="unsettled and settled transactions")


_ABSENT_EVIDENCE: Final = Evidence(
    source="inquiry",
    finding=f"absent: no charge was found in {_ABSENT.searched}; time has passed",
    inquiries=3,
    at=rfc3339(AT + timedelta(minutes=16)),
)
_DONE: Final = Approved(transaction_id="60198237463", code="1", message=_YES.message)

_Rows = tuple[Payment, Operation]


class _Stories(dict[str, Told]):
    def tell(self, name: str, rows: _Rows, learned: Learned, **more: Any) -> Payment:
        """Tell what comes of an operation. Returns the payment after it."""
        self[name] = _learn(rows[1], rows[0], learned, **more)
        return self[name].payment

    def refuse(self, name: str, rows: _Rows, *answers: Rejected) -> None:
        endings = ("rejected", "invalid_state", "not_set_up", "not_ready")
        for ending, answer in zip(endings, (*answers, _NOT_SET_UP, _NOT_READY), strict=True):
            self.tell(f"{name}_{ending}", rows, answer)


@cache
def stories() -> dict[str, Told]:
    """Everything that can come of the four money calls, by name."""
    told = _Stories()
    captured, held, in_review = _create(told)
    _capture(told, held)
    _void(told, held, captured)
    _review(told, in_review)
    _refund(told, captured)
    return told


def _create(told: _Stories) -> tuple[Payment, Payment, Payment]:
    sale = _intent(msgspec.convert(SALE, CreatePayment))
    hold = _intent(msgspec.convert(HOLD, CreatePayment))
    captured = told.tell("captured", sale, _YES)
    again, operation = _intent(msgspec.convert(SALE, CreatePayment), "second")
    again = replace(again, possible_duplicate_of=captured.id)
    told.tell("flagged", (again, operation), replace(_YES, transaction_id="60198237466"))
    by_stored = _intent(msgspec.convert(BY_STORED, CreatePayment), "stored", STORED)
    told.tell("by_stored", by_stored, replace(_YES, transaction_id="60198237467"))
    held = told.tell("authorized", hold, replace(_YES, transaction_id="60198237463"))
    told.tell("declined", _intent(msgspec.convert(SALE, CreatePayment), "second"), _NO)
    in_review = told.tell(
        "in_review",
        sale,
        HeldForReview(
            transaction_id="60198237464", auth_code="HH5414", avs_result="N", avs=AvsMatch.NO_MATCH,
            cvv_result="P", cvv=CvvMatch.NOT_PROCESSED, code="252",
            message="Your order has been received. Thank you for your business!",
        ),
    )  # fmt: skip
    told.tell("never_happened", sale, _ABSENT, ms=960_000, evidence=_ABSENT_EVIDENCE)
    told.tell("processing", sale, _LOST, ms=10_000)
    told.refuse("create", sale, _REFUSED, _NO_SUCH)
    return captured, held, in_review


def _follow(kind: Kind, payment: Payment, amount: int) -> _Rows:
    return payment, _operation(payment, kind, amount, payment.updated_at + timedelta(hours=2))


def _capture(told: _Stories, held: Payment) -> None:
    whole = _follow(Kind.CAPTURE, held, held.authorized_minor)
    told.tell("capture", whole, _DONE)
    told.tell("capture_part", _follow(Kind.CAPTURE, held, 10_000), _DONE)
    told.tell("capture_unknown", whole, _LOST, ms=10_000)
    told.refuse("capture", whole, _TOO_MUCH, _NO_SUCH)
    told.tell("capture_absent", whole, _ABSENT)


def _void(told: _Stories, held: Payment, captured: Payment) -> None:
    void = _follow(Kind.VOID, held, held.amount_minor)
    told.tell("void", void, _DONE)
    undo = _follow(Kind.VOID, captured, captured.amount_minor)
    told.tell("void_capture", undo, replace(_DONE, transaction_id=_YES.transaction_id))
    told.tell("void_unknown", void, _LOST, ms=10_000)
    told.refuse("void", void, _NOT_THIS, _TOO_LATE)
    told.tell("void_absent", void, _ABSENT)


def _review(told: _Stories, in_review: Payment) -> None:
    for kind in (Kind.APPROVE, Kind.DECLINE):
        reviewed = _follow(kind, in_review, in_review.amount_minor)
        ended = replace(_ENDED if kind is Kind.DECLINE else _DONE, transaction_id="60198237464")
        told.tell(kind, reviewed, ended)
        told.tell(f"{kind}_unknown", reviewed, _LOST, ms=10_000)
        told.refuse(kind, reviewed, _NOT_THIS, _NO_SUCH)
        told.tell(f"{kind}_absent", reviewed, _ABSENT)


def _refund(told: _Stories, captured: Payment) -> None:
    refund = _follow(Kind.REFUND, captured, 1_000)
    told.tell("refund", refund, replace(_DONE, transaction_id="60198237465"))
    all_of_it = _follow(Kind.REFUND, captured, captured.captured_minor)
    undone = replace(_DONE, transaction_id=_YES.transaction_id, voided=True)
    told.tell("refund_void", all_of_it, undone)
    told.tell("refund_not_settled", refund, replace(_UNSETTLED, not_settled=True))
    declined = replace(_NO, avs_result=None, avs=None, cvv_result=None, cvv=None)
    told.tell("refund_failed", refund, declined)
    told.tell("refund_unknown", refund, _LOST, ms=10_000)
    told.refuse("refund", refund, _TOO_MUCH_BACK, _UNSETTLED)
    told.tell("refund_absent", refund, _ABSENT, ms=960_000, evidence=_ABSENT_EVIDENCE)
