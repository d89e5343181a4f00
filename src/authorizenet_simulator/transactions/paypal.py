"""PayPal: a payment that begins here, is consented to by the payer elsewhere, and is continued.

The payer consents at once: who asks for the details gets the payer's id, and may continue.
"""

from typing import Any, Final

import msgspec

from authorizenet_simulator.state import payment_methods, statuses
from authorizenet_simulator.state.ledger import AWAITS_PAYER
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import transaction_notifications
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    CAPTURE_ONLY,
    Ask,
    Refused,
    details,
    original_of,
)
from authorizenet_simulator.wire import replies
from authorizenet_simulator.wire.replies import Reply

_CONTINUES: Final = {
    "authOnlyContinueTransaction": (AUTH, statuses.AUTHORIZED, 2008),
    "authCaptureContinueTransaction": ("authCaptureTransaction", statuses.CAPTURED, 2009),
}
"""By type: what it continues, the status then, and the reason when it is no such thing."""
_HOME: Final = {
    "firstName": "Test",
    "lastName": "Buyer",
    "address": "1 Main St",
    "city": "San Jose",
    "state": "CA",
    "zip": "95131",
    "country": "US",
}
"""Where every payer lives who was sent here without an address."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def start(ask: Ask, kind: str, amount: int, currency: str, digest: int) -> Reply:
    """A sale or authorization to be paid by PayPal: response code 5 and where to send the payer.

    Raises Refused: 67, 2004 and 2005 for a missing address to return to, 2007 for nothing to pay.
    """
    if kind == CAPTURE_ONLY:
        raise Refused(67)
    said = ask.tree["payment"]["payPal"]
    for name, reason in (("successUrl", 2004), ("cancelUrl", 2005)):
        if not said.get(name):
            raise Refused(reason)
    if amount == 0:
        raise Refused(2007)
    txn = Txn(
        ask.ledger.new_id(),
        ask.account.login,
        kind,
        amount,
        AWAITS_PAYER,
        2000,
        statuses.UNDER_REVIEW,
        ask.now,
        currency,
        0,
        ask.invoice,
        "",
        payment_methods.PAYPAL,
        "P",
        "",
        details(ask),
        customer=ask.customer,
    )
    ask.ledger.record(txn, digest)
    return _answer(ask, txn, _consent(txn))


def details_of(ask: Ask) -> Reply:
    """getDetailsTransaction: who the payer is, and where the order is sent to."""
    txn = _original(ask, 2008)
    told = {"PayerID": _payer(txn), "PayerEmail": "payer@example.com"}
    ship_to = _decode(txn.details).get("shipTo") or _HOME
    return _answer(ask, txn, told, {"shipTo": ship_to}, response_code=1, reason=1)


def proceed(ask: Ask) -> Reply:
    """The payer has consented: authorize, or take the money. The id stays. Of somebody who has
    not, the consent is still needed, and nothing moves."""
    kind, status, unfit = _CONTINUES[ask.tree["transactionType"]]
    txn = _original(ask, unfit)
    payer = ((ask.tree.get("payment") or {}).get("payPal") or {}).get("payerID", "")
    if not payer:
        raise Refused(2006)
    if payer != _payer(txn):
        return _answer(ask, txn, _consent(txn), response_code=AWAITS_PAYER, reason=2000)
    if txn.response_code != AWAITS_PAYER:
        raise Refused(2103)
    if txn.status != statuses.UNDER_REVIEW or txn.type != kind:
        raise Refused(unfit)
    if "amount" in ask.tree and ask.amount() != txn.amount:
        raise Refused(unfit)
    ask.ledger.move(txn, status, ask.now)
    transaction_notifications.made(ask, txn)
    return _answer(ask, txn, {"PayerID": payer, "PayerEmail": "payer@example.com"})


def _original(ask: Ask, unfit: int) -> Txn:
    if not ask.settings.paypal:
        raise Refused(2001)
    txn = original_of(ask)
    if txn.brand != payment_methods.PAYPAL:
        raise Refused(unfit)
    return txn


def _consent(txn: Txn) -> dict[str, Any]:
    """Where the payer consents."""
    url = f"https://www.sandbox.paypal.com/checkoutnow?token=EC-{txn.trans_id}"
    return {"SecureAcceptanceUrl": url}


def _payer(txn: Txn) -> str:
    """One payer for each payment, made of its id."""
    return f"PAYER{txn.trans_id}"


def _answer(
    ask: Ask,
    txn: Txn,
    acceptance: dict[str, Any],
    more: dict[str, Any] | None = None,
    *,
    response_code: int | None = None,
    reason: int | None = None,
) -> Reply:
    return replies.transaction(
        ask.account,
        response_code or txn.response_code,
        reason or txn.reason,
        amount=txn.amount,
        trans_id=txn.trans_id,
        ref=str(txn.trans_id) if "refTransId" in ask.tree else "",
        brand=txn.brand,
        user_fields=ask.user_fields,
        also={"secureAcceptance": acceptance, **(more or {})},
    )
