"""Retry advice in words, for the documentation; `problem_table` has the rest of each problem."""

from collections.abc import Mapping
from typing import Final

from easypay import errors
from easypay.errors import EasyPayError
from easypay.problem_table import PROBLEMS, Repeat, Row

REPEAT: Final[Mapping[Repeat, str]] = {
    "no": "Not as it is",
    "same_key": "Yes, with the same key",
    "new_key": "Only as a new request with a new key",
}
KEPT: Final[Mapping[bool, str]] = {
    True: "Yes: a repeat with the same key gets this answer again, byte for byte",
    False: "No",
}


def row_of(error: type[EasyPayError]) -> Row:
    """Return the table's row for this error."""
    return PROBLEMS[error.code]


def problems() -> list[type[EasyPayError]]:
    """Return every error of the API, by status and code."""
    found = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, EasyPayError) and kind is not EasyPayError
    ]
    return sorted(found, key=lambda error: (error.http_status, error.code))
