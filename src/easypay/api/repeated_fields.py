"""Fields sent twice although only one can be meant: headers, and keys of JSON objects.

Parsers take the last of two, which may not be the one the client meant or a proxy checked.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from easypay.errors import FieldError, ValidationFailed

Headers = Sequence[tuple[bytes, bytes]]

SINGLE: Final = frozenset(
    b"allow-duplicate authorization content-encoding content-length content-location "
    b"content-range content-type date expect from host idempotency-key if-match "
    b"if-modified-since if-none-match if-range if-unmodified-since max-forwards origin "
    b"proxy-authorization range referer transfer-encoding user-agent".split()
)
"""Headers with a single value. The others are lists and may repeat (RFC 9110, 5.3)."""
_TRACEPARENT: Final = b"traceparent"

# Headers -------------------------------------------------------------------------------------


def ambiguous(headers: Headers) -> bytes | None:
    """Return the first repeated header that must be single, or None."""
    count = Counter(name for name, _ in headers)
    return next((name for name, times in count.items() if times > 1 and name in SINGLE), None)


def single_valued(headers: Headers) -> dict[bytes, bytes]:
    """Return one value for each name: lists are joined, and a repeated traceparent is dropped.

    https://www.w3.org/TR/trace-context/: a receiver of several treats them as invalid.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = b"%b, %b" % (found[name], value) if name in found else value
    if sum(name == _TRACEPARENT for name, _ in headers) > 1:
        del found[_TRACEPARENT]
    return found


# JSON ----------------------------------------------------------------------------------------


def refuse_repeated_keys(body: bytes) -> None:
    """Raise ValidationFailed if an object in `body` has a key twice."""
    if body.count(b":") <= 1:
        return
    try:
        path = _first_repeated(
            json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
        )
    except RecursionError:  # no call takes a body nested so deeply: it is refused for that
        return
    if path is not None:
        pointer = "#" + "".join(f"/{_escape(name)}" for name in path)
        detail = "The key is given twice. Send it once."
        raise ValidationFailed(
            f"{pointer[2:]}: {detail}", fields=(FieldError(pointer, "duplicate_key", detail),)
        )


def is_accounted_for(body: bytes, again: bytes, more: int) -> bool:
    """Whether no key can be repeated, because every colon in `body` is accounted for.

    `again` is the decoded body, encoded again without `more` of its keys. A value that a repeated
    key hides leaves colons in `body` alone. `again` has no colon that `body` lacks: without escapes
    a text is encoded as it came, and absent keys are omitted or null. False means "look closely".
    """
    if b"\\" in body:
        return False
    return body.count(b":") == again.count(b":") - again.count(b":null") + more


class _Pairs(list[tuple[str, Any]]):
    """An object as pairs, repeated keys included."""


def _first_repeated(value: Any) -> tuple[str, ...] | None:
    """Return the path of the first key that is repeated in its object, or None."""
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, inner in value:
            if name in seen:
                return (name,)
            seen.add(name)
            if (path := _first_repeated(inner)) is not None:
                return (name, *path)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if (path := _first_repeated(inner)) is not None:
                return (str(index), *path)
    return None


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
