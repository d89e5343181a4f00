"""Follow-ups of a transaction: capture, void, refund, and the review of a held one."""

from sys import intern
from typing import Any, Final

from authorizenet_simulator.state import statuses, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.clock import DAY_MS
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PAYPAL, Instrument
from authorizenet_simulator.state.statuses import BATCHED, SETTLING, TOO_LATE_TO_VOID
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import charge_checks, transaction_notifications
from authorizenet_simulator.transactions.transaction_request import (
    REFUND,
    Ask,
    Refused,
    check_instrument,
    details,
    duplicate_digest,
    duplicate_of,
    original_of,
    read_payment,
)
from authorizenet_simulator.wire import replies
from authorizenet_simulator.wire.replies import ApiError, Reply

REFUND_DAYS: Final = 180
_CAPTURED: Final = SETTLING | BATCHED


def _already(ask: Ask, txn: Txn, reason: int) -> Reply:
    """Answer success without a change, as the transaction is captured or voided already."""
    return replies.transaction(
        ask.account, 1, reason, ref=str(txn.trans_id), masked=txn.masked, brand=txn.brand
    )


def _done(ask: Ask, txn: Txn, amount: int) -> Reply:
    """Answer a capture or void, with the id of the original."""
    return replies.transaction(
        ask.account,
        1,
        1,
        amount=amount,
        auth=replies.auth_code(txn),
        trans_id=txn.trans_id,
        ref=str(txn.trans_id),
        masked=txn.masked,
        brand=txn.brand,
        user_fields=ask.user_fields,
    )


def capture(ask: Ask) -> Reply:
    """priorAuthCaptureTransaction: capture once, fully or partly; the rest is released."""
    currency = ask.currency()
    amount = ask.amount() if "amount" in ask.tree else None
    txn = original_of(ask)
    if txn.type != REFUND and txn.status in _CAPTURED:
        return _already(ask, txn, 311)
    if txn.status == statuses.DECLINED:
        raise Refused(64)
    if txn.status != statuses.AUTHORIZED:
        raise Refused(16)
    if "currencyCode" in ask.tree and currency != txn.currency:
        raise Refused(39)
    if amount is None:
        amount = txn.amount
    if amount > txn.amount:
        raise Refused(47)
    if amount == 0:
        raise Refused(5)
    ask.ledger.capture(txn, amount, ask.invoice, ask.now)
    transaction_notifications.changed(ask, txn, "priorAuthCaptureTransaction", amount)
    return _done(ask, txn, amount)


def void(ask: Ask) -> Reply:
    """voidTransaction: void a transaction that is neither settled nor being settled."""
    txn = original_of(ask)
    if txn.status == statuses.VOIDED:
        return _already(ask, txn, 310)
    if txn.status in BATCHED or txn.status in TOO_LATE_TO_VOID:
        raise Refused(327)
    if txn.status not in statuses.PENDING:
        raise Refused(16)
    amount = txn.captured or txn.amount
    ask.ledger.void(txn, ask.invoice, ask.now)
    transaction_notifications.changed(ask, txn, "voidTransaction", amount)
    return _done(ask, txn, amount)


def refund(ask: Ask) -> Reply:
    """refundTransaction: refund a settled transaction, or (unlinked) to a full card number."""
    instrument = read_payment(ask)
    currency = ask.currency()
    amount = ask.amount()
    linked = bool(ask.tree.get("refTransId", "").strip())
    if not linked:
        if not ask.settings.unlinked_refunds:
            raise Refused(54)
        check_instrument(instrument, ask.now)
        charge_checks.check(ask, instrument)
        if instrument.brand == "eCheck" and not ask.settings.echeck:
            raise Refused(18)
        if instrument.brand == PAYPAL:
            raise Refused(54)
    original = original_of(ask) if linked else None
    digest = duplicate_digest(ask, REFUND, amount, instrument)
    if (duplicate := duplicate_of(ask, digest)) is not None:
        return duplicate
    if original is not None:
        _check_refund(ask, original, amount, currency, instrument)
    brand = instrument.brand if original is None else original.brand
    held = original is None and brand == "eCheck"
    response_code, reason = (4, 193) if held else (1, 1)
    txn = Txn(
        ask.ledger.new_id(),
        ask.account.login,
        REFUND,
        amount,
        response_code,
        reason,
        statuses.UNDER_REVIEW if held else statuses.REFUND_PENDING,
        ask.now,
        currency,
        0 if original is None else original.trans_id,
        ask.invoice,
        intern(instrument.last4),
        brand,
        "P",
        "",
        details(ask),
        customer=ask.customer,
    )
    ask.ledger.record(txn, digest)
    transaction_notifications.made(ask, txn)
    return replies.transaction(
        ask.account,
        response_code,
        reason,
        amount=amount,
        trans_id=txn.trans_id,
        ref="" if original is None else str(original.trans_id),
        masked=txn.masked,
        brand=brand,
        user_fields=ask.user_fields,
    )


def _check_refund(
    ask: Ask, original: Txn, amount: int, currency: str, instrument: Instrument
) -> None:
    """Check a linked refund. Raises Refused: 54 not refundable, 55 more than was settled."""
    if original.type != REFUND and original.status in SETTLING:
        raise Refused(16 if original.brand == "eCheck" else ask.settings.unsettled_refund_code)
    if original.status != statuses.SETTLED or original.currency != currency:
        raise Refused(54)
    settled_at = ask.ledger.batches[original.batch].at
    if ask.now - settled_at > REFUND_DAYS * DAY_MS:
        raise Refused(54)
    if instrument.last4 != original.last4 or (
        (instrument.brand == "eCheck") is not (original.brand == "eCheck")
    ):
        raise Refused(54)
    if original.refunded + amount > original.captured:
        raise Refused(55)


def review(ledger: Ledger, account: Account, body: dict[str, Any], now: int) -> Reply:
    """updateHeldTransactionRequest: approve or decline a held transaction. Raises E00040."""
    held = body["heldTransactionRequest"]
    txn = account.held.get(transactions.parse_id(held["refTransId"]) or 0)
    if txn is None:
        raise ApiError("E00040")
    approved = held["action"] == "approve"
    reason = txn.reason
    ledger.review(txn, approved=approved)
    transaction_notifications.reviewed(
        ledger, txn, body.get("refId", ""), reason, approved=approved
    )
    return replies.transaction(
        account,
        1,
        1 if approved else 254,
        amount=txn.amount,
        auth=replies.auth_code(txn),
        avs=txn.avs,
        cvv=txn.cvv,
        trans_id=txn.trans_id,
        ref=str(txn.trans_id),
        masked=txn.masked,
        brand=txn.brand,
    )
