"""Reads cards and bank accounts from a request without keeping their numbers.

Only a keyed fingerprint and the last four digits of a number are kept.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

LEGACY_TEST_CARD: Final = "4222222222222"
"""With this test card the amount, in whole units, is the reason code to answer."""


class PaymentMethod(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A payment method. `reason` is the reason code if its number is invalid, else 0."""

    fingerprint: str
    last4: str
    brand: str
    """The API's accountType; 'eCheck' for a bank account; '' if the number is invalid."""
    expiry: str = ""
    cvv_result: str = ""
    reason: int = 0
    legacy: bool = False
    swiped: bool = False
    """Read from a magnetic stripe, whose expiry the sandbox does not check."""
    issuer: str = ""
    """The first six digits, if the account's setting stores them."""

    @property
    def masked(self) -> str:
        return f"XXXX{self.last4}" if self.brand else ""


_CVV: Final = {"0": "M", "1": "N", "2": "S", "3": "U", "4": "P"}
_LENGTHS: Final = {
    "Visa": (13, 16),
    "MasterCard": (16,),
    "AmericanExpress": (15,),
    "Discover": (16,),
    "JCB": (15, 16),
    "DinersClub": (14, 16),
}
PAYPAL: Final = "PayPal"
WITHOUT_EXPIRY: Final = frozenset({"eCheck", PAYPAL})
NO_ZERO_AUTH: Final = frozenset({"JCB", "DinersClub"})


def read_card(card: Mapping[str, Any], salt: bytes) -> PaymentMethod:
    """Read a `creditCard`, or the `token` of a request for an Accept nonce."""
    number = card["cardNumber"].strip()
    brand = brand_of(number)
    valid = number.isascii() and number.isdigit() and _luhn(number)
    if valid and brand is None:
        reason = 17
    elif not valid or len(number) not in _LENGTHS[brand or ""]:
        reason, brand = 6, None
    else:
        reason = 0
    return PaymentMethod(
        fingerprint=fingerprint(number, salt),
        last4=last_four(number),
        brand=brand or "",
        expiry=card["expirationDate"],
        cvv_result=cvv_result(card.get("cardCode")),
        reason=reason,
        legacy=number == LEGACY_TEST_CARD,
    )


def read_track(track: Mapping[str, Any], salt: bytes) -> PaymentMethod:
    """Read number and expiry from a `trackData`."""
    text = track.get("track1") or track.get("track2") or ""
    found = re.match(r"%?B?;?(\d{12,19})[\^=](?:[^^]*\^)?(\d\d)(\d\d)", text)
    if found is None:
        return PaymentMethod("", "", "", reason=88 if track.get("track1") else 89)
    number, year, month = found.groups()
    card = read_card({"cardNumber": number, "expirationDate": month + year}, salt)
    return msgspec.structs.replace(card, swiped=True)


def read_bank(account: Mapping[str, Any], salt: bytes) -> PaymentMethod:
    """Read a `bankAccount`."""
    routing, number = account["routingNumber"].strip(), account["accountNumber"].strip()
    if not _aba(routing):
        reason = 9
    elif not (number.isascii() and number.isdigit()):
        reason = 10
    else:
        reason = 0
    return PaymentMethod(
        fingerprint=fingerprint(f"{routing}:{number}", salt),
        last4=last_four(number).rjust(4, "X"),  # a masked number always has eight characters
        brand="eCheck",
        reason=reason,
    )


def masked(number: str) -> str:
    """Mask a number to eight characters, such as XXXX1111."""
    return f"XXXX{last_four(number.strip()):X>4}"


def last_four(number: str) -> str:
    """Return the last four characters; `?` replaces any that takes two UTF-16 code units."""
    return "".join(c if c <= "\uffff" else "?" for c in number[-4:])


def shown_bank(account: Mapping[str, Any]) -> dict[str, str]:
    """Return a `bankAccount` without its number, with the routing number masked."""
    shown = {key: account[key] for key in _BANK_SHOWN if key in account}
    return {"routingNumber": masked(account["routingNumber"]), **shown}


_BANK_SHOWN: Final = ("accountType", "nameOnAccount", "echeckType", "bankName")


FINGERPRINT_CHARS: Final = 24


