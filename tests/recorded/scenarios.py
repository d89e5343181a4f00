"""Which recorded body fits which situation, and what a body says."""

from typing import Any, Final

from recorded import bodies

LOST: Final = "lost"
"""In place of a body: read the request, then close without an answer."""

SALE: Final = "authCaptureTransaction"
AUTHORIZATION: Final = "authOnlyTransaction"
CAPTURE: Final = "priorAuthCaptureTransaction"
VOID: Final = "voidTransaction"
REFUND: Final = "refundTransaction"
APPROVE, DECLINE = "approve", "decline"
"""The decisions on a held transaction."""

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
"""The status of a new transaction that is approved."""

CHANGED: Final = {CAPTURE: CAPTURED, VOID: VOIDED, DECLINE: DECLINED}
"""The new status of the named transaction; one approved in review gets the status in `MADE`."""

ANSWERS: Final = {
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
"""The answer by request and status of the named transaction; otherwise 16, not found."""

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
"""Refusal reasons after which another kind of request may reach the same result."""
ACCOUNT_REFUSED: Final = frozenset({"refused_login", "inactive"})
"""Bodies that refuse the account before processing: the request may be sent again."""

_BRANDS: Final = {"4": "Visa", "5": "MasterCard", "37": "AmericanExpress", "6": "Discover"}


def brand(number: str) -> str:
    """Return the processor's name for a card number's brand."""
    return next(name for head, name in _BRANDS.items() if number.startswith(head))


def response_code(body: str) -> str:
    """Return 1, 2, 3, 4 or 5; empty if the body names no transaction."""
    return str(_response(body).get("responseCode", ""))


def reason(body: str) -> str | None:
    """Return the first error's code."""
    return next((str(e["errorCode"]) for e in _response(body).get("errors", [])), None)


def does(body: str) -> bool:
    """Return whether a body reports a new result: approved, held or declined."""
    return response_code(body) in ("1", "2", "4") and not body.endswith("_before")


def approved_part(body: str) -> str | None:
    """Return the approved amount if it is only a part, else None."""
    amount = str(_response(body).get("prePaidCard", {}).get("approvedAmount", "$"))
    return None if amount.startswith("$") else amount


def _response(body: str) -> dict[str, Any]:
    found: dict[str, Any] = bodies.JSON.get(body, {}).get("transactionResponse", {})
    return found
