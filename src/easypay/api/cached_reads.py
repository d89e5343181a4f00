"""Reads that may be some time old, if the client or its merchant allows that.

`Cache-Control: max-age=N` allows an answer that was read from the database at most N seconds ago;
`no-cache` and `max-age=0` allow none. Without either, the merchant's `read_staleness_ms` counts,
which is 0 unless somebody set it. Such an answer has `Age`, in seconds, if it was not read for this
request. Without leave these handlers are not even asked.
"""

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

import msgspec

from easypay import ids
from easypay.api.auth import caller_of
from easypay.api.http import Handler, Request, Response
from easypay.api.payments import payment_id_of
from easypay.api.read_from import READ_AS_OF
from easypay.cache.caches import Caches, Loaded, Read
from easypay.cache.names import (
    CUSTOMER_METHODS,
    DUPLICATES,
    LIFE_S,
    PAYMENT,
    PAYMENTS,
    REFUNDS,
    STATISTICS,
    Answer,
    Kind,
    customer_methods_name,
    name_by_id,
    name_of,
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
    "customers.list_methods": CUSTOMER_METHODS,
}
"""The handlers that the caches stand before, and what they answer."""
_SCOPE: Final = {CUSTOMER_METHODS: "customers:read"}
"""The scope of a key that may read it, if it is not `payments:read`."""
_LEFT_OUT: Final = (b"if-none-match",)
"""Headers that ask for something of one client: a value is read without them."""
_LONGEST_KEPT: Final = 100
"""Bytes. A longer Cache-Control is read again each time, so that clients cannot fill the memory."""
_VERSION: Final = re.compile(rb'"v(\d+)')


def leave_s(request: Request, caller: Caller) -> float:
    """Return how old the answer to this request may be, in seconds; 0: as new as can be."""
    said = request.headers.get(b"cache-control")
    allowed = None
    if said is not None:
        allowed = _known_leave(said) if len(said) <= _LONGEST_KEPT else _leave_in(said)
    return caller.read_staleness_ms / 1000 if allowed is None else allowed


def _leave_in(said: bytes) -> float | None:
    """Return how old Cache-Control lets an answer be, in seconds; None if it says nothing."""
    allowed = None
    for part in said.lower().split(b","):
        directive, _, value = part.strip().partition(b"=")
        if directive in (b"no-cache", b"no-store"):
            return 0.0
        if directive == b"max-age":
            seconds = value.strip(b'" ')
            # More than the longest life is as good as that. Nonsense allows nothing.
            number = min(int(seconds[:9]), LIFE_S) if seconds.isdigit() else 0.0
            allowed = number if allowed is None else min(allowed, number)
    return allowed


_known_leave = lru_cache(maxsize=256)(_leave_in)


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

        scope = _SCOPE.get(kind, "payments:read")
        what = "customer" if kind is CUSTOMER_METHODS else "payment"

        async def read(request: Request) -> Response:
            caller = await caller_of(self._directory, request, scope)
            within_s = leave_s(request, caller)
            name = _name(kind, request, caller) if within_s > 0 else None
            if name is None:
                return await handler(request)
            found = self._caches.near(kind, name, within_s)
            if found is not None and found.value is not None:
                response = _response(found.value, found)
                if request.auth_s == 0:  # the directory knew the caller by the header as it is
                    response.still = self._still(request, caller, kind, name, within_s, found.value)
                return response
            if found is None:
                if kind is PAYMENT:
                    payment_id_of(request)  # raises NotFound if it is no id
                load = partial(self._load, handler, request)
                found = await self._caches.get_or_set(kind, name, within_s, load)
            if found.value is None:
                raise NotFound(f"there is no {what} {request.params['id']}")
            return _response(found.value, found)

        return read

    def _still(
        self,
        request: Request,
        caller: Caller,
        kind: Kind,
        name: str,
        within_s: float,
        answer: Answer,
    ) -> Callable[[], float | None]:
        """Return a function that returns how old an answer is now, in seconds, if the same request
        may get it again: while the key and its merchant's settings are as they were, and the near
        cache would give this answer. It returns None if that is not so, or nobody can say it."""
        authorization = request.headers[b"authorization"]
        # An answer has a list of its own. To hold the answer would be to hold its body, and more
        # memory than is allowed when the near cache has dropped it.
        headers = answer.headers
        known, near = self._directory.known, self._caches.near

        def age_s() -> float | None:
            if known(authorization) is not caller:
                return None
            found = near(kind, name, within_s)
            if found is None or found.value is None or found.value.headers is not headers:
                return None
            return found.age_s

        return age_s

    async def _load(self, handler: Handler, request: Request) -> Loaded:
        try:
            return self._loaded(await handler(_alone(request)))
        except NotFound:
            return Loaded(None)

    def _loaded(self, response: Response) -> Loaded:
        tag = _header(response.headers, b"etag")
        version = _VERSION.match(tag) if tag is not None else None
        answer = Answer(
            response.body, list(response.headers), response.content_type, response.cache_control
        )
        behind_s = self._replica_lag_s if _header(response.headers, READ_AS_OF) else 0.0
        return Loaded(answer, int(version[1]) if version else 0, behind_s)


def _name(kind: Kind, request: Request, caller: Caller) -> str | None:
    """Return the name of the answer in the caches; None if it is not cached: later pages, and
    payments that are shown with more."""
    if kind is PAYMENT:
        if request.query_string:
            return None
        # Not parsed yet: a text that is no id names nothing in this process.
        return name_by_id(caller.merchant_id, caller.mode, request.params["id"])
    if kind is CUSTOMER_METHODS:
        customer_id = ids.parse(ids.CUSTOMER, request.params["id"])
        if request.query_string or customer_id is None:
            return None
        return customer_methods_name(caller.merchant_id, caller.mode, customer_id)
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
    headers = answer.headers
    if read.cached:
        headers = [*headers, (b"age", b"%d" % read.age_s)]
    return Response(
        200, answer.body, answer.content_type, headers, answer.cache_control, forms=read.forms
    )


def _header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for each, value in headers if each == name), None)
