"""The ARB requests that change subscriptions: create, update, cancel."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from authorizenet_simulator import (
    arb_reports,
    arb_terms,
    payers,
    places,
    profiles_read,
    schedule,
    subscription_notices,
    subscriptions,
)
from authorizenet_simulator.accounts import Account
from authorizenet_simulator.answers import ApiError, Reply
from authorizenet_simulator.arb_reports import find
from authorizenet_simulator.codes import MESSAGES
from authorizenet_simulator.instruments import Instrument
from authorizenet_simulator.ledger import Ledger
from authorizenet_simulator.subscriptions import Payer, Subscription, Terms

Tree = dict[str, Any]


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBCreateSubscriptionRequest: paid by a stored profile, or by one that is made for it.

    Raises ApiError.
    """
    tree: Tree = body["subscription"]
    places.check(ledger.settings_of(account), tree)
    terms = arb_terms.new_terms(tree, now)
    _check_payer(tree)
    first_at = terms.due_ms(1, now)
    if first_at is None:
        raise ApiError("E00013", "Start Date is invalid.")
    payer: Payer | None = None
    if "profile" in tree:
        payer = payers.named(ledger, account, tree["profile"])
        instrument, bill_to = _paid_by(ledger, account, payer)
        arb_terms.check_names(bill_to)
    else:
        bill_to = tree.get("billTo") or {}
        arb_terms.check_names(bill_to)
        instrument = arb_terms.read_payment(ledger, account, tree["payment"], now)
    arb_terms.check_taken(ledger.settings_of(account), instrument)
    arb_terms.check_instrument(instrument, schedule.run_ms(terms.start))
    digest = _digest(ledger, account, terms, instrument, bill_to, None)
    number = ledger.subscriptions.next_number
    if payer is None:
        payer = payers.made(ledger, account, number, instrument, tree)
    terms = msgspec.structs.replace(terms, payer=payer)
    made = Subscription(number, account.login, terms, now, digest, next_at=first_at)
    ledger.do(subscriptions.Created(made))
    subscription_notices.made(ledger, made)
    return Reply({"subscriptionId": str(number), **payers.told(payer)})


def update(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBUpdateSubscriptionRequest: what is named changes. Raises ApiError."""
    found = find(ledger, account, body)
    if found.status not in subscriptions.RUNNING:
        raise ApiError("E00037", f"Subscriptions that are {found.status} cannot be updated.")
    tree: Tree = body["subscription"]
    places.check(ledger.settings_of(account), tree)
    terms = arb_terms.changed_terms(found, tree)
    payer = terms.payer
    before, bill_to = _paid_by(ledger, account, payer)
    instrument = before
    pays_anew = "profile" in tree or "payment" in tree
    if pays_anew:
        _check_payer(tree)
        if "profile" in tree:
            payer = payers.named(ledger, account, tree["profile"])
            instrument, bill_to = _paid_by(ledger, account, payer)
        else:
            instrument = arb_terms.read_payment(ledger, account, tree["payment"], now)
        if (before.brand == "eCheck") != (instrument.brand == "eCheck"):
            raise ApiError("E00036")
        arb_terms.check_instrument(instrument, max(now, schedule.run_ms(terms.start)))
    bill_to = {**bill_to, **(tree.get("billTo") or {})}
    arb_terms.check_names(bill_to)
    digest = _digest(ledger, account, terms, instrument, bill_to, found)
    if "profile" not in tree:
        payer = payers.changed(ledger, account, payer, instrument, tree)
    terms = msgspec.structs.replace(terms, payer=payer)
    status = subscriptions.ACTIVE if pays_anew else found.status
    if status == subscriptions.ACTIVE and terms.ends_with(found.past):
        status = subscriptions.EXPIRED
    ledger.do(subscriptions.Changed(found.number, terms, digest, status))
    subscription_notices.changed(ledger, found)
    return Reply(payers.told(payer))


def _paid_by(ledger: Ledger, account: Account, payer: Payer) -> tuple[Instrument, Tree]:
    """Payment method and address of a stored profile. Raises ApiError E00040."""
    payment = payers.payment_of(ledger, account.login, payer)
    if payment is None:
        raise ApiError("E00040")
    return payment.instrument, profiles_read.tree(payment.bill_to)


def _check_payer(tree: Tree) -> None:
    """A profile comes without payment data, billing data and a second address."""
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
    instrument: Instrument,
    bill_to: Tree,
    own: Subscription | None,
) -> str:
    """The digest of these terms. Raises ApiError E00012 for a duplicate that runs."""
    digest = arb_terms.digest(ledger, account.login, terms, instrument, bill_to)
    other = ledger.subscriptions.duplicate_of(digest)
    if other is not None and other is not own:
        raise ApiError(
            "E00012",
            f"You have submitted a duplicate of Subscription {other.number}."
            " A duplicate subscription will not be created.",
        )
    return digest


def cancel(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBCancelSubscriptionRequest: a second time it is a success that did nothing."""
    found = find(ledger, account, body)
    if found.status == subscriptions.CANCELED:
        return Reply({}, "Ok", "I00002", MESSAGES["I00002"])
    if found.status not in subscriptions.RUNNING:
        raise ApiError("E00038", f"Subscriptions that are {found.status} cannot be canceled.")
    ledger.do(subscriptions.Ended(found.number, subscriptions.CANCELED))
    subscription_notices.ended(ledger, found)
    return Reply({})


METHODS: Final[dict[str, Callable[[Ledger, Account, Tree, int], Reply]]] = {
    "ARBCreateSubscriptionRequest": create,
    "ARBUpdateSubscriptionRequest": update,
    "ARBCancelSubscriptionRequest": cancel,
    "ARBGetSubscriptionRequest": arb_reports.subscription,
    "ARBGetSubscriptionStatusRequest": arb_reports.status,
    "ARBGetSubscriptionListRequest": arb_reports.listing,
}
