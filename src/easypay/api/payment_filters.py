"""The filters of `GET /payments`, read from the query and named in the cursor."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from easypay import ids, inputs
from easypay.api.http import invalid_query
from easypay.payments.model import STATUS
from easypay.payments.search import Filters

_LARGEST_AMOUNT: Final = 999_999_999_999
_MOST_TEXT: Final = 100
AMOUNT_SCHEMA: Final = {"type": "integer", "minimum": 0, "maximum": _LARGEST_AMOUNT}
_TEXT: Final = re.compile(rf"[^\x00-\x1f\x7f]{{1,{_MOST_TEXT}}}")
TEXT_SCHEMA: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": _MOST_TEXT,
    "pattern": r"^[^\u0000-\u001f\u007f]*$",
}


def _text(text: str) -> str | None:
    return text if _TEXT.fullmatch(text) else None


def _last4(text: str) -> str | None:
    return text if len(text) == 4 and text.isascii() and text.isdigit() else None


def _currency(text: str) -> str | None:
    return text if len(text) == 3 and text.isascii() and text.isalpha() and text.isupper() else None


def _amount(text: str) -> int | None:
    return inputs.whole_number(text, 0, _LARGEST_AMOUNT)


def _yes_or_no(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def _customer(text: str) -> UUID | None:
    return ids.parse(ids.CUSTOMER, text)


def _reference(text: str) -> str | None:
    try:
        ids.reference_bounds(text)
    except ValueError:
        return None
    return text


_ANY_TEXT: Final = f"Use 1 to {_MOST_TEXT} characters without control characters."
_MINOR_UNITS: Final = (
    f"Use a whole number of minor units (cents for USD), from 0 to {_LARGEST_AMOUNT}."
)
_READ: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "status": (STATUS.get, f"Use one of: {', '.join(STATUS)}."),
    "currency": (_currency, "Use three capital letters, such as USD."),
    "amount_from": (_amount, _MINOR_UNITS),
    "amount_to": (_amount, _MINOR_UNITS),
    "last4": (_last4, "Use the last four digits of the card or account number."),
    "brand": (_text, "Use a card brand, such as visa."),
    "decline_code": (_text, "Use a decline code, such as insufficient_funds."),
    "refunded": (_yes_or_no, "Use true or false."),
    "order_reference": (_text, _ANY_TEXT),
    "customer_reference": (_text, _ANY_TEXT),
    "customer": (_customer, "Use a customer's id, such as cus_…."),
    "processor_transaction_id": (_text, _ANY_TEXT),
    "processor_reference": (_reference, "Use the 20 characters of an operation's reference."),
}
"""For each filter: how it is read (None if it cannot be), and what to send instead."""

NAMES: Final = tuple(_READ)


def filters_of(query: Mapping[str, str]) -> Filters:
    """Return the filters in a query. Raises ValidationFailed for one that cannot be read."""
    if _READ.keys().isdisjoint(query):
        return Filters()
    found = {}
    for name, (read, hint) in _READ.items():
        if name in query:
            found[name] = read(query[name])
            if found[name] is None:
                raise invalid_query(name, hint)
    return Filters(**found)


def currency_of(query: Mapping[str, str]) -> str | None:
    """Return the currency in a query, or None. Raises ValidationFailed if it cannot be read."""
    found = filters_of({"currency": query["currency"]} if "currency" in query else {})
    return found.currency


def scope_of(query: Mapping[str, str]) -> str:
    """Return a text that is the same only for the same filters: a cursor is bound to it."""
    return urlencode([(name, query[name]) for name in NAMES if name in query])
