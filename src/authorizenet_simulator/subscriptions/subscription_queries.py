"""The ARB requests that only read: one subscription, its status, the list."""

from collections.abc import Callable
from datetime import date
from typing import Any, Final

import msgspec

from authorizenet_simulator.profiles import profile_reader
from authorizenet_simulator.state import clock, payment_dates, payment_methods, transactions
from authorizenet_simulator.state import subscriptions as store
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.subscriptions import Payment, Subscription
from authorizenet_simulator.subscriptions import subscription_payers
from authorizenet_simulator.wire import amounts, paging
from authorizenet_simulator.wire.replies import NOTHING_FOUND, ApiError, Reply, Tree

_TRUE: Final = frozenset({"true", "1"})
STATUS_NOTE: Final = "Status with a capital 'S' is obsolete."
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def find(ledger: Ledger, account: Account, body: Tree) -> Subscription:
    """Return the account's subscription with the requested id. Raises ApiError E00035."""
    number = transactions.parse_id(body["subscriptionId"]) or 0
    found = ledger.subscriptions.find(account.login, number)
    if found is None:
        raise ApiError("E00035")
    return found


def status(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBGetSubscriptionStatusRequest, which also has the obsolete spelling `Status`."""
    current = find(ledger, account, body).status
    reply = {"note": STATUS_NOTE, "status": current, "Status": current}
    return Reply({**reply, "statusSpecified": True, "StatusSpecified": True})


def subscription(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBGetSubscriptionRequest, with the payments if requested."""
    found = find(ledger, account, body)
    terms = found.terms
    sent = _decode(terms.details)
    shown: Tree = {"name": terms.name} if terms.name else {}
    shown |= {
        "paymentSchedule": {
            "interval": {"length": terms.length, "unit": terms.unit},
            "startDate": terms.start.isoformat(),
            "totalOccurrences": terms.total,
            "trialOccurrences": terms.trial_occurrences,
        },
        "amount": amounts.number(terms.amount),
        "trialAmount": amounts.number(terms.trial_amount),
        "status": found.status,
        "profile": subscription_payers.shown(ledger, account, terms.payer),
    }
    if "order" in sent:
        shown["order"] = sent["order"]
    if body.get("includeTransactions", "").strip() in _TRUE:
        shown["arbTransactions"] = [_payment(each) for each in found.payments]
    return Reply({"subscription": shown})


def _payment(payment: Payment) -> Tree:
    shown: Tree = {"transId": str(payment.trans_id)} if payment.trans_id else {}
    return shown | {
        "response": payment.response,
        "submitTimeUTC": _moment(payment.at),
        "payNum": payment.pay_num,
        "attemptNum": 1,
    }


def _moment(at: int) -> str:
    """Format a time in UTC without the Z, as ARB does."""
    return clock.utc_text(at).removesuffix("Z")


def listing(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBGetSubscriptionListRequest: one page, ordered by id by default."""
    wanted = _SEARCHES[body["searchType"]]
    month = payment_dates.today(now)
    rows = [
        _row(ledger, account, each)
        for each in ledger.subscriptions.of(account.login)
        if wanted(ledger, each, month)
    ]
    sorting: Tree = body.get("sorting") or {}
    if sorting:
        order_by = sorting["orderBy"]
        descending = sorting["orderDescending"].strip() in _TRUE
        rows.sort(key=lambda row: _sort_key(row, order_by), reverse=descending)
    start, stop = paging.bounds(body, len(rows))
    listed = rows[start:stop]
    if not listed:
        return Reply({"totalNumInResultSet": len(rows)}, *NOTHING_FOUND)
    return Reply({"totalNumInResultSet": len(rows), "subscriptionDetails": listed})


def _sort_key(row: Tree, order_by: str) -> Any:
    value = row.get(order_by, "")
    return float(bytes(value)) if isinstance(value, msgspec.Raw) else value


def _row(ledger: Ledger, account: Account, each: Subscription) -> Tree:
    terms = each.terms
    sent = _decode(terms.details)
    payment = subscription_payers.payment_of(ledger, account.login, terms.payer)
    bill_to = {} if payment is None else profile_reader.tree(payment.bill_to)
    shown: Tree = {"id": each.number}
    if terms.name:
        shown["name"] = terms.name
    shown["status"] = each.status
    shown["createTimeStampUTC"] = _moment(each.created)
    for name in ("firstName", "lastName"):
        if name in bill_to:
            shown[name] = bill_to[name]
    shown["totalOccurrences"] = terms.total
    shown["pastOccurrences"] = each.past
    is_bank = payment is not None and payment.method.brand == "eCheck"
    shown["paymentMethod"] = "eCheck" if is_bank else "creditCard"
    if payment is not None:
        shown["accountNumber"] = payment.method.masked
    if invoice := sent.get("order", {}).get("invoiceNumber"):
        shown["invoice"] = invoice
    shown["amount"] = amounts.number(terms.amount)
    shown["currencyCode"] = account.currencies[0]
    shown["customerProfileId"] = terms.payer.profile
    shown["customerPaymentProfileId"] = terms.payer.payment
    if terms.payer.address:
        shown["customerShippingProfileId"] = terms.payer.address
    return shown


def _active(ledger: Ledger, each: Subscription, month: date) -> bool:
    return each.status == store.ACTIVE


def _inactive(ledger: Ledger, each: Subscription, month: date) -> bool:
    return each.status != store.ACTIVE


def _card_expiring(ledger: Ledger, each: Subscription, month: date) -> bool:
    """Return whether it is active and its card expires this month."""
    method: PaymentMethod | None = subscription_payers.payment_method_of(ledger, each)
    if each.status != store.ACTIVE or method is None or method.brand == "eCheck":
        return False
    return payment_methods.year_month(method.expiry) == f"{month:%Y-%m}"


def _expiring(ledger: Ledger, each: Subscription, month: date) -> bool:
    """Return whether it is active and its last payment is due this month."""
    terms = each.terms
    if each.status != store.ACTIVE or terms.total == payment_dates.FOREVER:
        return False
    last = terms.due_ms(terms.total, each.created)
    if last is None:
        return False
    day = payment_dates.today(last)
    return (day.year, day.month) == (month.year, month.month)


_SEARCHES: Final[dict[str, Callable[[Ledger, Subscription, date], bool]]] = {
    "subscriptionActive": _active,
    "subscriptionInactive": _inactive,
    "cardExpiringThisMonth": _card_expiring,
    "subscriptionExpiringThisMonth": _expiring,
}
