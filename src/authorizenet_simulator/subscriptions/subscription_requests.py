"""The ARB requests that change subscriptions: create, update, cancel."""

from typing import Final

import msgspec

from authorizenet_simulator.profiles import profile_reader
from authorizenet_simulator.state import payment_dates, subscriptions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.subscriptions import Payer, Subscription, Terms
from authorizenet_simulator.subscriptions import (
    subscription_notifications,
    subscription_payers,
    subscription_queries,
    subscription_terms,
)
from authorizenet_simulator.subscriptions.subscription_queries import find
from authorizenet_simulator.transactions import address_checks
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.replies import ApiError, Handler, Reply, Tree


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBCreateSubscriptionRequest: paid by a stored profile, or by one created for it.

    Raises ApiError.
    """
    tree: Tree = body["subscription"]
    address_checks.check(ledger.settings_of(account), tree)
    terms = subscription_terms.new_terms(tree, now)
    _check_payer(tree)
    first_at = terms.due_ms(1, now)
    if first_at is None:
        raise ApiError("E00013", "Start Date is invalid.")
    payer: Payer | None = None
    if "profile" in tree:
        payer = subscription_payers.named(ledger, account, tree["profile"])
        method, bill_to = _paid_by(ledger, account, payer)
        subscription_terms.check_names(bill_to)
    else:
        bill_to = tree.get("billTo") or {}
        subscription_terms.check_names(bill_to)
        method = subscription_terms.read_payment(ledger, account, tree["payment"], now)
    subscription_terms.check_taken(ledger.settings_of(account), method)
    subscription_terms.check_payment_method(method, payment_dates.run_ms(terms.start), now)
    digest = _digest(ledger, account, terms, method, bill_to, None)
    number = ledger.subscriptions.next_number
    if payer is None:
        payer = subscription_payers.made(ledger, account, number, method, tree)
    terms = msgspec.structs.replace(terms, payer=payer)
    made = Subscription(number, account.login, terms, now, digest, next_at=first_at)
    ledger.do(subscriptions.Created(made))
    subscription_notifications.made(ledger, made)
    return Reply({"subscriptionId": str(number), **subscription_payers.ids_of(payer)})


def update(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBUpdateSubscriptionRequest: change the fields that are sent. Raises ApiError."""
    found = find(ledger, account, body)
    if found.status not in subscriptions.RUNNING:
        raise ApiError("E00037", f"Subscriptions that are {found.status} cannot be updated.")
    tree: Tree = body["subscription"]
    address_checks.check(ledger.settings_of(account), tree)
    terms = subscription_terms.changed_terms(found, tree)
    payer = terms.payer
    before, bill_to = _paid_by(ledger, account, payer)
    method = before
    new_payment = "profile" in tree or "payment" in tree
    if new_payment:
        _check_payer(tree)
        if "profile" in tree:
            payer = subscription_payers.named(ledger, account, tree["profile"])
            method, bill_to = _paid_by(ledger, account, payer)
        else:
            method = subscription_terms.read_payment(ledger, account, tree["payment"], now)
        if (before.brand == "eCheck") != (method.brand == "eCheck"):
            raise ApiError("E00036")
        subscription_terms.check_payment_method(
            method, max(now, payment_dates.run_ms(terms.start)), now
        )
    bill_to = {**bill_to, **(tree.get("billTo") or {})}
    subscription_terms.check_names(bill_to)
    digest = _digest(ledger, account, terms, method, bill_to, found)
    if "profile" not in tree:
        payer = subscription_payers.changed(ledger, account, payer, method, tree)
    terms = msgspec.structs.replace(terms, payer=payer)
    status = subscriptions.ACTIVE if new_payment else found.status
    if status == subscriptions.ACTIVE and terms.ends_with(found.past):
        status = subscriptions.EXPIRED
    ledger.do(subscriptions.Changed(found.number, terms, digest, status))
    subscription_notifications.changed(ledger, found)
    return Reply(subscription_payers.ids_of(payer))


def _paid_by(ledger: Ledger, account: Account, payer: Payer) -> tuple[PaymentMethod, Tree]:
    """Return the payment method and address of a stored profile. Raises ApiError E00040."""
    payment = subscription_payers.payment_of(ledger, account.login, payer)
    if payment is None:
        raise ApiError("E00040")
    return payment.method, profile_reader.tree(payment.bill_to)


def _check_payer(tree: Tree) -> None:
    """Check that a profile is sent without payment, billing or a second shipping address."""
    profile: Tree | None = tree.get("profile")
    if profile is None:
        if not tree.get("payment"):
            raise ApiError("E00029")
        return
    if "payment" in tree:
        raise ApiError("E00091" if "customerPaymentProfileId" in profile else "E00090")
    if "billTo" in tree:
        raise ApiError("E00093")
    if "shipTo" in tree and "customerAddressId" in profile:
        raise ApiError("E00092")


def _digest(
    ledger: Ledger,
    account: Account,
    terms: Terms,
    method: PaymentMethod,
    bill_to: Tree,
    own: Subscription | None,
) -> str:
    """Return the digest of the terms. Raises ApiError E00012 for an unfinished duplicate."""
    digest = subscription_terms.digest(ledger, account.login, terms, method, bill_to)
    other = ledger.subscriptions.duplicate_of(digest)
    if other is not None and other is not own:
        raise ApiError(
            "E00012",
            f"You have submitted a duplicate of Subscription {other.number}."
            " A duplicate subscription will not be created.",
        )
    return digest


def cancel(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBCancelSubscriptionRequest: cancel; a repeated cancel succeeds without effect."""
    found = find(ledger, account, body)
    if found.status == subscriptions.CANCELED:
        return Reply({}, "Ok", "I00002", MESSAGES["I00002"])
    if found.status not in subscriptions.RUNNING:
        raise ApiError("E00038", f"Subscriptions that are {found.status} cannot be canceled.")
    ledger.do(subscriptions.Ended(found.number, subscriptions.CANCELED))
    subscription_notifications.ended(ledger, found)
    return Reply({})


METHODS: Final[dict[str, Handler]] = {
    "ARBCreateSubscriptionRequest": create,
    "ARBUpdateSubscriptionRequest": update,
    "ARBCancelSubscriptionRequest": cancel,
    "ARBGetSubscriptionRequest": subscription_queries.subscription,
    "ARBGetSubscriptionStatusRequest": subscription_queries.status,
    "ARBGetSubscriptionListRequest": subscription_queries.listing,
}
