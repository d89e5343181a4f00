"""The processor's answers: published ones, and composed ones where none was published.

`bodies.json` holds each by name, with its source. Published bodies are unchanged except for names,
addresses and ids: all bodies describe one payment, its refund and one card. A player replaces these
by the values of the request it answers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

BOM: Final = b"\xef\xbb\xbf"
PAYMENT_ID: Final = "60198282518"
"""The payment's transaction id in every recorded body."""
REFUND_ID: Final = "60198282600"
"""The refund's transaction id in every recorded body."""
ACCOUNT: Final = "XXXX1111"
BRAND: Final = '"Visa"'

_ENTRIES: Final[dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "bodies.json").read_text("utf-8")
)
SOURCES: Final = {name: entry["source"] for name, entry in _ENTRIES.items()}
STATUS: Final = {name: entry.get("status", 200) for name, entry in _ENTRIES.items()}
"""The HTTP status of each body."""
JSON: Final[dict[str, Any]] = {n: e["body"] for n, e in _ENTRIES.items() if "body" in e}
TEXT: Final[dict[str, str]] = {
    n: json.dumps(e["body"], separators=(",", ":")) if "body" in e else e["text"]
    for n, e in _ENTRIES.items()
}


def filled(text: str, marks: Mapping[str, str]) -> bytes:
    """Return a body in which each key of `marks` is replaced by its value, in order. JSON begins
    with a byte order mark, as Authorize.Net's does."""
    for mark, value in marks.items():
        text = text.replace(mark, value)
    return (BOM if text.startswith("{") else b"") + text.encode()
