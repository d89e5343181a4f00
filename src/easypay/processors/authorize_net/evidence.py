"""Judge the evidence: pure functions from an inquiry and a transaction to a finding.

`statuses` says what a status means. This module weighs the rest: whose transaction it is, its type
and its amount.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, assert_never, cast

import msgspec
from msgspec.structs import asdict

from easypay.processors.authorize_net import reason_meanings, replies, statuses, wire
from easypay.processors.authorize_net.reporting import Details
from easypay.processors.base import (
    Absent,
    Approved,
    Declined,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    InquiryRequest,
    Rejected,
)

_OTHER_TYPES: Final = {
    "authorize": ("authCaptureTransaction", "refundTransaction"),
    "sale": ("authOnlyTransaction", "refundTransaction"),
    "refund": ("authOnlyTransaction", "authCaptureTransaction", "priorAuthCaptureTransaction"),
}
_HELD_REASONS: Final = frozenset({"252", "253", reason_meanings.REVIEW_DECLINED})
_ENDED: Final = frozenset({"failedReview", "voided", "expired"})
_WITHOUT_DECISION: Final[Mapping[str, Literal["voided", "expired"]]] = {
    "voided": "voided",
    "expired": "expired",
}
_HOLDS: Final = frozenset({"hold", "authAndHold"})


class ApprovedInPart(NamedTuple):
    """Found, but approved for less than was asked: it must be voided."""

    approved: Approved
    evidence: str


def judge_own(request: InquiryRequest, details: Details) -> Finding | ApprovedInPart:
    """Judge a sale, an authorization or a refund by the transaction that carries its reference."""
    if stranger := _why_not_ours(request, details):
        return Inconclusive(reason=f"{stranger}: {_evidence(details)}")
    if request.kind != "refund" and (part := _part(request, details)) is not None:
        return part
    return judge(request, details)


def judge(request: InquiryRequest, details: Details) -> Finding:
    """Judge any operation by the transaction that it made or, if it made none, changed."""
    evidence = _evidence(details)
    meaning = statuses.meaning(details.status, cast("statuses.Kind", request.kind))
    match meaning:
        case "done" if request.kind == "void":
            return Found(outcome=Approved(transaction_id=details.transaction_id), evidence=evidence)
        case "done":
            return _approved_if_agreed(request, details)
        case "held":
            return Found(outcome=HeldForReview(**asdict(details.answer)), evidence=evidence)
        case "declined" if request.kind == "review":
            ended = msgspec.structs.replace(_declined(details), undecided=_undecided(details))
            return Found(outcome=ended, evidence=evidence)
        case "declined":
            return Found(outcome=_declined(details), evidence=evidence)
        case "gone" if _was_held(details):
            return Found(outcome=_declined(details), evidence=evidence)
        case "gone":
            return _rejected(details, "no money moves")
        case "by_code":
            return _by_code(details)
        case "absent":
            return Absent(searched=evidence)
        case "impossible" if request.kind == "capture":
            return _rejected(details, "it cannot be captured")
        case "impossible":
            return _rejected(details, "it cannot be voided")
        case "part" | "unclear":
            return Inconclusive(reason=f"this status proves nothing: {evidence}")
        case _:
            assert_never(meaning)


def judge_voided_payment(request: InquiryRequest, details: Details, absent: Absent) -> Finding:
    """Judge a full refund that was not found as a refund: its payment may have been voided."""
    evidence = _evidence(details)
    match meaning := statuses.payment_meaning(details.status):
        case "voided":
            return Found(
                outcome=Approved(
                    transaction_id=details.transaction_id,
                    amount_minor=request.amount_minor,
                    voided=True,
                ),
                evidence=evidence,
            )
        case "unclear":
            return Inconclusive(reason=f"this status proves nothing: {evidence}")
        case "unsettled" | "settling" | "other":
            return Absent(searched=f"{absent.searched}; the payment is {details.status}")
        case _:
            assert_never(meaning)


def _why_not_ours(request: InquiryRequest, details: Details) -> str | None:
    if details.invoice_number not in (None, request.reference):
        return "the details carry another invoice number"
    if details.type in _OTHER_TYPES[request.kind]:
        return "not a transaction of this kind"
    if request.kind == "refund" and details.parent_id not in (None, request.transaction_id):
        return "a refund of another transaction"
    return None


def _part(request: InquiryRequest, details: Details) -> Finding | ApprovedInPart | None:
    """Judge an authorization or sale that was approved for less than asked; None if it was not."""
    meaning = statuses.meaning(details.status, cast("statuses.Kind", request.kind))
    if meaning not in ("done", "part", "gone"):
        return None
    authorized = wire.amount_minor(details.auth_amount, request.currency)
    if authorized is None or not 0 < authorized < request.amount_minor:
        return None
    requested = wire.amount_minor(details.requested_amount, request.currency)
    if details.requested_amount is not None and requested != request.amount_minor:
        return None  # not the amount that we requested, so not a part of it either
    settles = wire.amount_minor(details.settle_amount, request.currency)
    if request.kind == "sale" and settles not in (authorized, 0, None):
        return None  # the two amounts contradict each other
    approved = _approved(details, authorized)
    evidence = _evidence(details)
    if meaning == "gone":
        if _was_held(details):
            return None
        outcome = replies.partial_decline(approved, request.currency)
        return Found(outcome=outcome, evidence=evidence)
    if details.invoice_number != request.reference:
        return None  # only what carries our reference may be voided
    return ApprovedInPart(approved, evidence)


def _approved_if_agreed(request: InquiryRequest, details: Details) -> Finding:
    evidence = _evidence(details)
    held = request.kind in ("authorize", "review")
    amount = details.auth_amount if held else details.settle_amount
    amount_minor = wire.amount_minor(amount, request.currency)
    if amount_minor is not None and request.kind == "refund":
        amount_minor = abs(amount_minor)  # some reports show refunds as negative
    if amount_minor != request.amount_minor:
        if request.kind == "capture" and amount_minor is not None and amount_minor > 0:
            # An authorization can be captured only once, so our request did not capture it.
            return Absent(searched=f"captured for another amount: {evidence}")
        return Inconclusive(reason=f"another amount than was asked: {evidence}")
    return Found(outcome=_approved(details, amount_minor), evidence=evidence)


def _by_code(details: Details) -> Finding:
    match verdict := reason_meanings.verdict(details.response_code or "", details.reason_code):
        case "declined":
            outcome: Declined | Rejected = _declined(details)
        case "rejected":
            word = reason_meanings.decline_code(details.reason_code, "3")
            outcome = Rejected(
                code=details.reason_code or details.status,
                message=details.answer.message or "",
                decline_code=word,
                retry=reason_meanings.retry(word),
            )
        case "approved" | "approved_in_part" | "done_before" | "held_for_review" | "unknown":
            return Inconclusive(reason=f"this status proves nothing: {_evidence(details)}")
        case _:
            assert_never(verdict)
    return Found(outcome=outcome, evidence=_evidence(details))


def _undecided(details: Details) -> Literal["voided", "expired"] | None:
    """Return how a held transaction ended if nobody declined it: voided or expired."""
    if details.reason_code == reason_meanings.REVIEW_DECLINED:
        return None
    return _WITHOUT_DECISION.get(details.status)


def _was_held(details: Details) -> bool:
    return details.reason_code in _HELD_REASONS or details.filter_action in _HOLDS


def _approved(details: Details, amount_minor: int) -> Approved:
    return Approved(amount_minor=amount_minor, **asdict(details.answer))


def _declined(details: Details) -> Declined:
    """Decline: by the issuer or a filter; if it was held, by a reviewer or for lack of one."""
    reason = details.reason_code
    if details.status in _ENDED or reason in _HELD_REASONS:
        reason = reason_meanings.REVIEW_DECLINED
    word = reason_meanings.decline_code(reason)
    fields = asdict(details.answer) | {
        "auth_code": None,
        "decline_code": word,
        "code": reason or "declined",
        "message": details.answer.message or "",
        "retry": reason_meanings.retry(word),
    }
    return Declined(**fields)


def _rejected(details: Details, consequence: str) -> Found:
    return Found(
        outcome=Rejected(
            code=details.status,
            message=f"The transaction is {details.status}: {consequence}.",
            decline_code="invalid_state",
            retry=reason_meanings.retry("invalid_state"),
        ),
        evidence=_evidence(details),
    )


def _evidence(details: Details) -> str:
    return (
        f"getTransactionDetails {details.transaction_id}: {details.status}, type {details.type}, "
        f"response {details.response_code}/{details.reason_code}, "
        f"authAmount {wire.printable(details.auth_amount, 20)}, "
        f"settleAmount {wire.printable(details.settle_amount, 20)}, "
        f"invoice {wire.printable(details.invoice_number, 40)}"
    )
