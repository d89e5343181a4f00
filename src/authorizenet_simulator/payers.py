"""What pays for a subscription: a payment method of its own, or a stored profile's."""

from typing import Any

import msgspec

from authorizenet_simulator.answers import ApiError
from authorizenet_simulator.instruments import Instrument
from authorizenet_simulator.ledger import Account, Ledger
from authorizenet_simulator.subscriptions import Subscription, Terms

Tree = dict[str, Any]
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def instrument_of(ledger: Ledger, subscription: Subscription) -> Instrument | None:
    """The payment method as it is now; None where its profile is gone."""
    return subscription.terms.instrument


def bill_to_of(ledger: Ledger, login: str, terms: Terms) -> Tree:
    """The address of whoever pays; {} for none."""
    found: Tree = _decode(terms.details).get("billTo", {})
    return found


def with_profile(
    ledger: Ledger, account: Account, terms: Terms, profile: Tree
) -> tuple[Terms, Instrument]:
    """The terms paid by a stored profile, and what it pays with. Raises ApiError E00040."""
    raise ApiError("E00040")


def with_instrument(
    ledger: Ledger, account: Account, terms: Terms, instrument: Instrument, tree: Tree
) -> Terms:
    """The terms paid by this payment method."""
    return msgspec.structs.replace(terms, instrument=instrument)


def told(terms: Terms) -> Tree:
    """The ids of what pays, as an answer has them."""
    payer = terms.payer
    if not payer.profile:
        return {}
    ids = {"customerProfileId": str(payer.profile), "customerPaymentProfileId": str(payer.payment)}
    if payer.address:
        ids["customerAddressId"] = str(payer.address)
    return {"profile": ids}


def shown(ledger: Ledger, subscription: Subscription) -> Tree:
    """The masked profile of a subscription."""
    instrument = instrument_of(ledger, subscription)
    if instrument is None:
        return {}
    bill_to = bill_to_of(ledger, subscription.login, subscription.terms)
    return {"paymentProfile": {"billTo": bill_to, "payment": _masked(instrument)}}


def _masked(instrument: Instrument) -> Tree:
    if instrument.brand == "eCheck":
        return {"bankAccount": {"routingNumber": "XXXX", "accountNumber": instrument.masked}}
    return {"creditCard": {"cardNumber": instrument.masked, "expirationDate": "XXXX"}}
