"""What every Authorize.Net status proves about every kind of operation."""

from typing import Any

import pytest
from msgspec.structs import replace

from easypay.processors.authorize_net import evidence, statuses
from easypay.processors.authorize_net.reporting import Details
from easypay.processors.authorize_net.statuses import COLUMNS, STATUSES, Column
from easypay.processors.base import (
    Absent,
    Approved,
    Declined,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    InquiryRequest,
    ProcessorAnswer,
    Rejected,
)

from .example_requests import authorize_net_account, inquiry
from .outcomes import expect, expect_found, shown_by

ALL = [
    "authorizedPendingCapture",
    "capturedPendingSettlement",
    "communicationError",
    "refundSettledSuccessfully",
    "refundPendingSettlement",
    "approvedReview",
    "declined",
    "couldNotVoid",
    "expired",
    "generalError",
    "pendingFinalSettlement",
    "pendingSettlement",
    "failedReview",
    "settledSuccessfully",
    "settlementError",
    "underReview",
    "updatingSettlement",
    "voided",
    "FDSPendingReview",
    "FDSAuthorizedPendingReview",
    "returnedItem",
    "chargeback",
    "chargebackReversal",
    "authorizedPendingRelease",
]

REFERENCE = "01J8Z0000000000000AB"
TYPES = {"authorize": "authOnlyTransaction", "refund": "refundTransaction"}


def details(status: str, kind: str, **over: Any) -> Details:
    shown = Details(
        transaction_id="60001",
        answer=ProcessorAnswer(
            transaction_id="60001",
            auth_code="AB12CD",
            code="1",
            message="Approval",
            network_transaction_id="NET1",
            card_brand="visa",
            card_last4="1111",
        ),
        parent_id="60000" if kind == "refund" else None,
        status=status,
        type=TYPES.get(kind, "authCaptureTransaction"),
        response_code="1",
        invoice_number=REFERENCE,
        requested_amount="25.00",
        auth_amount="25.00",
        settle_amount="25.00",
        filter_action=None,
    )
    code = over.pop("reason_code", "1")
    return shown._replace(answer=replace(shown.answer, code=code), **over)


def asked(kind: str) -> InquiryRequest:
    return inquiry(
        authorize_net_account("https://example.test/", "a", "b"),
        kind,
        REFERENCE,
        transaction_id={"refund": "60000", "sale": None, "authorize": None}.get(kind, "60001"),
        captured_minor=25_00 if kind == "refund" else None,
    )


def found(kind: str, status: str, **over: Any) -> Finding:
    if kind == "payment":
        absent = Absent(searched="everywhere")
        return evidence.judge_voided_payment(asked("refund"), details(status, "sale"), absent)
    shown = details(status, kind, **over)
    if kind in ("capture", "void", "review"):
        return evidence.judge(asked(kind), shown)
    finding = evidence.judge_own(asked(kind), shown)
    assert not isinstance(finding, evidence.ApprovedInPart)
    return finding


def test_the_table_knows_every_status_and_every_kind() -> None:
    assert sorted(STATUSES) == sorted(ALL)
    for meanings in STATUSES.values():
        assert tuple(meanings) == COLUMNS
        assert set(meanings.values()) <= set(statuses.MEANINGS)


@pytest.mark.parametrize(
    ("settles", "expected"),
    [("25.00", Found), ("24.99", Absent), ("30.00", Absent), ("0.00", Inconclusive),
     ("-24.99", Inconclusive), (None, Inconclusive), ("much", Inconclusive)],
)  # fmt: skip
def test_a_capture_is_not_ours_only_if_another_amount_was_captured(
    settles: str | None, expected: type
) -> None:
    expect(expected, found("capture", "capturedPendingSettlement", settle_amount=settles))


# The finding for each meaning; the table says which status has which meaning.
FINDINGS: dict[str, type] = {
    "done": Approved,
    "part": Inconclusive,  # the whole amount, although the status says partial
    "held": HeldForReview,
    "declined": Declined,
    "gone": Rejected,
    "by_code": Inconclusive,
    "absent": Absent,
    "impossible": Rejected,
    "unclear": Inconclusive,
    "voided": Approved,
    "unsettled": Absent,
    "settling": Absent,
    "other": Absent,
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("status", ALL)
def test_each_status_is_judged_as_the_table_says(status: str, kind: Column) -> None:
    finding = found(kind, status)
    got = shown_by(finding)
    assert type(got) is FINDINGS[STATUSES[status][kind]], finding
    if isinstance(got, Approved):
        assert got.voided == (kind == "payment")
        assert got.amount_minor == (None if kind == "void" else 25_00)


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("status", ALL)
def test_a_transaction_of_another_amount_is_never_believed(status: str, kind: Column) -> None:
    finding = found(kind, status, auth_amount="26.00", settle_amount="26.00")
    if isinstance(finding, Found) and isinstance(finding.outcome, Approved):
        assert kind in ("void", "payment"), finding


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_unknown_status_is_inconclusive(kind: Column) -> None:
    assert isinstance(found(kind, "somethingNew"), Inconclusive)


def test_a_payment_or_refund_that_may_exist_is_never_absent() -> None:
    """An absent call may be sent again, so one that exists must never count as absent."""
    for status in ALL:
        for kind in ("authorize", "sale", "refund"):
            assert not isinstance(found(kind, status), Absent), (kind, status)


@pytest.mark.parametrize("status", ["voided", "expired", "failedReview", "declined"])
@pytest.mark.parametrize("kind", ["authorize", "sale", "review"])
@pytest.mark.parametrize("reason", ["252", "253", "254"])
def test_a_held_payment_that_ended_was_declined_by_review(
    status: str, kind: str, reason: str
) -> None:
    seen = expect_found(Declined, found(kind, status, reason_code=reason, response_code="4"))
    assert (seen.code, seen.decline_code) == ("254", "fraud_suspected")


def test_a_held_payment_is_also_recognized_by_its_filter() -> None:
    expect_found(Declined, found("sale", "voided", filter_action="hold"))
    expect_found(Rejected, found("sale", "voided", filter_action="report"))


def test_an_issuers_decline_after_a_review_stays_the_issuers() -> None:
    seen = expect_found(Declined, found("review", "declined", reason_code="4", response_code="2"))
    assert seen.decline_code == "pick_up_card"
