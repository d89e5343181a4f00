"""Card numbers: is it one, whose is it, and is there one where none may be.

Nothing here keeps, prints or returns a whole card number except `scrub`'s input to its caller.
"""

import re
import unicodedata
from typing import Final

_BRANDS: Final = (
    (re.compile(r"4\d{12}(\d{3}){0,2}"), "visa"),
    (re.compile(r"(5[1-5]..|222[1-9]|22[3-9].|2[3-6]..|27[01].|2720)\d{12}"), "mastercard"),
    (re.compile(r"3[47]\d{13}"), "amex"),
    (re.compile(r"(6011\d\d|65\d{4}|64[4-9]\d{3})\d{10,13}"), "discover"),
    (re.compile(r"(352[89]|35[3-8]\d|3088)\d{12}"), "jcb"),
    (re.compile(r"30[0-59]\d{11,13}|3[689]\d{12}"), "diners"),
    (re.compile(r"62\d{14,17}"), "unionpay"),
)  # fmt: skip
_SHORTEST: Final = 13
_LONGEST: Final = 19
_DIGITS_ALONE: Final = bytes(byte if byte in b"0123456789" else 32 for byte in range(256))
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# Thirteen digits or more, with at most two spaces, dashes or dots between any two of them.
_RUN: Final = re.compile(r"[0-9](?:[ .\u00a0-]{0,2}[0-9]){12,}")
_GROUP: Final = re.compile(r"[0-9]+")
# A random UUID holds something like a card number once in 2,000: it is no card number.
_UUID: Final = re.compile(
    r"(?<![0-9a-f])[0-9a-f]{8}(-?)[0-9a-f]{4}\1[1-8][0-9a-f]{3}\1[89ab][0-9a-f]{3}\1[0-9a-f]{12}"
    r"(?![0-9a-f])",
    re.IGNORECASE,
)


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: the check digit of a card number."""
    values = digits.encode()
    total = sum(values[-1::-2]) - 48 * len(values[-1::-2])
    for value in values[-2::-2]:
        total += _DOUBLED[value - 48]
    return total % 10 == 0


def passes_aba(routing_number: str) -> bool:
    """The check digit of a bank's nine-digit routing number (ABA): weights 3, 7 and 1."""
    return sum(int(digit) * (3, 7, 1)[n % 3] for n, digit in enumerate(routing_number)) % 10 == 0


def brand_of(number: str) -> str | None:
    """visa, mastercard, amex, discover, jcb, diners or unionpay, by number range; else None."""
    for pattern, brand in _BRANDS:
        if pattern.fullmatch(number):
            return brand
    return None


def contains_card_number(text: str) -> bool:
    """Does the text hold something that is a card number: known range, length and check digit?"""
    return bool(_card_numbers(text))


def scrub(text: str) -> str:
    """The text with every card number in it masked to its last four digits."""
    for start, end in reversed(_card_numbers(text)):
        text = f"{text[:start]}****{text[end - 4 : end]}{text[end:]}"
    return text


def _card_numbers(text: str) -> list[tuple[int, int]]:
    """Where card numbers stand, whatever digits stand beside them: `4111 1111 1111 1111 12/35`."""
    if text.isascii():
        runs = text.encode().translate(_DIGITS_ALONE, b" .-").split()
        if not runs or len(max(runs, key=len)) < _SHORTEST:
            return []  # nearly always, and found out in a fifth of the time
    else:
        # Other scripts' digits are digits to whoever reads them.
        text = "".join(str(unicodedata.decimal(c, c)) for c in text)
    found: list[tuple[int, int]] = []
    for run in _RUN.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, *run.span())]
        free_from = 0
        for first, (start, _) in enumerate(groups):
            if start < free_from:
                continue
            longest = None
            for _, end in groups[first:]:
                digits = "".join(_GROUP.findall(text, start, end))
                if len(digits) > _LONGEST:
                    break
                if len(digits) >= _SHORTEST and _is_card_number(digits):
                    longest = end
            if longest is not None and not _in_uuid(text, start, longest):
                found.append((start, longest))
                free_from = longest
    return found


def _in_uuid(text: str, start: int, end: int) -> bool:
    return any(uuid.start() <= start and end <= uuid.end() for uuid in _UUID.finditer(text))


def _is_card_number(digits: str) -> bool:
    return passes_luhn(digits) and brand_of(digits) is not None
