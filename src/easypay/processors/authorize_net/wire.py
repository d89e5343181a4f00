"""Read what comes over the wire: a body into an object, and its scalars one by one.

Pure, and never raises: an invalid value becomes None, an invalid body `Unknown`.
Every text returned can be stored, as text and jsonb, and shown: PostgreSQL takes no NUL and UTF-8
no half of a surrogate pair, and a reply that cannot be recorded would stay open forever.
"""

import json
import re
from typing import Any, Final

import msgspec

from easypay.card_numbers import contains_card_number, scrub
from easypay.money import EXPONENT, parse_decimal
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.base import Unknown

ECHECK: Final = "echeck"
BRANDS: Final = {
    "Visa": "visa",
    "MasterCard": "mastercard",
    "Mastercard": "mastercard",  # the reference's spelling; the schema uses the other
    "AmericanExpress": "amex",
    "Discover": "discover",
    "JCB": "jcb",
    "DinersClub": "diners",
    "ChinaUnionPay": "unionpay",
    "UnionPay": "unionpay",
    "eCheck": ECHECK,
}

# The texts of nearly all replies; nothing in them to clean.
_PLAIN: Final = frozenset(
    {"This transaction has been approved.", "This transaction has been declined.", "Successful."}
)
_BOM: Final = b"\xef\xbb\xbf"
# A float literal stays text, so no amount ever becomes a float.
_DECODER: Final = msgspec.json.Decoder(float_hook=str)
_AMOUNT: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
_LONGEST_READ: Final = 4096
_QUOTE_BEGINS: Final = re.compile(r"The value (?:&#39;|')")
_QUOTE_ENDS: Final = "&#39; is invalid", "' is invalid"
_MOST_MESSAGES: Final = 20
"""The messages of a reply that are read as texts. A real one has a few. All codes count."""
_UNPRINTED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_LONG_NUMBER: Final = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")


def decode(reply: Reply) -> dict[str, Any] | Unknown:
    """Return a reply's JSON object, or why there is none. The content type is ignored."""
    if reply.status != 200:
        return Unknown(reason=f"HTTP status {reply.status}")
    body = reply.body.removeprefix(_BOM)
    try:
        answer = _DECODER.decode(body)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        try:
            answer = _decode_odd(body)
        except (ValueError, RecursionError):
            return Unknown(reason=f"{len(reply.body)} bytes that are not JSON")
    return answer if isinstance(answer, dict) else Unknown(reason="JSON, but not an object")


def _decode_odd(body: bytes) -> Any:
    """Decode JSON with half of a surrogate pair in a text, as from an emoji cut in two. The rest
    of the reply is valid."""
    return json.loads(body.decode(), parse_float=str, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def top_level(answer: dict[str, Any]) -> tuple[bool, list[tuple[str, str]]]:
    """Return whether the API says Ok, and its (code, text) messages."""
    messages = answer.get("messages")
    if not isinstance(messages, dict):
        return False, []
    found = [
        (
            scalar(item.get("code")) or "",
            (clean(item.get("text")) or "") if number < _MOST_MESSAGES else "",
        )
        for number, item in enumerate(records(messages.get("message")))
    ]
    return messages.get("resultCode") == "Ok", found


# Scalars. Each is None if the value is not valid.


def records(value: object) -> list[dict[str, Any]]:
    """Return a list of objects; a lone object counts as a list of one."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def scalar(value: object) -> str | None:
    """Return a code, which is text in some messages and a number in others."""
    if isinstance(value, str):
        return short(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -1 < value < 100_000 else None
    return None


def short(value: object, limit: int = 20) -> str | None:
    """Return a short text; None if it is empty, longer than `limit` or not text."""
    if not isinstance(value, str) or len(value) > limit:
        return None
    if value.isprintable():
        return value.strip() or None
    return _UNPRINTED.sub(" ", value).strip() or None


def printable(value: object, limit: int) -> str:
    """Return anything as text of at most `limit` characters that can be stored and shown."""
    if isinstance(value, int) and not -(10**20) < value < 10**20:
        return "(number)"
    text = value if isinstance(value, str) else str(value)
    text = text[:limit]
    return text if text.isprintable() else _UNPRINTED.sub(" ", text)


def auth_code(value: object) -> str | None:
    """Return the approval code: six characters, always fewer than a card number has."""
    return short(value, 12)


def network_id(value: object) -> str | None:
    """Return the card network's id of a transaction. An id of digits has fifteen."""
    found = short(value, 255)
    if found is None or len(found) <= 15:
        return found
    # A card number is at least thirteen characters in a row, none of them a letter. In a text of
    # at most 25 characters, each such run includes the middle.
    middle = found[-13:13]
    if middle.isascii() and middle.upper() != middle.lower():
        return found
    return None if contains_card_number(found) else found


def letter(value: object) -> str | None:
    """Return an AVS or CVV result as received: one letter."""
    return short(value, 1)


def identifier(value: object) -> str | None:
    """Return a transaction id: digits. 0 stands for "none"."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 < value < 10**20 else ""
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        return None
    return value if len(value) <= 20 and value.strip("0") else None


def amount_minor(value: object, currency: str) -> int | None:
    """Return `"12.50"`, `12.50` or `12` USD in cents; None if it is not an exact amount."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12:
        value = str(value)
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value) or currency not in EXPONENT:
        return None
    try:
        return parse_decimal(value, currency).minor
    except ValueError:
        return None


def card(brand: object, number: object) -> tuple[str | None, str | None]:
    """Return our word for the brand, and the last four digits of `XXXX1111`."""
    digits = number[-4:] if isinstance(number, str) else ""
    last4 = digits if len(digits) == 4 and digits.isascii() and digits.isdigit() else None
    return BRANDS.get(brand) if isinstance(brand, str) else None, last4


def clean(value: object) -> str | None:
    """Return their text, shortened and without quotations: schema errors repeat the offending
    value, which can be a card number, a card code or a key."""
    if not isinstance(value, str):
        return None
    if value in _PLAIN:
        return value
    value = _without_quoted(printable(value, _LONGEST_READ))
    return scrub(_LONG_NUMBER.sub("(number)", value))[:255].strip() or None


def _without_quoted(text: str) -> str:
    """Remove everything from the first quote to the last, in one pass."""
    begins = _QUOTE_BEGINS.search(text)
    if begins is None:
        return text
    at, end = max((text.rfind(each, begins.end()), each) for each in _QUOTE_ENDS)
    if at < 0:  # no quotation, or one so long that its end was cut off
        return text if len(text) < _LONGEST_READ else text[: begins.start()]
    return f"{text[: begins.start()]}The value is invalid{text[at + len(end) :]}"
