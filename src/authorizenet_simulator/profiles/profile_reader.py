"""Converts a request's payment method or address to what a profile stores."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from authorizenet_simulator.state import payment_methods, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import Address, PaymentProfile
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.transactions import accept_nonces, address_checks
from authorizenet_simulator.wire.replies import ApiError, Tree

_MASKED: Final = re.compile(r"X*\d{4}\Z", re.ASCII)
_MASKED_EXPIRY: Final = ("XXXX", "XXXXXX")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def tree(text: str) -> Tree:
    """Decode stored JSON; {} for ''."""
    return _decode(text) if text else {}


def is_true(value: Any) -> bool:
    """Read a boolean of a request."""
    return value in ("true", "1")


def number(text: str | None) -> int:
    """Parse an id; 0, which no profile has, if it is missing or invalid."""
    return transactions.parse_id(text or "") or 0


def payment_profile(
    ledger: Ledger,
    account: Account,
    sent: Tree,
    payment_id: int,
    now: int,
    before: PaymentProfile | None = None,
) -> PaymentProfile:
    """Build the stored payment profile from `sent`. With `before`, a masked value and an omitted
    payment method or address keep that one's. Raises ApiError E00013, E00014, E00015, E00082,
    E00085, and those of a nonce."""
    address_checks.check(ledger.settings_of(account), sent)
    shown: Tree = {key: sent[key] for key in _AS_SENT if key in sent}
    kept = {} if before is None else tree(before.details)
    if "payment" in sent:
        method, bank = _payment(ledger, account, sent["payment"], now, before)
    elif before is not None:
        method, bank = before.method, kept.get("bankAccount")
    else:
        raise ApiError("E00014")
    if bank is not None:
        shown["bankAccount"] = bank
    if (licence := sent.get("driversLicense")) is not None:
        shown["driversLicense"] = {
            "number": payment_methods.masked(licence["number"]),
            "state": licence["state"],
            "dateOfBirth": "XXXX-XX-XX",
        }
    if "taxId" in sent:
        shown["taxId"] = payment_methods.masked(sent["taxId"])
    if (earlier := sent.get("subsequentAuthInformation")) is not None:
        shown |= {
            key: earlier[key]
            for key in ("originalNetworkTransId", "originalAuthAmount")
            if key in earlier
        }
    bill_to = address(sent.get("billTo"))
    if before is not None and "billTo" not in sent:
        bill_to = before.bill_to
    made_at = now if before is None else before.made_at
    return PaymentProfile(payment_id, method, bill_to, _text(shown), made_at)


_AS_SENT: Final[tuple[str, ...]] = ("customerType", "excludeFromAccountUpdater")


def address(sent: Tree | None) -> str:
    """Return JSON of an address without empty fields; '' for none."""
    return _text({key: value for key, value in (sent or {}).items() if value})


def _text(value: Tree) -> str:
    return payment_methods.without_card_numbers(_encode(value).decode()) if value else ""


def _payment(
    ledger: Ledger, account: Account, sent: Tree, now: int, before: PaymentProfile | None
) -> tuple[PaymentMethod, Tree | None]:
    """Return the payment method, and the shown fields of a bank account other than its number."""
    stored = None if before is None else before.method
    if (card := sent.get("creditCard")) is not None:
        keep_issuer = ledger.settings_of(account).issuer_numbers
        return _card(card, ledger.salt, stored, keep_issuer=keep_issuer), None
    if (bank := sent.get("bankAccount")) is not None:
        return _bank(bank, ledger.salt, before)
    if (opaque := sent.get("opaqueData")) is not None:
        if opaque["dataDescriptor"] != accept_nonces.DESCRIPTOR:
            raise ApiError("E00013", "Opaque Data is invalid.")
        found = accept_nonces.redeem(ledger, account, opaque["dataValue"], now)
        if found.brand == "eCheck":
            return found, {"routingNumber": "XXXX", "nameOnAccount": ""}
        return _stored(found, _expiry(found.expiry, None)), None
    if (track := sent.get("trackData")) is not None:
        found = payment_methods.read_track(track, ledger.salt)
        return _stored(found, _expiry(found.expiry, None)), None
    raise ApiError("E00013", "Payment is invalid.")


def _card(
    card: Tree, salt: bytes, before: PaymentMethod | None, *, keep_issuer: bool
) -> PaymentMethod:
    digits = card["cardNumber"].strip()
    if before is not None and _MASKED.match(digits):
        if before.brand == "eCheck" or before.last4 != payment_methods.last_four(digits):
            raise ApiError("E00013", "Card Number is invalid.")
        return _stored(before, _expiry(card["expirationDate"], before))
    if not 13 <= len(digits) <= 16:
        raise ApiError("E00015", "The field length is invalid for Card Number.")
    if not (digits.isascii() and digits.isdigit()):
        raise ApiError("E00013", "Card Number is invalid.")
    found = payment_methods.read_card(card, salt)
    if not found.brand:  # stored anyway: only validation and charges check the digits
        found = msgspec.structs.replace(found, brand=payment_methods.brand_of(digits) or "")
    if keep_issuer:
        found = msgspec.structs.replace(found, issuer=digits[:6])
    return _stored(found, _expiry(card["expirationDate"], before))


def _stored(method: PaymentMethod, expiry: str) -> PaymentMethod:
    """Return what a profile stores: without the card code's result, which is not reusable."""
    return msgspec.structs.replace(method, expiry=expiry, cvv_result="")


def _expiry(text: str, before: PaymentMethod | None) -> str:
    """Return YYYY-MM; a masked expiry keeps the stored one."""
    if before is not None and before.expiry and text.strip() in _MASKED_EXPIRY:
        return before.expiry
    month = payment_methods.year_month(text)
    if month is None:
        raise ApiError("E00013", "Expiration Date is invalid.")
    return month


def _bank(bank: Tree, salt: bytes, before: PaymentProfile | None) -> tuple[PaymentMethod, Tree]:
    routing, digits = bank["routingNumber"].strip(), bank["accountNumber"].strip()
    if before is None or not digits.startswith("X"):
        return payment_methods.read_bank(bank, salt), payment_methods.shown_bank(bank)
    # Routing and account number share a fingerprint, so only both together can change.
    shown = tree(before.details).get("bankAccount", {})
    if before.method.brand != "eCheck" or before.method.last4 != payment_methods.last_four(digits):
        raise ApiError("E00013", "Account Number is invalid.")
    if shown.get("routingNumber", "")[-4:] != routing[-4:]:
        raise ApiError("E00013", "Routing Number is invalid.")
    return before.method, payment_methods.shown_bank(bank)


def same_payment(one: PaymentProfile, other: PaymentProfile) -> bool:
    """Return whether number, expiry, name, street and ZIP are equal: a duplicate."""
    first, second = one.method, other.method
    return (
        first.fingerprint == second.fingerprint
        and first.expiry == second.expiry
        and _equal_fields(one.bill_to, other.bill_to, ("firstName", "lastName", "address", "zip"))
    )


def same_address(one: Address, other: Address) -> bool:
    """Return whether name, street, ZIP and telephone are equal: a duplicate."""
    compared = ("firstName", "lastName", "address", "zip", "phoneNumber")
    return _equal_fields(one.ship_to, other.ship_to, compared)


def _equal_fields(one: str, other: str, names: Iterable[str]) -> bool:
    first: Mapping[str, Any] = tree(one)
    second: Mapping[str, Any] = tree(other)
    return all(first.get(name, "") == second.get(name, "") for name in names)
