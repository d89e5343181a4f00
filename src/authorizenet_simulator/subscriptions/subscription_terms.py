"""Checks a subscription request against the rules that the schema cannot express."""

from datetime import date
from hashlib import blake2b
from typing import Any, Final

import msgspec

from authorizenet_simulator.state import payment_dates, payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.subscriptions import Payer, Subscription, Terms
from authorizenet_simulator.transactions import accept_nonces
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError, Tree

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_PERSONAL: Final = frozenset({"driversLicense", "taxId"})
_BAD_NUMBER: Final = {
    6: "Credit Card Number is invalid.",
    7: "Credit Card Expiration Date is invalid.",
    9: "Routing Number is invalid.",
    10: "Bank Account Number is invalid.",
    17: "Credit Card Number is invalid.",
}


NOBODY: Final = Payer(0, 0)


def new_terms(tree: Tree, now: int) -> Terms:
    """Read the terms of a new subscription, with `NOBODY` as the payer. Raises ApiError."""
    schedule: Tree = tree.get("paymentSchedule") or {}
    if not schedule:
        raise ApiError("E00030")
    interval: Tree | None = schedule.get("interval")
    if interval is None:
        raise ApiError("E00014", "Interval is required.")
    if "startDate" not in schedule:
        raise ApiError("E00032")
    if "totalOccurrences" not in schedule:
        raise ApiError("E00014", "Total Occurrences is required.")
    if "amount" not in tree:
        raise ApiError("E00031")
    start = _date(schedule["startDate"])
    if start < payment_dates.today(now):
        raise ApiError("E00017", "Start Date must not occur before the submission date.")
    length, unit = int(interval["length"]), str(interval["unit"])
    if length not in payment_dates.LENGTHS[unit]:
        raise ApiError("E00022")
    occurrences, trial_amount = _trial(schedule, tree)
    terms = Terms(
        name=payment_methods.without_card_numbers(tree.get("name", "")),
        length=length,
        unit=unit,
        start=start,
        total=int(schedule["totalOccurrences"]),
        trial_occurrences=occurrences,
        amount=_amount(tree["amount"], "Amount", least=1),
        trial_amount=trial_amount,
        payer=NOBODY,
        details=_details(tree, {}),
    )
    _check(terms)
    return terms


def changed_terms(subscription: Subscription, tree: Tree) -> Terms:
    """Apply the fields that were sent to the terms, except for the payer. Raises ApiError."""
    before = subscription.terms
    schedule: Tree = tree.get("paymentSchedule") or {}
    if "startDate" in schedule and _date(schedule["startDate"]) != before.start:
        raise ApiError("E00033")
    if (interval := schedule.get("interval")) is not None and (
        int(interval["length"]) != before.length or interval["unit"] != before.unit
    ):
        raise ApiError("E00034")
    occurrences, trial_amount = before.trial_occurrences, before.trial_amount
    if "trialOccurrences" in schedule:
        occurrences = int(schedule["trialOccurrences"])
    if "trialAmount" in tree:
        trial_amount = _amount(tree["trialAmount"], "Trial Amount")
        if "trialOccurrences" not in schedule and not occurrences and trial_amount:
            raise ApiError("E00024")
    elif occurrences and not before.trial_occurrences:
        raise ApiError("E00026")
    total = int(schedule.get("totalOccurrences", before.total))
    if total <= subscription.past:
        raise ApiError("E00013", "Total Occurrences is invalid.")
    amount = before.amount
    if "amount" in tree:
        amount = _amount(tree["amount"], "Amount", least=1)
    terms = msgspec.structs.replace(
        before,
        name=payment_methods.without_card_numbers(tree.get("name", before.name)),
        total=total,
        trial_occurrences=occurrences,
        trial_amount=trial_amount,
        amount=amount,
        details=_details(tree, _decode(before.details)),
    )
    _check(terms)
    return terms


def _check(terms: Terms) -> None:
    if terms.total != payment_dates.FOREVER and terms.trial_occurrences >= terms.total:
        raise ApiError("E00028")
    if payment_dates.too_long(terms.start, terms.unit, terms.length, terms.total):
        raise ApiError("E00023")


