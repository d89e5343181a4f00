"""createTransactionRequest: which kind of transaction goes where."""

from collections.abc import Callable
from typing import Final

from authorizenet_simulator import answers, charges, followups
from authorizenet_simulator.answers import ApiError, Reply
from authorizenet_simulator.asks import AUTH, CAPTURE_ONLY, REFUND, SALE, Ask, Refused, Tree
from authorizenet_simulator.ledger import Account, Ledger


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """Answer one createTransactionRequest. Raises ApiError."""
    ask = Ask(ledger, account, body, now)
    handler = HANDLERS.get(ask.tree["transactionType"])
    if handler is None:
        raise ApiError("E00060")
    if ask.tree.get("profile", {}).get("customerProfileId") is not None:
        raise ApiError("E00040")  # no customer profiles are kept
    try:
        return handler(ask)
    except Refused as refused:
        shown = ask.instrument
        return answers.transaction(
            account,
            3,
            refused.reason,
            text=refused.text,
            masked=shown.masked if shown else "",
            brand=shown.brand if shown else "",
        )


def _paypal(ask: Ask) -> Reply:
    raise Refused(2001)


HANDLERS: Final[dict[str, Callable[[Ask], Reply]]] = {
    SALE: charges.charge,
    AUTH: charges.charge,
    CAPTURE_ONLY: charges.charge,
    "priorAuthCaptureTransaction": followups.capture,
    "voidTransaction": followups.void,
    REFUND: followups.refund,
    "authOnlyContinueTransaction": _paypal,
    "authCaptureContinueTransaction": _paypal,
    "getDetailsTransaction": _paypal,
}
