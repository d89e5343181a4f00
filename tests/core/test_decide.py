"""What each outcome of each kind of operation changes, as a table of every pair."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from easypay import ids
from easypay.errors import (
    AmountExceedsAuthorized,
    AmountExceedsCaptured,
    InvalidState,
    RequestInProgress,
)
from easypay.payment_details import NO_DETAILS
from easypay.payments.begin import new_operation
from easypay.payments.model import Kind, Operation, Payment, State, Status
from easypay.payments.outcome_changes import Change, Learned, decide
from easypay.payments.refusals import why_not
from easypay.processors.base import (
    Absent,
    Approved,
    AvsMatch,
    Declined,
    HeldForReview,
    NotSent,
    ProcessorAnswer,
    Rejected,
    Unknown,
)

AT = datetime(2026, 11, 24, 4, 5, 6, tzinfo=UTC)
PAID = Approved(transaction_id="601", auth_code="ABC123", avs_result="Y", code="1")
LEARNED: dict[str, Learned] = {
    "approved": PAID,
    "voided": Approved(transaction_id="601", voided=True),
    "declined": Declined(decline_code="generic_decline", code="2", message="Declined."),
    "rejected": Rejected(code="E1", message="No."),
    "not_settled": Rejected(code="54", message="Not yet.", not_settled=True),
    "held": HeldForReview(transaction_id="601"),
    "absent": Absent(searched="everywhere"),
    "not_sent": NotSent(reason="refused"),
    "unknown": Unknown(reason="timeout"),
}
# kind and outcome: the operation's state, the payment's status, authorized, captured, changes of
# refunded and reserved, the response's status, the event.
TABLE = """
authorize approved approved authorized 2500 0    0 0     201 payment.authorized
authorize declined declined declined   0    0    0 0     201 payment.declined
authorize rejected rejected failed     0    0    0 0     422 payment.failed
authorize held     held     in_review  0    0    0 0     201 payment.in_review
authorize absent   absent   failed     0    0    0 0     201 payment.failed
authorize not_sent not_sent processing 0    0    0 0     -   -
authorize unknown  unknown  processing 0    0    0 0     202 -
sale      approved approved captured   2500 2500 0 0     201 payment.captured
sale      declined declined declined   0    0    0 0     201 payment.declined
sale      rejected rejected failed     0    0    0 0     422 payment.failed
sale      held     held     in_review  0    0    0 0     201 payment.in_review
sale      absent   absent   failed     0    0    0 0     201 payment.failed
sale      not_sent not_sent processing 0    0    0 0     -   -
sale      unknown  unknown  processing 0    0    0 0     202 -
capture   approved approved captured   2500 1000 0 0     201 payment.captured
capture   declined declined authorized 2500 0    0 0     422 capture.failed
capture   rejected rejected authorized 2500 0    0 0     422 capture.failed
capture   held     unknown  authorized 2500 0    0 0     202 -
capture   absent   absent   authorized 2500 0    0 0     409 capture.failed
capture   not_sent not_sent authorized 2500 0    0 0     -   -
capture   unknown  unknown  authorized 2500 0    0 0     202 -
void      approved approved voided     2500 0    0 0     201 payment.voided
void      declined declined captured   2500 2500 0 0     422 void.failed
void      rejected rejected captured   2500 2500 0 0     422 void.failed
void      held     unknown  captured   2500 2500 0 0     202 -
void      absent   absent   captured   2500 2500 0 0     409 void.failed
void      not_sent not_sent captured   2500 2500 0 0     -   -
void      unknown  unknown  captured   2500 2500 0 0     202 -
approve   approved approved captured   2500 2500 0 0     201 payment.captured
approve   declined declined declined   0    0    0 0     201 payment.declined
approve   rejected rejected in_review  0    0    0 0     422 approve.failed
approve   held     unknown  in_review  0    0    0 0     202 -
approve   absent   absent   in_review  0    0    0 0     409 approve.failed
approve   not_sent not_sent in_review  0    0    0 0     -   -
approve   unknown  unknown  in_review  0    0    0 0     202 -
decline   approved rejected captured   2500 2500 0 0     201 payment.captured
decline   declined approved declined   0    0    0 0     201 payment.declined
decline   rejected rejected in_review  0    0    0 0     422 decline.failed
decline   held     unknown  in_review  0    0    0 0     202 -
decline   absent   absent   in_review  0    0    0 0     409 decline.failed
decline   not_sent not_sent in_review  0    0    0 0     -   -
decline   unknown  unknown  in_review  0    0    0 0     202 -
refund    approved approved captured   2500 2500 1000 -1000 201 refund.succeeded
refund    declined declined captured   2500 2500 0 -1000 201 refund.failed
refund    rejected rejected captured   2500 2500 0 -1000 422 refund.failed
refund    held     unknown  captured   2500 2500 0 0     202 -
refund    absent   absent   captured   2500 2500 0 -1000 201 refund.failed
refund    not_sent not_sent captured   2500 2500 0 0     -   -
refund    unknown  unknown  captured   2500 2500 0 0     202 -
refund    voided   approved voided     2500 0    0 -1000 201 refund.succeeded
refund    not_settled rejected captured 2500 2500 0 -1000 409 refund.failed
"""
ROWS = [tuple(line.split()) for line in TABLE.strip().splitlines()]
OF_REFUNDS = {"voided", "not_settled"}
BEFORE = {
    "authorize": ("processing", 0, 0),
    "sale": ("processing", 0, 0),
    "capture": ("authorized", 2500, 0),
    "void": ("captured", 2500, 2500),
    "approve": ("in_review", 0, 0),
    "decline": ("in_review", 0, 0),
    "refund": ("captured", 2500, 2500),
}


def rows_of(kind: str, **over: Any) -> tuple[Operation, Payment]:
    """Return an open operation of 25.00 (captures, refunds: 10.00) and its payment."""
    status, authorized, captured = BEFORE[kind]
    empty: dict[str, Any] = dict.fromkeys(Payment.__struct_fields__)
    operation_id = ids.new_id()
    payment = Payment(
        **empty
        | {
            "merchant_id": UUID(int=1),
            "id": ids.new_id(),
            "mode": "test",
            "status": Status(status),
            "amount_minor": 2500,
            "authorized_minor": authorized,
            "captured_minor": captured,
            "refunded_minor": 0,
            "refund_reserved_minor": 1000 if kind == "refund" else 0,
            "version": 1,
            "currency": "USD",
            "capture": "automatic",
            "active_operation": None if kind == "refund" else operation_id,
            "method_type": "card",
            "processor": "authorize_net",
            "created_at": AT,
            "updated_at": AT,
            "details": NO_DETAILS,
            "answer": ProcessorAnswer(),
        }
    )
    amount = 1000 if kind in ("capture", "refund") else 2500
    operation = new_operation(payment, operation_id, Kind(kind), amount, AT)
    return msgspec.structs.replace(operation, **over), payment


def decided(
    kind: str, learned: Learned, *, payment: dict[str, Any] | None = None, **over: Any
) -> Change:
    """Return the change. `over` replaces fields of the operation, `payment` of the payment."""
    operation, before = rows_of(kind, **over)
    paid = msgspec.structs.replace(before, **payment or {})
    return decide(operation, paid, learned, at=AT, first_inquiry_s=5, review_interval_s=300)


def moved(change: Change) -> tuple[object, ...]:
    """Return the payment's status, its authorized and captured amounts, and the changes of its
    refunded and reserved amounts."""
    to = change.payment
    money = (to.authorized_minor, to.captured_minor, to.refunded_delta, to.reserved_delta)
    return (to.status_to, *money)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_each_outcome_changes_what_the_table_says(row: tuple[str, ...]) -> None:
    kind, what, state, status, authorized, captured, refunded, reserved, reply, event = row
    change = decided(kind, LEARNED[what])
    assert change.effect.state == state
    assert change.payment.status_from == BEFORE[kind][0]
    assert moved(change) == (status, *map(int, (authorized, captured, refunded, reserved)))
    assert change.effect.reply_status == (None if reply == "-" else int(reply))
    assert change.event_type == (None if event == "-" else event)

    assert change.effect.voided is (what == "voided")

    is_open = state in ("unknown", "not_sent")
    assert change.payment.moves_payment is not is_open
    assert (change.effect.finished_at is None) is is_open
    asked_again = is_open or state == "held"
    assert (change.effect.next_inquiry_at is not None) is asked_again, "open ones get an inquiry"
    assert (change.event_id is None) is is_open
    assert change.effect.from_states == (
        ("in_flight",) if is_open else ("in_flight", "unknown", "not_sent")
    )
    assert (change.effect.reply_body is None) is (change.effect.reply_status is None)
    if change.effect.reply_body is not None:
        body = msgspec.json.decode(change.effect.reply_body)
        if change.effect.reply_status >= 400:
            assert body["code"] == {"not_settled": "not_settled", "absent": "not_executed"}.get(
                what, "processor_rejected"
            )
            assert body["payment_id"] == ids.typed(ids.PAYMENT, change.operation.payment_id)
        elif kind == "refund":
            expected = {"approved": "succeeded", "unknown": "processing"}.get(state, "failed")
            assert body["status"] == expected
        else:
            assert body["status"] == status
            assert body["captured_amount"] == int(captured)


def test_the_table_has_every_pair() -> None:
    assert {(row[0], row[1]) for row in ROWS} == {
        (kind, what)
        for kind in BEFORE
        for what in LEARNED
        if kind == "refund" or what not in OF_REFUNDS
    }


@pytest.mark.parametrize("kind", ["authorize", "sale"])
def test_money_found_after_absence_was_believed_counts(kind: str) -> None:
    failed = {"status": Status.FAILED, "active_operation": None}
    change = decided(kind, PAID, payment=failed, state=State.ABSENT)
    assert change.payment.status_to == ("captured" if kind == "sale" else "authorized")
    assert change.payment.authorized_minor == 2500
    assert change.effect.from_states == ("absent",), "only an absent operation is corrected"


def test_a_refund_found_after_absence_was_believed_has_no_reservation_to_release() -> None:
    change = decided("refund", PAID, state=State.ABSENT)
    assert (change.payment.refunded_delta, change.payment.reserved_delta) == (1000, 0)


# kind and how its review ended: the payment's status, authorized, captured, the event.
REVIEWED = """
authorize approved authorized 2500 0    payment.authorized
authorize declined declined   0    0    payment.declined
authorize rejected declined   0    0    payment.declined
authorize expired  expired    0    0    payment.expired
authorize undone   voided     0    0    payment.voided
sale      approved captured   2500 2500 payment.captured
sale      declined declined   0    0    payment.declined
sale      rejected declined   0    0    payment.declined
sale      expired  expired    0    0    payment.expired
sale      undone   voided     0    0    payment.voided
"""
WAITING = {"status": Status.IN_REVIEW, "active_operation": None}
UNDECIDED = Declined(decline_code="fraud_suspected", code="254", message="", retry="never")
ENDS = LEARNED | {
    "expired": msgspec.structs.replace(UNDECIDED, undecided="expired"),
    "undone": msgspec.structs.replace(UNDECIDED, undecided="voided"),
}


@pytest.mark.parametrize("row", [line.split() for line in REVIEWED.strip().splitlines()])
def test_a_review_ends_as_the_table_says(row: list[str]) -> None:
    kind, what, status, authorized, captured, event = row
    stored = ProcessorAnswer(
        transaction_id="600", auth_code="HELD01", avs_result="N", avs=AvsMatch.NO_MATCH
    )
    change = decided(
        kind,
        ENDS[what],
        payment=WAITING | {"answer": stored},
        state=State.HELD,
        reply_status=201,
        reply_body=b"in review",
    )
    assert change.payment.status_from == "in_review"
    assert moved(change) == (status, int(authorized), int(captured), 0, 0)
    assert change.event_type == event
    assert change.answer.decline_code == ("generic_decline" if what == "declined" else None)
    assert change.effect.from_states == ("held",), "a review ends only a held operation"
    assert change.effect.next_inquiry_at is None
    # Details stored when it was held are kept if the final report omits them.
    assert change.answer.transaction_id == ("601" if what == "approved" else "600")
    assert change.answer.auth_code == ("ABC123" if what == "approved" else "HELD01")
    assert (change.answer.avs_result, change.answer.avs) == (
        ("Y", None) if what == "approved" else ("N", "no_match")
    )


def test_a_held_operation_is_never_called_absent() -> None:
    with pytest.raises(InvalidState):
        decided("sale", LEARNED["absent"], payment=WAITING, state=State.HELD)


def test_a_held_operation_is_polled_seldom() -> None:
    change = decided("sale", LEARNED["held"])
    assert change.effect.next_inquiry_at == AT + timedelta(seconds=300)


def test_a_refund_found_to_be_a_void_after_absence_leaves_nothing_captured() -> None:
    change = decided("refund", LEARNED["voided"], state=State.ABSENT)
    assert moved(change) == ("voided", 2500, 0, 0, 0)
    assert change.effect.voided


def test_an_approved_hold_is_authorized() -> None:
    change = decided("approve", PAID, payment={"capture": "manual"})
    assert moved(change) == ("authorized", 2500, 0, 0, 0)


def test_an_outcome_the_status_table_forbids_is_refused() -> None:
    with pytest.raises(InvalidState):
        decided("capture", PAID, payment={"status": Status.VOIDED})


@pytest.mark.parametrize("kind", ["capture", "refund", "void"])
@pytest.mark.parametrize("amount", [None, 1, 1500])
def test_a_payment_that_allows_an_operation_by_now_is_no_reason_to_refuse_it(
    kind: str, amount: int | None
) -> None:
    """It changed after the begin was refused. What waits in the queue would be ended for ever."""
    _, payment = rows_of(kind)  # of a captured one, 15.00 are left
    free = msgspec.structs.replace(payment, active_operation=None)
    if kind == "void":
        free = msgspec.structs.replace(free, refund_reserved_minor=0)
    refusal = why_not(free, Kind(kind), None if kind == "void" else amount, None)
    assert isinstance(refusal, RequestInProgress), refusal.detail


def test_an_amount_beyond_what_is_left_is_refused_with_what_is_left() -> None:
    _, authorized = rows_of("capture")
    _, captured = rows_of("refund")
    free = msgspec.structs.replace(authorized, active_operation=None)
    refused = why_not(free, Kind.CAPTURE, 2501, None)
    assert isinstance(refused, AmountExceedsAuthorized)
    assert "2501 is more than the 2500 authorized" in refused.detail
    nothing_left = msgspec.structs.replace(captured, refund_reserved_minor=2500)
    for payment, amount in ((captured, 1501), (nothing_left, None), (nothing_left, 1)):
        assert isinstance(why_not(payment, Kind.REFUND, amount, None), AmountExceedsCaptured)
