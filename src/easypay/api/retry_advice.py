"""Whether to repeat a request, in words; the rest of each problem is in `problem_table`."""

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
    """What the table says of this error."""
    return PROBLEMS[error.code]


def problems() -> list[type[EasyPayError]]:
    """Every error the API can answer, by status and code."""
    found = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, EasyPayError) and kind is not EasyPayError
    ]
    return sorted(found, key=lambda error: (error.http_status, error.code))
