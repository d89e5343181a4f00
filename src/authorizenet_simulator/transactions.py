"""createTransactionRequest: which kind of transaction goes where."""

from collections.abc import Callable
from typing import Final

from authorizenet_simulator import answers, charges, followups, paypal, profiles_charge
from authorizenet_simulator.accounts import Account
from authorizenet_simulator.answers import ApiError, Reply
from authorizenet_simulator.asks import AUTH, CAPTURE_ONLY, REFUND, SALE, Ask, Refused, Tree
from authorizenet_simulator.ledger import Ledger


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """Answer one createTransactionRequest. Raises ApiError."""
    ask = Ask(ledger, account, body, now)
    profile = ask.tree.pop("profile", None)
    if profile is None:
        return run(ask)
    if profile.get("createProfile") in ("true", "1"):
        profiles_charge.check_creation(ask, profile)
        reply = run(ask)
        profiles_charge.create_afterwards(ask, reply)
        return reply
    if "cim" in ask.settings.switched_off:
        raise ApiError("E00044")
    profiles_charge.use(ask, profile)
    reply = run(ask)
    profiles_charge.show(ask, reply)
    return reply


def run(ask: Ask) -> Reply:
    """Do the transaction; what is refused becomes its answer. Raises ApiError."""
    handler = HANDLERS.get(ask.tree["transactionType"])
    if handler is None:
        raise ApiError("E00060")
    try:
        return handler(ask)
    except Refused as refused:
        shown = ask.instrument
        return answers.transaction(
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
