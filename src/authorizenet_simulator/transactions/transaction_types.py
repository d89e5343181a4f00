"""Which function makes a transaction of which type."""

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
from authorizenet_simulator.wire.replies import ApiError, Reply


def run(ask: Ask) -> Reply:
    """Do the transaction; what is refused becomes its answer. Raises ApiError."""
    handler = HANDLERS.get(ask.tree["transactionType"])
    if handler is None:
        raise ApiError("E00060")
    try:
        return handler(ask)
    except Refused as refused:
        shown = ask.instrument
        return replies.transaction(
            ask.account,
            3,
            refused.reason,
            text=refused.text,
            masked=shown.masked if shown else "",
            brand=shown.brand if shown else "",
        )


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
