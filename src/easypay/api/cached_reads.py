"""Reads that may be some time old, if the client or its merchant allows that.

`Cache-Control: max-age=N` allows an answer that was read from the database at most N seconds ago;
`no-cache` and `max-age=0` allow none. Without either, the merchant's `read_staleness_ms` counts,
which is 0 unless somebody set it. Such an answer has `Age`, in seconds, if it was not read for this
request. Without leave these handlers are not even asked.
"""

import hashlib
import re
from typing import Final

import msgspec

from easypay import ids
from easypay.api.auth import caller_of
from easypay.api.http import Handler, Request, Response
from easypay.api.payments import payment_id_of
from easypay.api.read_from import READ_AS_OF
from easypay.cache.caches import Caches, Loaded, Read
from easypay.cache.names import (
    DUPLICATES,
    LIFE_S,
    PAYMENT,
    PAYMENTS,
    REFUNDS,
    STATISTICS,
    Answer,
    Kind,
    name_of,
    payment_name,
)
from easypay.errors import NotFound
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller

_CACHED: Final = {
    "reading.get": PAYMENT,
    "reading.list": PAYMENTS,
    "reading.list_refunds": REFUNDS,
    "reading.duplicates": DUPLICATES,
    "statistics.read": STATISTICS,
}
"""The handlers that the caches stand before, and what they answer."""
_LEFT_OUT: Final = (b"if-none-match",)
"""Headers that ask for something of one client: a value is read without them."""
_VERSION: Final = re.compile(rb'"v(\d+)')


def leave_s(request: Request, caller: Caller) -> float:
    """Return how old the answer to this request may be, in seconds; 0: as new as can be."""
    said = request.headers.get(b"cache-control")
    allowed = None
    for part in () if said is None else said.lower().split(b","):
        directive, _, value = part.strip().partition(b"=")
        if directive in (b"no-cache", b"no-store"):
            return 0.0
        if directive == b"max-age":
            seconds = value.strip(b'" ')
            # More than the longest life is as good as that. Nonsense allows nothing.
            number = min(int(seconds[:9]), LIFE_S) if seconds.isdigit() else 0.0
            allowed = number if allowed is None else min(allowed, number)
    return caller.read_staleness_ms / 1000 if allowed is None else allowed


class CachedReads:
    """Puts the caches before handlers. `replica_lag_s`: how far the read replica may be behind."""

    def __init__(self, caches: Caches, directory: Directory, replica_lag_s: float) -> None:
        self._caches = caches
        self._directory = directory
        self._replica_lag_s = replica_lag_s

    def before(self, place: str, handler: Handler) -> Handler:
        """Return the handler that is asked instead: this one, if its answers are not cached."""
        kind = _CACHED.get(place)
        if kind is None or not self._caches.is_on:
            return handler

        async def read(request: Request) -> Response:
            caller = await caller_of(self._directory, request, "payments:read")
            within_s = leave_s(request, caller)
            name = _name(kind, request, caller) if within_s > 0 else None
            if name is None:
                return await handler(request)

            async def load() -> Loaded:
                try:
                    return self._loaded(await handler(_alone(request)))
                except NotFound:
                    return Loaded(None)

            found = await self._caches.get_or_set(kind, name, within_s, load)
            if found.value is None:
                payment_id = ids.typed(ids.PAYMENT, payment_id_of(request))
                raise NotFound(f"there is no payment {payment_id}")
            return _response(found.value, found)

        return read

    def _loaded(self, response: Response) -> Loaded:
        tag = _header(response.headers, b"etag")
        version = _VERSION.match(tag) if tag is not None else None
        answer = Answer(
            response.body, response.headers, response.content_type, response.cache_control
        )
        behind_s = self._replica_lag_s if _header(response.headers, READ_AS_OF) else 0.0
        return Loaded(answer, int(version[1]) if version else 0, behind_s)


def _name(kind: Kind, request: Request, caller: Caller) -> str | None:
    """Return the name of the answer in the caches; None if it is not cached: later pages, and
    payments that are shown with more."""
    if kind is PAYMENT:
        if request.query_string:
            return None
        return payment_name(caller.merchant_id, caller.mode, payment_id_of(request))
    if b"cursor=" in request.query_string:
        return None
    # What the answer depends on beside the merchant and the mode.
    asked = b"%b\n%b\n%d" % (
        request.path.encode(),
        request.query_string,
        caller.duplicate_window_s,
    )
    item = hashlib.blake2b(asked, digest_size=16).hexdigest()
    return name_of(kind, caller.merchant_id, caller.mode, item)


def _alone(request: Request) -> Request:
    """Return the request as one of nobody in particular: its answer may go to others, too."""
    headers = {name: text for name, text in request.headers.items() if name not in _LEFT_OUT}
    return msgspec.structs.replace(request, headers=headers)


def _response(answer: Answer, read: Read) -> Response:
    """Return what this client gets. Whether it has that already is looked at later."""
    age = [(b"age", b"%d" % read.age_s)] if read.cached else []
    return Response(
        200,
        answer.body,
        answer.content_type,
        [*answer.headers, *age],
        answer.cache_control,
        forms=read.forms,
    )


def _header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for each, value in headers if each == name), None)
