"""Masks requests and replies as they were sent, in JSON or XML, well formed or not.

Malformed requests are the ones people debug, so this masks the text itself and does not parse
it; escapes that could hide a digit or a name are decoded first.
"""

import re
from typing import Final

from authorizenet_simulator.state.payment_methods import brand_of

MOST_KEPT: Final = 64 << 10
"""Maximum characters of one body; the rest is cut off."""
_HIDDEN: Final = "***"

_NUMBERS: Final = ("cardNumber", "accountNumber", "routingNumber")
"""Masked except for the last four digits."""
_SECRETS: Final = (
    "transactionKey",
    "partnerTransactionKey",
    "sessionToken",
    "password",
    "accessToken",
    "connectedAccessToken",
    "fingerPrint",
    "clientKey",
    "cardCode",
    "cryptogram",
    "cardholderAuthenticationValue",
    "track1",
    "track2",
    "dataValue",
    "dataKey",
    "emvData",
    "PIN",
    "EncryptedData",
    "taxId",
    "driversLicense",
    # Not fields of the API, but clients send them by mistake.
    "transaction_key",
    "card_code",
    "cvv",
    "cvv2",
    "cvc",
    "securityCode",
)
"""Hidden completely, with any nested content."""
_NAMES: Final = "|".join(_NUMBERS + _SECRETS)
_STRING: Final = r'"(?:[^"\\]|\\.)*"?'
_JSON: Final = re.compile(
    rf'("(?:{_NAMES})"\s*:\s*)({_STRING}|\[[^\]]*\]?|\{{[^}}]*\}}?|[^,}}\]\s]+)'
    rf'|("token"\s*:\s*)({_STRING})',  # an object holds a card, masked by its own fields
    re.DOTALL | re.IGNORECASE,
)
_XML: Final = re.compile(
    rf"(<(?:[\w.-]+:)?(?P<name>{_NAMES})(?:\s[^<>]*)?(?<!/)>)(.*?)"
    r"(?=</(?:[\w.-]+:)?(?P=name)|\Z)"
    r"|(<(?:[\w.-]+:)?token>)([^<]*)",
    re.DOTALL | re.IGNORECASE,
)
_KEEPS_LAST: Final = re.compile(rf'[<":](?:{"|".join(_NUMBERS)})[">\s]', re.IGNORECASE)
_MASKED: Final = re.compile(r"X{1,8}[0-9]{0,4}|[0-9]{1,4}")
_LONGEST_RUN: Final = 40
_ESCAPED: Final = re.compile(r"\\u00([2-7][0-9A-Fa-f])|&#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}));")
_LONG_DIGITS: Final = re.compile(r"[0-9](?:[ .\-]{0,2}[0-9]){12,}")
_LAST_DIGITS: Final = re.compile(r"[0-9 .\-]+\Z")


def mask(body: bytes) -> str:
    """Return the text of `body` with every secret and card number masked. Of a body that is neither
    JSON nor XML (a form, compressed data) return the length: secrets could be anywhere in it."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = body.decode("utf-16", "replace")
    else:
        text = body.decode("utf-8-sig", "replace")
    text = text.replace("\x00", "")
    if text and text.lstrip()[:1] not in ("{", "[", "<"):
        return f"({len(body)} bytes that are neither JSON nor XML are not kept)"
    if len(text) > MOST_KEPT:
        text = _LAST_DIGITS.sub("", text[:MOST_KEPT]) + "…"
    if "\\u00" in text or "&#" in text:
        text = _ESCAPED.sub(_unescape, text)
    if '"' in text:
        text = _JSON.sub(_hide_value, text)
    if "<" in text:
        text = _XML.sub(_hide_element, text)
    return _LONG_DIGITS.sub(_hide_digits, text)


def _unescape(found: re.Match[str]) -> str:
    json, hexadecimal, decimal = found.groups()
    code = int(json or hexadecimal, 16) if json or hexadecimal else int(decimal)
    character = chr(code) if code < 128 else ""
    # Decoding anything else, such as a quote or angle bracket, would change the structure.
    return character if character.isalnum() or character in ("-", " ", ".") else found[0]


def _hide_value(found: re.Match[str]) -> str:
    name, value, token_name, token = found.groups()
    return _hidden(name or token_name, value or token)


def _hide_element(found: re.Match[str]) -> str:
    tag, _, value, token_tag, token = found.groups()
    return _hidden(tag or token_tag, value or token or "")


def _hidden(name: str, value: str) -> str:
    """Return `name` followed by the masked `value`."""
    inner = value.strip().strip('"')
    if not inner or inner == "null":
        return name + value
    quote = '"' if value.startswith('"') else ""
    shown = _HIDDEN
    if _KEEPS_LAST.search(name):
        if _MASKED.fullmatch(inner):
            return name + value
        digits = re.sub(r"[^0-9]", "", inner)
        shown = f"XXXX{digits[-4:]}" if len(digits) >= 8 else _HIDDEN
    return f"{name}{quote}{shown}{quote}"


def _hide_digits(found: re.Match[str]) -> str:
    """Mask a run of digits that is too long or contains a possible card number."""
    digits = re.sub(r"[^0-9]", "", found[0])
    if len(digits) > _LONGEST_RUN:
        return "XXXX"
    for length in range(min(19, len(digits)), 12, -1):
        for start in range(len(digits) - length + 1):
            number = digits[start : start + length]
            if brand_of(number) is not None and _passes_luhn(number):
                return f"XXXX{number[-4:]}" if length == len(digits) <= 16 else "XXXX"
    return found[0]


def _passes_luhn(digits: str) -> bool:
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0
