"""Sends the webhook notifications of transactions.

Declines, errors, tests and settlements send none: clients see them in replies and reports.
"""

from functools import partial
from typing import Any, Final

import msgspec

from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import without_card_numbers
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.state.webhooks import CREATED
from authorizenet_simulator.transactions.transaction_request import TransactionRequest
from authorizenet_simulator.wire import amounts, replies

_HELD: Final = "net.authorize.payment.fraud.held"
_REVIEWED: Final = {
    True: "net.authorize.payment.fraud.approved",
    False: "net.authorize.payment.fraud.declined",
}
_FILTER_ACTIONS: Final = {252: "hold", 253: "authAndHold"}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def made(request: TransactionRequest, txn: Txn) -> None:
    """Notify of a requested charge or refund."""
    if txn.login in request.ledger.webhooks.listening:  # saves work for accounts without one
        recorded(request.ledger, txn, request.ref_id)


def recorded(ledger: Ledger, txn: Txn, ref_id: str = "") -> None:
    """Notify of a charge or refund."""
    if txn.response_code == 1:
        event = CREATED[txn.type]
    elif txn.response_code == 4:
        event = _HELD
    else:
        return
    ledger.notify(txn.login, event, partial(_payload, txn, txn.amount, ref_id, txn.invoice))


def changed(request: TransactionRequest, txn: Txn, kind: str, amount: int) -> None:
    """Notify of a capture or void of an earlier transaction."""
    request.ledger.notify(
        txn.login, CREATED[kind], lambda: _payload(txn, amount, request.ref_id, request.invoice)
    )


def voided(ledger: Ledger, txn: Txn, amount: int) -> None:
    """Notify of a transaction voided with its whole split tender group."""
    payload = partial(_payload, txn, amount, "", txn.invoice)
    ledger.notify(txn.login, CREATED["voidTransaction"], payload)


def reviewed(ledger: Ledger, txn: Txn, ref_id: str, reason: int, *, approved: bool) -> None:
    """Notify of an approved or declined held transaction; `reason` is why it was held."""
    ledger.notify(
        txn.login,
        _REVIEWED[approved],
        lambda: _payload(txn, txn.amount, ref_id, txn.invoice, held_for=reason),
    )


def _payload(
    txn: Txn, amount: int, ref_id: str, invoice: str, *, held_for: int = 0
) -> dict[str, Any]:
    payload: dict[str, Any] = {"responseCode": txn.response_code}
    if ref_id:
        payload["merchantReferenceId"] = without_card_numbers(ref_id)
    if invoice or txn.invoice:
        payload["invoiceNumber"] = invoice or txn.invoice
    auth = replies.auth_code(txn)
    if txn.type == "captureOnlyTransaction":
        auth = _decode(txn.details).get("authCode", "")
    payload |= {"authCode": auth, "avsResponse": txn.avs, "authAmount": amounts.number(amount)}
    if held_for or txn.response_code == 4:
        payload["fraudList"] = _fraud_list(held_for or txn.reason)
    return payload | {"entityName": "transaction", "id": str(txn.trans_id)}


def _fraud_list(reason: int) -> list[dict[str, str]]:
    action = _FILTER_ACTIONS.get(reason)
    return [{"fraudFilter": "AmountFilter", "fraudAction": action}] if action else []
