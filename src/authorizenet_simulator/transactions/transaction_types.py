"""Maps each transaction type to the function that executes it."""

from collections.abc import Callable
from typing import Final

from authorizenet_simulator.transactions import charges, followups, paypal
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    CAPTURE_ONLY,
    REFUND,
    SALE,
    Ask,
    Refused,
)
from authorizenet_simulator.wire import replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError, Reply


def run(ask: Ask) -> Reply:
    """Execute the transaction; a `Refused` becomes its reply. Raises ApiError."""
    handler = HANDLERS.get(ask.tree["transactionType"])
    if handler is None:
        raise ApiError("E00060")
    try:
        return handler(ask)
    except Refused as refused:
        return _refusal(ask, refused)


_NAMES_ORIGINAL: Final = frozenset({16, 54, 55})
"""Reasons whose reply has the request's `refTransId`."""


def _refusal(ask: Ask, refused: Refused) -> Reply:
    shown, reason = ask.instrument, refused.reason
    reply = replies.transaction(
        ask.account,
        3,
        reason,
        text=refused.text,
        ref=ask.tree.get("refTransId", "").strip() if reason in _NAMES_ORIGINAL else "",
        masked=shown.masked if shown else "",
        brand=shown.brand if shown else "",
    )
    if refused.second:
        code, text = str(refused.second), REASONS[refused.second][1]
        errors = reply.payload["transactionResponse"]["errors"]
        errors.append({"errorCode": code, "errorText": text})
    return reply


HANDLERS: Final[dict[str, Callable[[Ask], Reply]]] = {
    SALE: charges.charge,
    AUTH: charges.charge,
    CAPTURE_ONLY: charges.charge,
    "priorAuthCaptureTransaction": followups.capture,
    "voidTransaction": followups.void,
    REFUND: followups.refund,
    "authOnlyContinueTransaction": paypal.proceed,
    "authCaptureContinueTransaction": paypal.proceed,
    "getDetailsTransaction": paypal.details_of,
}