def fingerprint(number: str, salt: bytes) -> str:
    digest_size = FINGERPRINT_CHARS // 2
    return blake2b(number.encode(), key=salt, digest_size=digest_size).hexdigest()


def brand_of(number: str) -> str | None:
    """Return the API's name of the card's brand, by its first digits."""
    if number[:1] == "4":
        return "Visa"
    if not (number.isascii() and number[:4].isdigit()):
        return None
    four = int(number[:4])
    if 5100 <= four < 5600 or 2221 <= four <= 2720:
        return "MasterCard"
    if four // 100 in (34, 37):
        return "AmericanExpress"
    if four == 6011 or four // 10 in range(644, 650) or four // 100 in (62, 65):
        return "Discover"
    if 3528 <= four <= 3589 or four == 3088:
        return "JCB"
    if four // 100 in (36, 38, 39) or 3000 <= four <= 3059:
        return "DinersClub"
    return None


def expiry_reason(text: str, now_ms: int) -> int:
    """Return 0, or 7 (invalid) or 8 (expired); a card is valid to the end of its month."""
    end_ms = _end_of_expiry(text)
    return 7 if end_ms is None else 8 if now_ms >= end_ms else 0


_EXPIRY = re.compile(r"(?:(\d{4})-(\d\d)|(\d\d)[-/]?(\d{4}|\d\d))\Z", re.ASCII)


@lru_cache(1024)
def _end_of_expiry(text: str) -> int | None:
    """Return when a card expires, in milliseconds; None if the month is invalid."""
    found = _month_of(text)
    if found is None:
        return None
    year, month = found
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(after.timestamp() * 1000)


def _month_of(text: str) -> tuple[int, int] | None:
    found = _EXPIRY.match(text.strip())
    if found is None:
        return None
    year_text, month_text, month_first, year_last = found.groups()
    year, month = int(year_text or year_last), int(month_text or month_first)
    year += 2000 if year < 100 else 0
    return (year, month) if 1 <= month <= 12 and 1970 <= year < 9999 else None


def year_month(text: str) -> str | None:
    """Format an expiry as '2040-12'; None if it is invalid."""
    found = _month_of(text)
    return None if found is None else f"{found[0]}-{found[1]:02d}"


def cvv_result(code: str | None) -> str:
    """Return the card code's result by the test triggers; '' if none was sent."""
    if not code:
        return ""
    return _CVV.get(code[-1], "P") if code[:-1] in ("90", "900") else "P"


_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_PLAIN: Final = bytes.maketrans(b"0123456789", bytes(range(10)))


def _luhn(number: str) -> bool:
    digits = number.encode()
    plain, doubled = digits[::-2].translate(_PLAIN), digits[-2::-2].translate(_DOUBLED)
    return (sum(plain) + sum(doubled)) % 10 == 0


def _aba(routing: str) -> bool:
    if len(routing) != 9 or not (routing.isascii() and routing.isdigit()):
        return False
    return sum(int(d) * (3, 7, 1)[i % 3] for i, d in enumerate(routing)) % 10 == 0


_PUBLISHED: Final = (
    LEGACY_TEST_CARD,
    "4007000000027",
    "4012888818888",
    "4111111111111111",
    "4242424242424242",
    "5424000000000015",
    "5555555555554444",
    "2223000010309703",
    "2223000010309711",
    "370000000000002",
    "378282246310005",
    "6011000000000012",
    "3088000000000017",
    "38000000000006",
    "6221499053360818",
)
"""Published test cards."""


def issuer_number(method: PaymentMethod, salt: bytes) -> str:
    """Return the first six digits, if stored or if it is a published test card; else ''."""
    return method.issuer or _published_issuers(salt).get(method.fingerprint, "")


@lru_cache(8)
def _published_issuers(salt: bytes) -> dict[str, str]:
    return {fingerprint(number, salt): number[:6] for number in _PUBLISHED}


_LONG_DIGITS = re.compile(r"[0-9]{13,}")


def without_card_numbers(text: str) -> str:
    """Mask everything that looks like a card number, in text that will be stored."""
    return _LONG_DIGITS.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    number = found[0]
    brand = brand_of(number)
    if brand is None or len(number) not in _LENGTHS[brand] or not _luhn(number):
        return number
    return "X" * (len(number) - 4) + number[-4:]
