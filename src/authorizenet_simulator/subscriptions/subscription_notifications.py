"""Sends the webhook notifications of subscriptions.

A successful payment is notified as a sale, not as a subscription event.
"""

from functools import partial
from typing import Any, Final

from authorizenet_simulator.state import payment_dates, subscriptions
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.subscriptions import Subscription
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import transaction_notifications
from authorizenet_simulator.wire import amounts

_ENDED: Final = {
    subscriptions.CANCELED: "cancelled",  # the event is spelled differently from the status
    subscriptions.TERMINATED: "terminated",
    subscriptions.EXPIRED: "expired",
}


def made(ledger: Ledger, subscription: Subscription) -> None:
    _notify(ledger, subscription, "created")


def changed(ledger: Ledger, subscription: Subscription) -> None:
    """Notify of new terms, and of the end if they allow no more payments."""
    _notify(ledger, subscription, "updated")
    if subscription.status == subscriptions.EXPIRED:
        _notify(ledger, subscription, "expired")


def ended(ledger: Ledger, subscription: Subscription) -> None:
    """Notify that the subscription was cancelled, or terminated for lack of payment."""
    _notify(ledger, subscription, _ENDED[subscription.status])


def charged(ledger: Ledger, subscription: Subscription, txn: Txn | None, *, paid: bool) -> None:
    """Notify of an attempted payment and of the status that the subscription has since."""
    if txn is not None:
        transaction_notifications.recorded(ledger, txn)
    if not paid:
        _notify(ledger, subscription, "failed")
    if subscription.status == subscriptions.SUSPENDED:
        _notify(ledger, subscription, "suspended")
    elif subscription.status == subscriptions.EXPIRED:
        _notify(ledger, subscription, "expired")
    elif _has_one_left(subscription):
        _notify(ledger, subscription, "expiring")


def _has_one_left(subscription: Subscription) -> bool:
    total = subscription.terms.total
    return total != payment_dates.FOREVER and total - subscription.past == 1


def _notify(ledger: Ledger, subscription: Subscription, what: str) -> None:
    event_type = f"net.authorize.customer.subscription.{what}"
    ledger.notify(subscription.login, event_type, partial(_payload, subscription))


def _payload(subscription: Subscription) -> dict[str, Any]:
    terms, payer = subscription.terms, subscription.terms.payer
    profile = {"customerProfileId": payer.profile, "customerPaymentProfileId": payer.payment}
    if payer.address:
        profile["customerShippingAddressId"] = payer.address
    return {
        "entityName": "subscription",
        "id": str(subscription.number),
        "name": terms.name,
        "amount": amounts.number(terms.amount),
        "status": subscription.status,
        "profile": profile,
    }
