"""The processor's answers, as they were published or, where nobody did, composed.

`bodies.json` holds each by name, with its source. Those that were published are written down field
by field as they stand, but for names, addresses and ids: all are told of one payment, its refund
and one card. Whoever plays a body puts in their place what belongs to the request that is answered.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

BOM: Final = b"\xef\xbb\xbf"
PAYMENT_ID: Final = "60198282518"
"""The transaction that every recorded body speaks of."""
REFUND_ID: Final = "60198282600"
"""The refund of it."""
ACCOUNT: Final = "XXXX1111"
BRAND: Final = '"Visa"'

_ENTRIES: Final[dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "bodies.json").read_text("utf-8")
)
SOURCES: Final = {name: entry["source"] for name, entry in _ENTRIES.items()}
STATUS: Final = {name: entry.get("status", 200) for name, entry in _ENTRIES.items()}
"""The HTTP status that a body comes with."""
JSON: Final[dict[str, Any]] = {n: e["body"] for n, e in _ENTRIES.items() if "body" in e}
TEXT: Final[dict[str, str]] = {
    n: json.dumps(e["body"], separators=(",", ":")) if "body" in e else e["text"]
    for n, e in _ENTRIES.items()
}


def filled(text: str, marks: Mapping[str, str]) -> bytes:
    """A body with its marks filled in; every name of `marks` is replaced wherever it stands, in
    their order. JSON gets the byte order mark that Authorize.Net's has."""
    for mark, value in marks.items():
        text = text.replace(mark, value)
    return (BOM if text.startswith("{") else b"") + text.encode()
