"""The ARB requests that change subscriptions: create, update, cancel."""

from collections.abc import Callable
from typing import Any, Final

from authorizenet_simulator import arb_reports, arb_terms, payers, schedule, subscriptions
from authorizenet_simulator.answers import ApiError, Reply
from authorizenet_simulator.arb_reports import find
from authorizenet_simulator.codes import MESSAGES
from authorizenet_simulator.instruments import Instrument
from authorizenet_simulator.ledger import Account, Ledger
from authorizenet_simulator.subscriptions import Subscription, Terms

Tree = dict[str, Any]


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBCreateSubscriptionRequest. Raises ApiError."""
    tree: Tree = body["subscription"]
    terms = arb_terms.new_terms(tree, now)
    _check_payer(tree)
    first_at = terms.due_ms(1, now)
    if first_at is None:
        raise ApiError("E00013", "Start Date is invalid.")
    lasts_until = schedule.run_ms(terms.start)
    if "profile" in tree:
        terms, instrument = payers.with_profile(ledger, account, terms, tree["profile"])
        arb_terms.check_names(payers.bill_to_of(ledger, account.login, terms))
        arb_terms.check_expiry(instrument, lasts_until)
        digest = _digest(ledger, account, terms, instrument, None)
    else:
        arb_terms.check_names(tree.get("billTo") or {})
        instrument = arb_terms.read_payment(ledger, account, tree.get("payment") or {}, now)
        arb_terms.check_expiry(instrument, lasts_until)
        digest = _digest(ledger, account, terms, instrument, None)
        terms = payers.with_instrument(ledger, account, terms, instrument, tree)
    number = ledger.subscriptions.next_number
    ledger.do(
        subscriptions.Created(
            Subscription(number, account.login, terms, now, digest, next_at=first_at)
        )
    )
    return Reply({"subscriptionId": str(number), **payers.told(terms)})


def update(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """ARBUpdateSubscriptionRequest: what is named changes. Raises ApiError."""
    found = find(ledger, account, body)
    if found.status not in subscriptions.RUNNING:
        raise ApiError("E00037", f"Subscriptions that are {found.status} cannot be updated.")
    tree: Tree = body["subscription"]
    terms = arb_terms.changed_terms(found, tree)
    pays_anew = "profile" in tree or "payment" in tree
    if pays_anew:
        _check_payer(tree)
    instrument = payers.instrument_of(ledger, found)
    if "profile" in tree:
        terms, instrument = payers.with_profile(ledger, account, terms, tree["profile"])
        _check_new(ledger, found, instrument, now)
    elif "payment" in tree:
        instrument = arb_terms.read_payment(ledger, account, tree["payment"], now)
        _check_new(ledger, found, instrument, now)
    digest = found.digest
    if instrument is not None:
        digest = _digest(ledger, account, terms, instrument, found)
        if "payment" in tree:
            terms = payers.with_instrument(ledger, account, terms, instrument, tree)
    status = subscriptions.ACTIVE if pays_anew else found.status
    if status == subscriptions.ACTIVE and terms.ends_with(found.past):
        status = subscriptions.EXPIRED
    ledger.do(subscriptions.Changed(found.number, terms, digest, status))
    return Reply(payers.told(terms))


def _check_payer(tree: Tree) -> None:
    """A profile comes without payment data, billing data and a second address."""
    profile: Tree | None = tree.get("profile")
    if profile is None:
        if not tree.get("payment"):
            raise ApiError("E00029")
        return
    if "payment" in tree:
        raise ApiError("E00090")
    if "billTo" in tree:
        raise ApiError("E00093")
    if "shipTo" in tree and "customerAddressId" in profile:
        raise ApiError("E00092")


def _check_new(ledger: Ledger, found: Subscription, instrument: Instrument, now: int) -> None:
    """What is to pay from now on."""
    if not arb_terms.same_kind(ledger, found, instrument):
        raise ApiError("E00036")
    arb_terms.check_expiry(instrument, max(now, schedule.run_ms(found.terms.start)))


def _digest(
    ledger: Ledger, account: Account, terms: Terms, instrument: Instrument, own: Subscription | None
) -> str:
    """The digest of these terms. Raises ApiError E00012 for a duplicate that runs."""
    digest = arb_terms.digest(ledger, account.login, terms, instrument)
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
    return Reply({})


METHODS: Final[dict[str, Callable[[Ledger, Account, Tree, int], Reply]]] = {
    "ARBCreateSubscriptionRequest": create,
    "ARBUpdateSubscriptionRequest": update,
    "ARBCancelSubscriptionRequest": cancel,
    "ARBGetSubscriptionRequest": arb_reports.subscription,
    "ARBGetSubscriptionStatusRequest": arb_reports.status,
    "ARBGetSubscriptionListRequest": arb_reports.listing,
}