def _trial(schedule: Tree, tree: Tree) -> tuple[int, int]:
    """Return trial occurrences and amount, which must both be sent or neither."""
    occurrences, amount = schedule.get("trialOccurrences"), tree.get("trialAmount")
    if occurrences is None and amount is None:
        return 0, 0
    if occurrences is None:
        raise ApiError("E00024")
    if amount is None:
        if int(occurrences):
            raise ApiError("E00026")
        return 0, 0
    return int(occurrences), _amount(amount, "Trial Amount")


def _date(text: str) -> date:
    found = payment_dates.date_of(text)
    if found is None:
        raise ApiError("E00013", "Start Date is invalid.")
    return found


def _amount(text: str, field: str, *, least: int = 0) -> int:
    amount = amounts.parse(text)
    if amount is None or amount < least:
        raise ApiError("E00013", f"{field} is invalid.")
    return amount


def _details(tree: Tree, before: Tree) -> str:
    """Return JSON of order and customer, without personal and card numbers."""
    kept = dict(before)
    for name in ("order", "customer"):
        if name in tree:
            wanted = {key: value for key, value in tree[name].items() if key not in _PERSONAL}
            kept[name] = {**before.get(name, {}), **wanted}
    return payment_methods.without_card_numbers(_encode(kept).decode())


def check_names(bill_to: Tree) -> None:
    """Check that first and last name are present. Raises ApiError E00014."""
    for key, shown in (("firstName", "First"), ("lastName", "Last")):
        if not bill_to.get(key, "").strip():
            raise ApiError("E00014", f"Bill-To {shown} Name is required.")


def read_payment(ledger: Ledger, account: Account, payment: Tree, now: int) -> PaymentMethod:
    """Read a request's payment method; a nonce is used up. Raises ApiError."""
    if (card := payment.get("creditCard")) is not None:
        found = payment_methods.read_card(card, ledger.salt)
    elif (bank := payment.get("bankAccount")) is not None:
        found = payment_methods.read_bank(bank, ledger.salt)
    elif (opaque := payment.get("opaqueData")) is not None:
        if opaque["dataDescriptor"] != accept_nonces.DESCRIPTOR:
            raise ApiError("E00013", "Data Descriptor is invalid.")
        found = accept_nonces.redeem(ledger, account, opaque["dataValue"], now)
    else:
        raise ApiError("E00016" if payment else "E00029")
    return found


def check_taken(settings: Settings, method: PaymentMethod) -> None:
    """Raise ApiError E00020 or E00021 if the account accepts no eChecks or no cards at all."""
    if method.brand == "eCheck":
        if not settings.echeck:
            raise ApiError("E00020")
    elif settings.card_types == []:
        raise ApiError("E00021")


_ENDS_TOO_EARLY: Final = ("E00018", "Credit Card expires before the start of the subscription.")


def check_payment_method(method: PaymentMethod, at: int, now: int) -> None:
    """Check the number, and that a card is valid until `at`. Raises ApiError; for a card that has
    expired already both E00013 and E00018."""
    if method.reason:
        raise ApiError("E00013", _BAD_NUMBER.get(method.reason))
    if method.brand == "eCheck":
        return
    reason = payment_methods.expiry_reason(method.expiry, at)
    if reason == 7:
        raise ApiError("E00013", _BAD_NUMBER[7])
    if payment_methods.expiry_reason(method.expiry, now):
        raise ApiError("E00013", REASONS[8][1], _ENDS_TOO_EARLY)
    if reason:
        raise ApiError(*_ENDS_TOO_EARLY)


def digest(ledger: Ledger, login: str, terms: Terms, method: PaymentMethod, bill_to: Tree) -> str:
    """Return a keyed digest of the fields that duplicate detection compares."""
    sent = _decode(terms.details)
    compared = (
        login,
        method.fingerprint,
        str(terms.length),
        terms.unit,
        terms.start.isoformat(),
        str(terms.total),
        str(terms.trial_occurrences),
        str(terms.amount),
        str(terms.trial_amount),
        sent.get("order", {}).get("invoiceNumber", ""),
        sent.get("customer", {}).get("id", ""),
        bill_to.get("firstName", ""),
        bill_to.get("lastName", ""),
    )
    return blake2b("\x1f".join(compared).encode(), key=ledger.salt, digest_size=12).hexdigest()
