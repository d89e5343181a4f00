"""What was sent twice where only one can be meant: headers, and the keys of JSON objects.

Whoever takes the last of two, as parsers do, may do another thing than the client meant, or than a
proxy has checked.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from easypay.errors import FieldError, ValidationFailed

Headers = Sequence[tuple[bytes, bytes]]

SINGLE: Final = frozenset(
    b"authorization content-encoding content-length content-location content-range content-type "
    b"date expect from host idempotency-key if-match if-modified-since if-none-match if-range "
    b"if-unmodified-since max-forwards origin proxy-authorization range referer "
    b"transfer-encoding user-agent".split()
)
"""Headers that say one thing. The others are lists, and may have several lines (RFC 9110, 5.3)."""
_TRACEPARENT: Final = b"traceparent"

# Headers -------------------------------------------------------------------------------------


def ambiguous(headers: Headers) -> bytes | None:
    """The first header that must be single and is not, or None."""
    count = Counter(name for name, _ in headers)
    return next((name for name, times in count.items() if times > 1 and name in SINGLE), None)


def single_valued(headers: Headers) -> dict[bytes, bytes]:
    """One value for each name: the lines of a list are one, and two traces are none.

    https://www.w3.org/TR/trace-context/: a vendor that receives several takes them for invalid.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = b"%b, %b" % (found[name], value) if name in found else value
    if sum(name == _TRACEPARENT for name, _ in headers) > 1:
        del found[_TRACEPARENT]
    return found


# JSON ----------------------------------------------------------------------------------------


def refuse_doubled_keys(body: bytes) -> None:
    """Raise ValidationFailed where an object in `body` has a key twice."""
    if body.count(b":") <= 1:
        return
    try:
        path = _doubled(json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str))
    except RecursionError:  # only what no call takes is so deep, and then it is refused for that
        return
    if path is not None:
        pointer = "#" + "".join(f"/{_escape(name)}" for name in path)
        detail = "The key is given twice. Send it once: which of the two is meant is not known."
        raise ValidationFailed(
            f"{pointer[2:]}: {detail}", fields=(FieldError(pointer, "duplicate_key", detail),)
        )


def is_accounted_for(body: bytes, again: bytes, more: int) -> bool:
    """Whether each colon in the body is known to be of a key, or in a text, that was taken: then
    no key came twice. `again` is the body's value written anew, but for so many keys `more`.

    What a key hides when it comes again are colons that are in `body` alone. Written anew, the
    value has no colon that the body has not: a text is written as it came where nothing in the
    body is escaped, and keys that were left out are left out, or null. False means "look closely".
    """
    if b"\\" in body:
        return False
    return body.count(b":") == again.count(b":") - again.count(b":null") + more


class _Pairs(list[tuple[str, Any]]):
    """An object, with every key that was written."""


def _doubled(value: Any) -> tuple[str, ...] | None:
    """The path of the first key that comes twice in its object."""
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, inner in value:
            if name in seen:
                return (name,)
            seen.add(name)
            if (path := _doubled(inner)) is not None:
                return (name, *path)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if (path := _doubled(inner)) is not None:
                return (str(index), *path)
    return None


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
