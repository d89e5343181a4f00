"""PayPal: a payment is begun, the payer consents at PayPal, and the payment is continued.

The simulated payer consents at once: getDetailsTransaction returns the payer's id at any time.
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
    Refused,
    TransactionRequest,
    details,
    original_of,
)
from authorizenet_simulator.wire import replies
from authorizenet_simulator.wire.replies import Reply

_CONTINUES: Final = {
    "authOnlyContinueTransaction": (AUTH, statuses.AUTHORIZED, 2008),
    "authCaptureContinueTransaction": ("authCaptureTransaction", statuses.CAPTURED, 2009),
}
"""By type: the type it continues, the resulting status, the reason if it cannot be continued."""
_HOME: Final = {
    "firstName": "Test",
    "lastName": "Buyer",
    "address": "1 Main St",
    "city": "San Jose",
    "state": "CA",
    "zip": "95131",
    "country": "US",
}
"""The shipping address of a payment that was sent without one."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def start(request: TransactionRequest, kind: str, amount: int, currency: str, digest: int) -> Reply:
    """Begin a sale or authorization with PayPal: response code 5 and the URL for the payer.

    Raises Refused: 67, 2004 or 2005 for a missing return URL, 2007 for an amount of zero.
    """
    if kind == CAPTURE_ONLY:
        raise Refused(67)
    pay_pal = request.tree["payment"]["payPal"]
    for name, reason in (("successUrl", 2004), ("cancelUrl", 2005)):
        if not pay_pal.get(name):
            raise Refused(reason)
    if amount == 0:
        raise Refused(2007)
    txn = Txn(
        request.ledger.new_id(),
        request.account.login,
        kind,
        amount,
        AWAITS_PAYER,
        2000,
        statuses.UNDER_REVIEW,
        request.now,
        currency,
        0,
        request.invoice,
        "",
        payment_methods.PAYPAL,
        "P",
        "",
        details(request),
        customer=request.customer,
    )
    request.ledger.record(txn, digest)
    return _answer(request, txn, _consent(txn))


def details_of(request: TransactionRequest) -> Reply:
    """getDetailsTransaction: return the payer's id and email, and the shipping address."""
    txn = _original(request, 2008)
    payer = {"PayerID": _payer(txn), "PayerEmail": "payer@example.com"}
    ship_to = _decode(txn.details).get("shipTo") or _HOME
    return _answer(request, txn, payer, {"shipTo": ship_to}, response_code=1, reason=1)


def proceed(request: TransactionRequest) -> Reply:
    """Authorize or capture a payment that the payer has consented to, keeping its id. For another
    payer id, answer that consent is still needed and change nothing."""
    kind, status, wrong_status = _CONTINUES[request.tree["transactionType"]]
    txn = _original(request, wrong_status)
    payer = ((request.tree.get("payment") or {}).get("payPal") or {}).get("payerID", "")
    if not payer:
        raise Refused(2006)
    if payer != _payer(txn):
        return _answer(request, txn, _consent(txn), response_code=AWAITS_PAYER, reason=2000)
    if txn.response_code != AWAITS_PAYER:
        raise Refused(2103)
    if txn.status != statuses.UNDER_REVIEW or txn.type != kind:
        raise Refused(wrong_status)
    if "amount" in request.tree and request.amount() != txn.amount:
        raise Refused(wrong_status)
    request.ledger.move(txn, status, request.now)
    transaction_notifications.made(request, txn)
    return _answer(request, txn, {"PayerID": payer, "PayerEmail": "payer@example.com"})


def _original(request: TransactionRequest, wrong_status: int) -> Txn:
    if not request.settings.paypal:
        raise Refused(2001)
    txn = original_of(request)
    if txn.brand != payment_methods.PAYPAL:
        raise Refused(wrong_status)
    return txn


def _consent(txn: Txn) -> dict[str, Any]:
    """Return the URL at which the payer consents."""
    url = f"https://www.sandbox.paypal.com/checkoutnow?token=EC-{txn.trans_id}"
    return {"SecureAcceptanceUrl": url}


def _payer(txn: Txn) -> str:
    """Return the payer id, made from the transaction's id."""
    return f"PAYER{txn.trans_id}"


def _answer(
    request: TransactionRequest,
    txn: Txn,
    acceptance: dict[str, Any],
    more: dict[str, Any] | None = None,
    *,
    response_code: int | None = None,
    reason: int | None = None,
) -> Reply:
    return replies.transaction(
        request.account,
        response_code or txn.response_code,
        reason or txn.reason,
        amount=txn.amount,
        trans_id=txn.trans_id,
        ref=str(txn.trans_id) if "refTransId" in request.tree else "",
        brand=txn.brand,
        user_fields=request.user_fields,
        also={"secureAcceptance": acceptance, **(more or {})},
    )
