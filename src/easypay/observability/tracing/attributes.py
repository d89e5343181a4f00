"""The attributes that a span may have. Nothing else leaves in a trace.

Names follow OpenTelemetry's semantic conventions; our own begin with `easypay.`. Each value has a
form that no card number, name, address, email, key or free text fits. What does not fit is left
out. An id's digits are hexadecimal and come from our own clock and random numbers.
"""

import re
from collections.abc import Mapping
from typing import Final

from easypay import ids

Value = str | int | float | bool
_WORD: Final = re.compile(r"[a-z][a-z_]{0,47}")
"""A word of our own code, such as an outcome or a problem's code."""
_ID: Final = re.compile(r"(pay|op|re|evt|mer|bat|req|whe)_[0-9a-f]{32}")
_ROUTE: Final = re.compile(r"none|/[A-Za-z/{}_:.-]*(v1[A-Za-z/{}_:.-]*)?")
_METHOD: Final = re.compile(r"GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|_OTHER")
_SUMMARY: Final = re.compile(r"[A-Za-z_ ]{1,64}")
_STATUS_OR_WORD: Final = re.compile(r"[1-5][0-9][0-9]|[A-Za-z][A-Za-z_]{0,47}")

Form = re.Pattern[str] | type[int] | type[float] | type[bool]

ATTRIBUTES: Final[Mapping[str, Form]] = {
    "http.request.method": _METHOD,
    "http.route": _ROUTE,
    "http.response.status_code": int,
    "url.scheme": re.compile(r"https?"),
    "error.type": _STATUS_OR_WORD,
    "db.system.name": re.compile(r"postgresql"),
    "db.query.summary": _SUMMARY,
    "db.operation.batch.size": int,
    "easypay.request.id": _ID,
    "easypay.merchant.id": _ID,
    "easypay.payment.id": _ID,
    "easypay.operation.id": _ID,
    "easypay.event.id": _ID,
    "easypay.batch.id": _ID,
    "easypay.mode": re.compile(r"test|live"),
    "easypay.problem": _WORD,
    "easypay.replayed": bool,
    "easypay.processor": _WORD,
    "easypay.operation": _WORD,
    "easypay.outcome": _WORD,
    "easypay.group.wait": float,
    "easypay.work": re.compile(r"[a-z ]{1,32}"),
}
ATTRIBUTE_OF: Final[Mapping[str, str]] = {
    ids.PAYMENT: "easypay.payment.id",
    ids.OPERATION: "easypay.operation.id",
    ids.EVENT: "easypay.event.id",
    ids.BATCH: "easypay.batch.id",
}
"""By the kind of an id."""
_LARGEST_NUMBER: Final = 9_999
"""Statuses, sizes and seconds are smaller. With six decimals a number has ten digits, and a card
number at least twelve."""


def fits(name: str, value: Value) -> bool:
    """Whether a span may have this attribute with this value."""
    form = ATTRIBUTES.get(name)
    if form is None:
        return False
    if isinstance(form, type):
        if type(value) is not form or abs(value) > _LARGEST_NUMBER:
            return False
        return type(value) is not float or value == round(value, 6)
    return type(value) is str and form.fullmatch(value) is not None
