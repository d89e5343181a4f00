"""Maps each transaction type to the function that executes it."""

from collections.abc import Callable
from typing import Final

from authorizenet_simulator.transactions import charges, followups, paypal
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    CAPTURE_ONLY,
    REFUND,
    SALE,
    Refused,
    TransactionRequest,
)
from authorizenet_simulator.wire import replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError, Reply


def run(request: TransactionRequest) -> Reply:
    """Execute the transaction; a `Refused` becomes its reply. Raises ApiError."""
    handler = HANDLERS.get(request.tree["transactionType"])
    if handler is None:
        raise ApiError("E00060")
    try:
        return handler(request)
    except Refused as refused:
        return _refusal(request, refused)


_NAMES_ORIGINAL: Final = frozenset({16, 54, 55})
"""Reasons whose reply has the request's `refTransId`."""


def _refusal(request: TransactionRequest, refused: Refused) -> Reply:
    shown, reason = request.payment_method, refused.reason
    reply = replies.transaction(
        request.account,
        3,
        reason,
        text=refused.text,
        ref=request.tree.get("refTransId", "").strip() if reason in _NAMES_ORIGINAL else "",
        masked=shown.masked if shown else "",
        brand=shown.brand if shown else "",
    )
    if refused.second:
        code, text = str(refused.second), REASONS[refused.second][1]
        errors = reply.payload["transactionResponse"]["errors"]
        errors.append({"errorCode": code, "errorText": text})
    return reply


HANDLERS: Final[dict[str, Callable[[TransactionRequest], Reply]]] = {
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
