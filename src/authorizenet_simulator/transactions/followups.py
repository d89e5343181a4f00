"""Follow-ups of a transaction: capture, void, refund, and the review of a held one."""

from sys import intern
from typing import Any, Final

from authorizenet_simulator.state import statuses, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.clock import DAY_MS
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PAYPAL, PaymentMethod
from authorizenet_simulator.state.statuses import BATCHED, SETTLING, TOO_LATE_TO_VOID
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import charge_checks, transaction_notifications
from authorizenet_simulator.transactions.transaction_request import (
    REFUND,
    Refused,
    TransactionRequest,
    check_payment_method,
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


def _already(request: TransactionRequest, txn: Txn, reason: int) -> Reply:
    """Answer success without a change, as the transaction is captured or voided already."""
    return replies.transaction(
        request.account, 1, reason, ref=str(txn.trans_id), masked=txn.masked, brand=txn.brand
    )


def _done(request: TransactionRequest, txn: Txn, amount: int) -> Reply:
    """Answer a capture or void, with the id of the original."""
    return replies.transaction(
        request.account,
        1,
        1,
        amount=amount,
        auth=replies.auth_code(txn),
        trans_id=txn.trans_id,
        ref=str(txn.trans_id),
        masked=txn.masked,
        brand=txn.brand,
        user_fields=request.user_fields,
    )


def capture(request: TransactionRequest) -> Reply:
    """priorAuthCaptureTransaction: capture once, fully or partly; the rest is released."""
    currency = request.currency()
    amount = request.amount() if "amount" in request.tree else None
    txn = original_of(request)
    if txn.type != REFUND and txn.status in _CAPTURED:
        return _already(request, txn, 311)
    if txn.status == statuses.DECLINED:
        raise Refused(64)
    if txn.status != statuses.AUTHORIZED:
        raise Refused(16)
    if "currencyCode" in request.tree and currency != txn.currency:
        raise Refused(39)
    if amount is None:
        amount = txn.amount
    if amount > txn.amount:
        raise Refused(47)
    if amount == 0:
        raise Refused(5)
    request.ledger.capture(txn, amount, request.invoice, request.now)
    transaction_notifications.changed(request, txn, "priorAuthCaptureTransaction", amount)
    return _done(request, txn, amount)


def void(request: TransactionRequest) -> Reply:
    """voidTransaction: void a transaction that is neither settled nor being settled."""
    txn = original_of(request)
    if txn.status == statuses.VOIDED:
        return _already(request, txn, 310)
    if txn.status in BATCHED or txn.status in TOO_LATE_TO_VOID:
        raise Refused(327)
    if txn.status not in statuses.PENDING:
        raise Refused(16)
    amount = txn.captured or txn.amount
    request.ledger.void(txn, request.invoice, request.now)
    transaction_notifications.changed(request, txn, "voidTransaction", amount)
    return _done(request, txn, amount)


def refund(request: TransactionRequest) -> Reply:
    """refundTransaction: refund a settled transaction, or (unlinked) to a full card number."""
    method = read_payment(request)
    currency = request.currency()
    amount = request.amount()
    linked = bool(request.tree.get("refTransId", "").strip())
    if not linked:
        if not request.settings.unlinked_refunds:
            raise Refused(54)
        check_payment_method(method, request.now)
        charge_checks.check(request, method)
        if method.brand == "eCheck" and not request.settings.echeck:
            raise Refused(18)
        if method.brand == PAYPAL:
            raise Refused(54)
    original = original_of(request) if linked else None
    digest = duplicate_digest(request, REFUND, amount, method)
    if (duplicate := duplicate_of(request, digest)) is not None:
        return duplicate
    if original is not None:
        _check_refund(request, original, amount, currency, method)
    brand = method.brand if original is None else original.brand
    held = original is None and brand == "eCheck"
    response_code, reason = (4, 193) if held else (1, 1)
    txn = Txn(
        request.ledger.new_id(),
        request.account.login,
        REFUND,
        amount,
        response_code,
        reason,
        statuses.UNDER_REVIEW if held else statuses.REFUND_PENDING,
        request.now,
        currency,
        0 if original is None else original.trans_id,
        request.invoice,
        intern(method.last4),
        brand,
        "P",
        "",
        details(request),
        customer=request.customer,
    )
    request.ledger.record(txn, digest)
    transaction_notifications.made(request, txn)
    return replies.transaction(
        request.account,
        response_code,
        reason,
        amount=amount,
        trans_id=txn.trans_id,
        ref="" if original is None else str(original.trans_id),
        masked=txn.masked,
        brand=brand,
        user_fields=request.user_fields,
    )


def _check_refund(
    request: TransactionRequest, original: Txn, amount: int, currency: str, method: PaymentMethod
) -> None:
    """Check a linked refund. Raises Refused: 54 not refundable, 55 more than was settled."""
    if original.type != REFUND and original.status in SETTLING:
        raise Refused(16 if original.brand == "eCheck" else request.settings.unsettled_refund_code)
    if original.status != statuses.SETTLED or original.currency != currency:
        raise Refused(54)
    settled_at = request.ledger.batches[original.batch].at
    if request.now - settled_at > REFUND_DAYS * DAY_MS:
        raise Refused(54)
    if method.last4 != original.last4 or (
        (method.brand == "eCheck") is not (original.brand == "eCheck")
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
