"""Card numbers: is it one, whose is it, and is there one where none may be.

Nothing here keeps, prints or returns a whole card number except `scrub`'s input to its caller.
"""

import re
from typing import Final

_BRANDS: Final = (
    (re.compile(r"4\d{12}(\d{3}){0,2}"), "visa"),
    (re.compile(r"5[1-5]\d{14}|(222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"), "mastercard"),
    (re.compile(r"3[47]\d{13}"), "amex"),
    (re.compile(r"(6011\d\d|65\d{4}|64[4-9]\d{3})\d{10,13}"), "discover"),
    (re.compile(r"(352[89]|35[3-8]\d|3088)\d{12}"), "jcb"),
    (re.compile(r"30[0-59]\d{11,13}|3[689]\d{12}"), "diners"),
    (re.compile(r"62\d{14,17}"), "unionpay"),
)  # fmt: skip
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# A run of 13 to 19 digits, single spaces or dashes between them allowed.
_CANDIDATE: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: the check digit of a card number."""
    values = digits.encode()
    total = sum(values[-1::-2]) - 48 * len(values[-1::-2])
    for value in values[-2::-2]:
        total += _DOUBLED[value - 48]
    return total % 10 == 0


def brand_of(number: str) -> str | None:
    """visa, mastercard, amex, discover, jcb, diners or unionpay, by number range; else None."""
    for pattern, brand in _BRANDS:
        if pattern.fullmatch(number):
            return brand
    return None


def contains_card_number(text: str) -> bool:
    """Does the text hold something that is a card number: known range, length and check digit?"""
    return any(_is_card_number(match.group()) for match in _CANDIDATE.finditer(text))


def scrub(text: str) -> str:
    """The text with every card number in it masked to its last four digits."""

    def mask(match: re.Match[str]) -> str:
        found = match.group()
        return f"****{found[-4:]}" if _is_card_number(found) else found

    return _CANDIDATE.sub(mask, text)


def _is_card_number(candidate: str) -> bool:
    digits = candidate.replace(" ", "").replace("-", "")
    return passes_luhn(digits) and brand_of(digits) is not None
