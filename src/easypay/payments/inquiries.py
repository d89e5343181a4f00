"""The inquiry to the processor about one operation. Pure."""

from typing import Final

from easypay.payments.model import CREATES, REVIEWS, Kind, State
from easypay.payments.resolver_rows import Case
from easypay.processors.base import (
    Absent,
    Account,
    Finding,
    Found,
    HeldForReview,
    InquiryRequest,
)

LISTED: Final = CREATES | {Kind.REFUND}
"""Kinds of operation that are transactions of their own."""

MAYBE_SENT: Final = frozenset({State.IN_FLIGHT, State.UNKNOWN})
"""States of an operation that may have been carried out, with an unknown outcome."""


def request_of(case: Case, account: Account) -> InquiryRequest:
    """Return the inquiry to the processor about one case."""
    reviewed = case.held or case.kind in REVIEWS
    transaction_id = None if case.kind in CREATES else case.parent_transaction_id
    return InquiryRequest(
        account=account,
        kind="review" if reviewed else case.kind,
        reference=case.reference,
        amount_minor=case.amount_minor,
        currency=case.currency,
        transaction_id=case.transaction_id if case.held else transaction_id,
        sent_at_ms=int(case.begun_at.timestamp() * 1000),
        captured_minor=_voidable(case),
    )


def _voidable(case: Case) -> int | None:
    """Return the amount whose refund may have been made as a void: see Payment.voidable_minor."""
    if case.kind != "refund" or case.refunded_minor:
        return None
    return case.captured_minor or case.amount_minor


def without_decision(case: Case, finding: Finding) -> Finding:
    """Turn the finding about a review decision into Absent while the payment is still held."""
    if (
        case.kind in REVIEWS
        and isinstance(finding, Found)
        and isinstance(finding.outcome, HeldForReview)
    ):
        return Absent(searched=f"the review's decisions: {finding.evidence}")
    return finding
