"""Keyset pages, with opaque cursors that are signed for one caller and list."""

import base64
import binascii
import hmac
from datetime import datetime, timedelta
from itertools import permutations
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay import clock, ids, inputs
from easypay.api.conditional import PRIVATE
from easypay.api.http import Request, Response, encode, invalid_query
from easypay.merchants.model import Caller
from easypay.mode import Mode
from easypay.payments.lists import Span

FIRST_ID: Final = ids.of_number(0)
CREATED: Final = ("created_from", "created_to")
ORDERS: Final = ("newest", "oldest")
EXPANDABLE: Final = ("refunds", "operations", "customer")
_EXPANSIONS: Final = [",".join(each) for n in (1, 2, 3) for each in permutations(EXPANDABLE, n)]
EXPAND_PATTERN: Final = f"^({'|'.join(_EXPANSIONS)})$"
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
_SIGNATURE: Final = 16
_POSITION: Final = 8
_CLOCKS_DIFFER: Final = timedelta(days=1)
"""Clocks of two hosts differ by less. No row of a payment is older than the payment by more."""


class Page(msgspec.Struct, frozen=True):
    """A page of a list. `next_cursor` is null on the last page."""

    data: list[Any]
    has_more: bool
    next_cursor: Annotated[str | None, msgspec.Meta(description="The next page's ?cursor=.")]


class Continued(NamedTuple):
    """What a cursor says about the page before."""

    last: UUID
    """The id of its last row."""
    position: int
    """How much of the database's log it has seen at most; 0 if the cursor does not say."""


class Cursors:
    """Makes and reads cursors. A cursor works only for the caller, list and filters it is from.

    It is the last id, the position of the page if that is known, and a signature.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def read(self, text: str, caller: Caller, scope: str, *, name: str = "cursor") -> Continued:
        """Return what is in a cursor. Raises ValidationFailed for a cursor that is not ours."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        said, signature = raw[:-_SIGNATURE], raw[-_SIGNATURE:]
        if len(said) not in (16, 16 + _POSITION) or not hmac.compare_digest(
            signature, self._sign(said, caller, scope)
        ):
            raise invalid_query(
                name, "Use next_cursor of the previous page, with the same filters and key."
            )
        return Continued(UUID(bytes=said[:16]), int.from_bytes(said[16:]))

    def write(self, last: UUID, caller: Caller, scope: str, position: int = 0) -> str:
        """Return the cursor that continues after `last`."""
        said = last.bytes + (position.to_bytes(_POSITION) if position else b"")
        raw = said + self._sign(said, caller, scope)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def _sign(self, said: bytes, caller: Caller, scope: str) -> bytes:
        signed = b"\x00".join(
            (caller.merchant_id.bytes, caller.mode.encode(), scope.encode(), said)
        )
        return hmac.digest(self._key, signed, "sha256")[:_SIGNATURE]


def limit_of(query: dict[str, str]) -> int:
    """Return the page size: 1 to 100, by default 20."""
    text = query.get("limit")
    limit = DEFAULT_LIMIT if text is None else inputs.whole_number(text, 1, MAX_LIMIT)
    if limit is None:
        raise invalid_query("limit", f"Use a whole number from 1 to {MAX_LIMIT}.")
    return limit


def moment_of(query: dict[str, str], name: str) -> datetime | None:
    """Return an RFC 3339 time from the query, or None if it is absent."""
    text = query.get(name)
    if text is None:
        return None
    moment = inputs.moment(text)
    if moment is None:
        raise invalid_query(name, "Use RFC 3339 with an offset, such as 2026-11-24T00:00:00Z.")
    return moment


def time_bounds_of(query: dict[str, str]) -> tuple[datetime | None, datetime | None]:
    """Return created_from and created_to."""
    return moment_of(query, CREATED[0]), moment_of(query, CREATED[1])


def newest_first_of(query: dict[str, str]) -> bool:
    """Return whether the newest rows come first, as they do by default."""
    order = query.get("order", ORDERS[0])
    if order not in ORDERS:
        raise invalid_query("order", f"Use {' or '.join(ORDERS)}.")
    return order == ORDERS[0]


def newest_id() -> UUID:
    """Return a bound above every id that a host has made by now."""
    return ids.lowest_id_at(clock.now() + _CLOCKS_DIFFER)


def span_of(caller: Caller, query: dict[str, str], name: str) -> tuple[Span, str]:
    """Return the rows that a list's times and order leave, and the scope of its cursors."""
    span = span_between(caller.merchant_id, caller.mode, query)
    scope = f"{name} {query.get('created_from')} {query.get('created_to')}"
    return span, scope if span.newest_first else f"{scope} oldest"


def span_between(merchant_id: UUID, mode: Mode, query: dict[str, str]) -> Span:
    """Return the rows that a list's times and order leave."""
    since, until = time_bounds_of(query)
    floor = FIRST_ID if since is None else ids.lowest_id_at(since)
    below = newest_id()
    if until is not None:
        below = min(ids.lowest_id_at(until), below)
    return Span(merchant_id, mode, floor, below, newest_first_of(query))


def expand_of(query: dict[str, str]) -> tuple[str, ...]:
    """Return what a payment is to be shown with."""
    text = query.get("expand")
    if text is None:
        return ()
    asked = tuple(text.split(","))
    if not set(asked) <= set(EXPANDABLE) or len(set(asked)) < len(asked):
        raise invalid_query(
            "expand", f"Use {', '.join(EXPANDABLE)}, each once, with a comma between them."
        )
    return asked


def page_response(request: Request, data: list[Any], next_cursor: str | None) -> Response:
    """Return a page, with the next page's address in a Link header (RFC 8288)."""
    response = Response(200, encode(Page(data, next_cursor is not None, next_cursor)))
    response.cache_control = PRIVATE
    if next_cursor is not None:
        asked = request.query_string.decode("latin-1")
        target = f"cursor={next_cursor}"  # nothing in it needs to be quoted
        if asked:
            others = [part for part in asked.split("&") if part and part[:7] != "cursor="]
            target = "&".join([*others, target])
        response.headers = [(b"link", f'<{request.path}?{target}>; rel="next"'.encode("latin-1"))]
    return response
