"""Which recorded body fits which situation: tables, and what can be read off a body."""

from typing import Any, Final

from recorded import bodies

LOST: Final = "lost"
"""In place of a body: the request is read, and the connection closed without a word."""

SALE: Final = "authCaptureTransaction"
AUTHORIZATION: Final = "authOnlyTransaction"
CAPTURE: Final = "priorAuthCaptureTransaction"
VOID: Final = "voidTransaction"
REFUND: Final = "refundTransaction"
APPROVE, DECLINE = "approve", "decline"
"""What a person says of a held transaction."""

AUTHORIZED: Final = "authorizedPendingCapture"
CAPTURED: Final = "capturedPendingSettlement"
SETTLED: Final = "settledSuccessfully"
REFUNDING: Final = "refundPendingSettlement"
REFUNDED: Final = "refundSettledSuccessfully"
VOIDED: Final = "voided"
DECLINED: Final = "declined"
HELD: Final = "FDSPendingReview"
HELD_AUTHORIZED: Final = "FDSAuthorizedPendingReview"

IN_REVIEW: Final = frozenset({HELD, HELD_AUTHORIZED})
UNSETTLED: Final = frozenset({AUTHORIZED, CAPTURED, REFUNDING})
SETTLES: Final = {CAPTURED: SETTLED, REFUNDING: REFUNDED}

MADE: Final = {SALE: CAPTURED, AUTHORIZATION: AUTHORIZED, REFUND: REFUNDING}
"""What becomes of a transaction of its own that is approved."""

CHANGED: Final = {CAPTURE: CAPTURED, VOID: VOIDED, DECLINE: DECLINED}
"""What becomes of the transaction that is named. One that is approved after a review is as made."""

SAID: Final = {
    (CAPTURE, AUTHORIZED): "captured",
    (CAPTURE, CAPTURED): "captured_before",
    **{(VOID, status): "voided" for status in UNSETTLED | IN_REVIEW},
    (VOID, VOIDED): "voided_before",
    (VOID, SETTLED): "refused_327",
    (VOID, REFUNDED): "refused_327",
    (REFUND, SETTLED): "refunded",
    **{(REFUND, status): "refused_54_2026" for status in UNSETTLED | IN_REVIEW | {VOIDED}},
    **{(APPROVE, status): "released" for status in IN_REVIEW},
    **{(DECLINE, status): "review_ended" for status in IN_REVIEW},
}
"""What is said to who asks this of a transaction of that status. Of any other, 16: not found."""

DETAILS: Final = {
    AUTHORIZED: "details_authorized",
    CAPTURED: "details_2026",
    SETTLED: "details_settled",
    REFUNDING: "details_refund",
    REFUNDED: "details_refund_settled",
    HELD: "details_held_252",
    HELD_AUTHORIZED: "details_held",
    DECLINED: "details_declined",
    VOIDED: "details_voided",
}

TRY_OTHERWISE: Final = frozenset({"16", "50", "54", "327"})
"""Reasons of a refusal after which the same may be reached in another way."""
ACCOUNT_REFUSED: Final = frozenset({"refused_login", "inactive"})
"""Bodies that refuse the account before anything was begun: the same may be asked again."""

_BRANDS: Final = {"4": "Visa", "5": "MasterCard", "37": "AmericanExpress", "6": "Discover"}


def brand(number: str) -> str:
    """Their name for the brand of a card number."""
    return next(name for head, name in _BRANDS.items() if number.startswith(head))


def response_code(said: str) -> str:
    """1, 2, 3, 4 or 5; empty where a body tells of no transaction."""
    return str(_response(said).get("responseCode", ""))


def reason(said: str) -> str | None:
    """The first error's code."""
    return next((str(e["errorCode"]) for e in _response(said).get("errors", [])), None)


def does(said: str) -> bool:
    """Whether a body tells of something that was done now: approved, held or declined."""
    return response_code(said) in ("1", "2", "4") and not said.endswith("_before")


def approved_part(said: str) -> str | None:
    """What a body approves of the amount, where that is not the whole."""
    amount = str(_response(said).get("prePaidCard", {}).get("approvedAmount", "$"))
    return None if amount.startswith("$") else amount


def _response(said: str) -> dict[str, Any]:
    found: dict[str, Any] = bodies.JSON.get(said, {}).get("transactionResponse", {})
    return found
