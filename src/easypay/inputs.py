"""Readers of input from outside: whole numbers, moments, names, credentials.

Query parameters, headers, bodies of the admin API and the command line are all read here. Pure, and
never raises: for bad input a function returns None, or the reason in a sentence.
"""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

from easypay.card_numbers import contains_card_number

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""A moment from outside is at or after EARLIEST and before LATEST: ids and the database cannot hold
every year that a text can name."""
LONGEST_OVERLAP_S: Final = 30 * 86_400

_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
# RFC 3339, and no more of ISO 8601: no weeks, no day-less dates, no 24:00, no leap second.
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_UNPRINTED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_EDGES: Final = " \t\r\n\v\f\u00a0\u200b\ufeff"
"""Characters that files, shells and web pages leave around a copied secret: blanks, line ends, a
byte order mark."""


def whole_number(text: str, least: int, most: int) -> int | None:
    """Return a number within bounds, in ASCII digits without sign or leading zero; else None."""
    if not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if least <= number <= most else None


def moment(text: str) -> datetime | None:
    """Return an RFC 3339 moment with an offset, in UTC, if it is in range; else None."""
    if not _MOMENT.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # 30 February, or the year 0001 in Asia
        return None
    return found if is_in_range(found) else None


def is_in_range(at: datetime) -> bool:
    """Whether ids and the database can hold this moment. It needs an offset."""
    return at.tzinfo is not None and EARLIEST <= at < LATEST


def wrong_name(text: str, most: int = 100) -> tuple[str, str] | None:
    """Return why a text is not a valid name, as a code and a sentence, or None."""
    if not 1 <= len(text) <= most:
        return "invalid", f"name must have 1 to {most} characters."
    if _UNPRINTED.search(text) or any(unicodedata.category(each) == "Cf" for each in text):
        return "invalid", "name must be one line without control or invisible characters."
    if all(unicodedata.category(each)[0] in "ZC" for each in text):
        return "invalid", "name must not be blank: write at least one visible character."
    if contains_card_number(text):
        return "card_number_in_text", "name looks like a card number: choose another."
    return None


def credential(text: str) -> str | None:
    """Return a login or key as it was issued, without what copying left around it. None if that is
    not printable ASCII without blanks."""
    text = text.strip(_EDGES)
    return text if text.isascii() and text.isprintable() and " " not in text else None


def credential_bytes(data: bytes) -> str | None:
    """Return the first line of a file that holds a credential. None if it is not UTF-8 text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = text.strip(_EDGES).splitlines()
    return lines[0] if lines else ""
