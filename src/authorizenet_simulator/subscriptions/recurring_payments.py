"""Makes the payments of subscriptions when they are due.

A payment passes the triggers and filters of every sale. A failed one suspends its subscription,
which is terminated if it has no new payment method by the next date.
"""

from hashlib import blake2b
from sys import intern
from typing import Any, Final

import msgspec

from authorizenet_simulator.profiles import profile_charges
from authorizenet_simulator.state import statuses, subscriptions
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.subscriptions import Payer, Subscription
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.subscriptions import subscription_notifications
from authorizenet_simulator.transactions import charges
from authorizenet_simulator.transactions.transaction_request import (
    SALE,
    Refused,
    TransactionRequest,
    check_payment_method,
    details,
    read_payment,
)
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_APPROVED: Final = REASONS[1][1]


def collect(ledger: Ledger, subscription: Subscription, at: int) -> None:
    """Make the payment due at `at`, or terminate a subscription that is still suspended."""
    if subscription.status == subscriptions.SUSPENDED:
        ledger.do(subscriptions.Ended(subscription.number, subscriptions.TERMINATED))
        subscription_notifications.ended(ledger, subscription)
        return
    terms, pay_num = subscription.terms, subscription.past + 1
    txn, response, paid = _pay(ledger, subscription, pay_num, at)
    next_at = terms.due_ms(pay_num + 1, subscription.created)
    if next_at is None or (paid and terms.ends_with(pay_num)):
        status = subscriptions.EXPIRED
    else:
        status = subscriptions.ACTIVE if paid else subscriptions.SUSPENDED
    ledger.do(
        subscriptions.Charged(
            subscription.number,
            pay_num,
            at,
            txn,
            _digest(ledger, subscription, pay_num),
            response,
            status,
            next_at or at,
        )
    )
    subscription_notifications.charged(ledger, subscription, txn, paid=paid)


def _pay(
    ledger: Ledger, subscription: Subscription, pay_num: int, at: int
) -> tuple[Txn | None, str, bool]:
    """Return the transaction, its response text and whether it succeeded."""
    terms = subscription.terms
    amount = terms.amount_of(pay_num)
    account = ledger.accounts[subscription.login]
    if amount == 0 or ledger.settings_of(account).test_mode:
        return None, "", True
    tree = {"transactionType": SALE, "amount": amounts.text(amount), **_decode(terms.details)}
    request = TransactionRequest(ledger, account, {"transactionRequest": tree}, at)
    try:
        profile_charges.use(request, _profile(terms.payer))
        method = read_payment(request)
        request.amount()  # raises Refused above the account's maximum
        zip_code = request.tree.get("billTo", {}).get("zip", "")
        avs = charges.avs_of(method, zip_code)
        check_payment_method(method, at)
        response_code, reason, status = charges.verdict(
            request, SALE, amount, method, avs, zip_code
        )
    except Refused as refused:
        return None, refused.text or REASONS[refused.reason][1], False
    except ApiError as error:  # the profile has changed
        return None, error.text, False
    ids = {"id": subscription.number, "payNum": pay_num}
    txn = Txn(
        ledger.new_id(),
        account.login,
        SALE,
        amount,
        response_code,
        reason,
        status,
        at,
        account.currencies[0],
        0,
        request.invoice,
        intern(method.last4),
        method.brand,
        avs,
        "",
        msgspec.json.encode(_decode(details(request)) | {"subscription": ids}).decode(),
        amount if status == statuses.CAPTURED else 0,
        customer=request.customer,
    )
    approved = response_code == 1
    return txn, _APPROVED if approved else REASONS[reason][1], response_code in (1, 4)


def _profile(payer: Payer) -> dict[str, Any]:
    """Return the profile element of a createTransactionRequest."""
    named: dict[str, Any] = {
        "customerProfileId": str(payer.profile),
        "paymentProfile": {"paymentProfileId": str(payer.payment)},
    }
    return named | ({"shippingProfileId": str(payer.address)} if payer.address else {})


def _digest(ledger: Ledger, subscription: Subscription, pay_num: int) -> int:
    """Return a digest unique to the payment, so that payments are never duplicates."""
    unique = b"subscription:%d:%d" % (subscription.number, pay_num)
    return int.from_bytes(blake2b(unique, key=ledger.salt, digest_size=8).digest(), "big")
