"""Return money whether or not it has settled: which step follows which answer. Pure.

The refund comes first. A void follows only if the refund is definitely refused and the payment is
seen unsettled; a second refund only if that void is definitely refused. At each step all earlier
answers said that nothing moved, so the money is never returned twice.
"""

from typing import Final, Literal, assert_never

import msgspec

from easypay.processors.authorize_net import reason_meanings
from easypay.processors.authorize_net.reporting import Details, Unreadable
from easypay.processors.authorize_net.statuses import payment_meaning
from easypay.processors.base import (
    Approved,
    Declined,
    HeldForReview,
    NotSent,
    Outcome,
    RefundRequest,
    Rejected,
    Unknown,
)

_UNSETTLED: Final = frozenset({"50", "54"})
_UNSETTLED_BANK: Final = _UNSETTLED | {"16"}
"""An unsettled payment by bank account is reported as not found."""


def is_whole(request: RefundRequest) -> bool:
    """Return whether all that was captured is to be returned, which a void can do."""
    return request.captured_minor is not None and request.captured_minor == request.amount_minor


def may_be_unsettled(request: RefundRequest, outcome: Outcome) -> bool:
    """Return whether the refund was refused for a reason that can mean "not settled yet"."""
    reasons = _UNSETTLED_BANK if request.method_type == "bank_account" else _UNSETTLED
    return isinstance(outcome, Rejected) and outcome.code in reasons


def after_refusal(
    request: RefundRequest, refusal: Outcome, details: Details | Unreadable
) -> Outcome | Literal["void"]:
    """Return "void" or the outcome, after the refund was refused and the payment was read."""
    if isinstance(details, Unreadable):
        return Unknown(reason=f"the refund was refused; the payment: {details.reason}"[:255])
    match meaning := payment_meaning(details.status):
        case "voided" if is_whole(request):
            return Approved(
                transaction_id=request.transaction_id,
                amount_minor=request.amount_minor,
                code=reason_meanings.ALREADY_VOIDED,
                voided=True,
            )
        case "unsettled":
            return (
                "void"
                if is_whole(request)
                else _too_early("a partial refund is possible only after settlement")
            )
        case "settling":
            return _too_early("it is settling now; refund it afterwards")
        case "unclear":
            return Unknown(reason=f"the refund was refused; the payment is {details.status}"[:255])
        case "voided" | "other":
            return refusal
        case _:
            assert_never(meaning)


def after_void(request: RefundRequest, voided: Outcome) -> Outcome | Literal["refund"]:
    """Return "refund" (once more) or the outcome, after the void was tried."""
    match voided:
        case Approved():
            return msgspec.structs.replace(voided, amount_minor=request.amount_minor, voided=True)
        case Rejected(code=reason_meanings.NOT_VOIDABLE):
            return "refund"  # the batch closed between the two calls
        case Rejected() | NotSent() | Unknown():
            return voided
        case Declined() | HeldForReview():
            return Unknown(reason=f"the void was answered with {type(voided).__name__}")
        case _:
            assert_never(voided)


def after_second_refusal(request: RefundRequest, outcome: Outcome) -> Outcome:
    """Return the outcome. Neither refundable nor voidable: it is settling, so refund it later."""
    if may_be_unsettled(request, outcome):
        return _too_early("it is settling now; refund it afterwards")
    return outcome


def _too_early(explanation: str) -> Rejected:
    return Rejected(
        code=reason_meanings.NOT_REFUNDABLE,
        message=f"The payment has not settled: {explanation}.",
        not_settled=True,
        retry="later",
    )
