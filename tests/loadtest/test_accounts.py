"""Each kind of wrong payment gives its own sentence, and a correct payment gives none."""

from typing import Any

import pytest

from easypay_bench.loadtest.accounts import compare

Row = dict[str, Any]


def payment(status: str = "captured", **over: Any) -> Row:
    taken = 2500 if status == "captured" else 0
    made: Row = {
        "id": "pay_1", "status": status, "amount": 2500, "captured_amount": taken,
        "refunded_amount": 0, "processor": {"transaction_id": "60001"},
    }  # fmt: skip
    return made | over


def row(kind: str = "authCapture", amount: str = "25.00", **over: Any) -> Row:
    made: Row = {
        "type": f"{kind}Transaction", "trans_id": "60001", "amount": amount,
        "response_code": "1", "ref_trans_id": None,
    }  # fmt: skip
    return made | over


REFUND = row("refund", trans_id="60002", ref_trans_id="60001", amount="10.00")
HELD = row("authOnly")
CAPTURE = row("priorAuthCapture")
VOID = row("void", amount="0.00")
NO = {"response_code": "2"}
NOWHERE = {"processor": {"transaction_id": None}}


@pytest.mark.parametrize(
    ("paid", "rows"),
    [
        (payment(), [row()]),
        (payment(), [HELD, CAPTURE]),
        (payment(captured_amount=2000), [HELD, row("priorAuthCapture", "20.00")]),
        (payment("authorized"), [HELD]),
        (payment("voided"), [HELD, VOID]),
        (payment("voided"), [row(), VOID]),
        (payment("declined"), [row(**NO)]),
        (payment("failed", **NOWHERE), []),
        (payment(refunded_amount=1000), [row(), REFUND]),
        (payment(), [row(), REFUND | NO]),
        (payment(refunded_amount=2500), [row(), VOID]),  # before settlement, a refund is a void
    ],
)
def test_matching_payments_give_no_complaint(paid: Row, rows: list[Row]) -> None:
    assert compare([paid], rows, created=1) == []


@pytest.mark.parametrize(
    ("paid", "rows", "complaint"),
    [
        (payment(), [row(), row()], "pay_1 is captured: 2 charges"),
        (payment(), [row(), row(trans_id="60009")], "charged 60009, which the gateway does not"),
        (payment(), [], "pay_1 is captured: 0 charges"),
        (payment(), [row(**NO)], "1 charges at the processor"),
        (payment(), [row(amount="25.01")], "charged 25.01, asked for 2500"),
        (payment("authorized"), [], "0 charges"),
        (payment("authorized"), [HELD, CAPTURE], "captured at the processor"),
        (payment("authorized"), [HELD, VOID], "1 voids"),
        (payment(), [HELD, CAPTURE, CAPTURE], "captured 5000 there, 2500 here"),
        (payment(), [HELD, row("priorAuthCapture", "20.00")], "captured 2000 there, 2500 here"),
        (payment("voided"), [HELD], "0 voids"),
        (payment("voided"), [HELD, VOID, VOID], "2 voids"),
        (payment("declined"), [row()], "approved at the processor"),
        (payment("failed", **NOWHERE), [row()], "charged 60001, which the gateway does not know"),
        (payment(), [row(), REFUND], "refunded 1000 there, 0 here"),
        (payment(), [row(), VOID], "refunded 2500 there, 0 here"),
        (payment(refunded_amount=1000), [row(), VOID], "refunded 2500 there, 1000 here"),
        (payment(refunded_amount=1000), [row()], "refunded 0 there, 1000 here"),
        (payment(refunded_amount=1000), [row(), REFUND, REFUND], "refunded 2000 there, 1000 here"),
        (payment(), [row(), REFUND | {"ref_trans_id": "60009"}], "refunded 60009, which"),
        (payment("processing", **NOWHERE), [], "1 payments are still processing"),
    ],
)
def test_mismatches_are_reported(paid: Row, rows: list[Row], complaint: str) -> None:
    wrong = compare([paid], rows, created=1)
    assert any(complaint in each for each in wrong), wrong


@pytest.mark.parametrize(
    ("created", "unanswered", "right"),
    [(2, 0, True), (1, 1, True), (0, 5, True), (1, 0, False), (3, 0, False), (3, 5, False)],
)
def test_payments_must_match_answers(created: int, unanswered: int, right: bool) -> None:
    """A request without an answer may have made a payment; an answered one must have."""
    both = [payment(), payment(id="pay_2", processor={"transaction_id": "60002"})]
    rows = [row(), row(trans_id="60002")]
    wrong = compare(both, rows, created=created, unanswered=unanswered)
    assert (wrong == []) == right
    assert right or "payments were answered for, the gateway has 2" in wrong[0]


def test_payments_of_other_users_of_the_account_are_ignored() -> None:
    rows = [row(), row(trans_id="60009")]
    assert compare([payment()], rows, created=1, ours_alone=False) == []


def test_without_the_processors_records_only_the_count_is_checked() -> None:
    assert compare([payment()], None, created=1) == []
    assert compare([payment()], None, created=2) != []


def test_a_thousand_complaints_become_a_few_lines() -> None:
    lost = [payment(id=f"pay_{number}") for number in range(1000)]
    wrong = compare(lost, [], created=1000)
    assert len(wrong) == 6
    assert wrong[-1] == "... and 1995 more like it", "not charged, and not captured"
