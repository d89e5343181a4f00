"""What comes from outside, read in one way: whole numbers, moments, names, credentials.

Query parameters, headers, bodies of the admin API and the command line all come here. Pure, and
unable to raise: whatever is not as it should be is None, or the reason in a sentence.
"""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

from easypay.card_numbers import contains_card_number

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""No moment from outside lies before the one, nor at the other or after it. Ids and the database
could not hold every year that a text can name."""
LONGEST_OVERLAP_S: Final = 30 * 86_400

_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
# RFC 3339, and no more of ISO 8601: no weeks, no day-less dates, no 24:00, no leap second.
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_UNPRINTED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_EDGES: Final = " \t\r\n\v\f\u00a0\u200b\ufeff"
"""What files, shells and web pages leave around a secret that was copied: blanks, line ends, a
byte order mark."""


def whole_number(text: str, least: int, most: int) -> int | None:
    """A number as people write it: ASCII digits, no sign, no leading zero, within bounds."""
    if not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if least <= number <= most else None


def moment(text: str) -> datetime | None:
    """An RFC 3339 moment with its offset, in UTC, from EARLIEST to before LATEST."""
    if not _MOMENT.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # 30 February, or the year 0001 in Asia
        return None
    return found if is_in_range(found) else None


def is_in_range(at: datetime) -> bool:
    """Can ids and the database hold this moment? Not one without an offset."""
    return at.tzinfo is not None and EARLIEST <= at < LATEST


def wrong_name(text: str) -> tuple[str, str] | None:
    """Why a text names no merchant or key, as a code and a sentence; None where it does."""
    if not 1 <= len(text) <= 100:
        return "invalid", "name must have 1 to 100 characters."
    if _UNPRINTED.search(text):
        return "invalid", "name must be one line without control characters."
    if all(unicodedata.category(each)[0] in "ZC" for each in text):
        return "invalid", "name must not be blank: write at least one visible character."
    if contains_card_number(text):
        return "card_number_in_text", "name looks like a card number: choose another."
    return None


def credential(text: str) -> str | None:
    """A login or key as it was issued, without what copying left around it: printable ASCII and no
    blanks. None where that is not what it is."""
    text = text.strip(_EDGES)
    return text if text.isascii() and text.isprintable() and " " not in text else None


def credential_bytes(data: bytes) -> str | None:
    """The first line of a file that holds a credential. None where it is no UTF-8 text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = text.strip(_EDGES).splitlines()
    return lines[0] if lines else ""
