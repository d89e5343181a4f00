"""Authorize.Net's codes and their texts, from `data/codes.json`."""

from importlib.resources import files
from typing import Any, Final

import msgspec

_DATA: Final[dict[str, Any]] = msgspec.json.decode(
    files("authorizenet_simulator").joinpath("data/codes.json").read_bytes()
)

MESSAGES: Final[dict[str, str]] = _DATA["messages"]
"""Text of each I and E code, which apply to the whole request."""

REASONS: Final[dict[int, tuple[int, str]]] = {
    int(code): (rc, text) for code, (rc, text) in _DATA["reasons"].items()
}
"""Reason code of a transaction -> (response code 1 to 5, text)."""
