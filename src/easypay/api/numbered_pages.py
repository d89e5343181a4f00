"""Lists by page number, for clients that show `page 3 of 12`: `?page=3&size=20`.

A page shows what stands at its place now: rows that arrive push the others on. A client that must
see each row once follows the cursor instead.

Each page costs the same: the total is counted, and the count passes the place where the page
begins. It goes up to a limit, and pages end there, too. Beyond it the source may know the total.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from easypay.api import paging
from easypay.api.conditional import PRIVATE
from easypay.api.http import Request, Response, encode, invalid_query
from easypay.inputs import whole_number
from easypay.payments.lists import MOST_COUNTED, Rows, Source, Span

_NO_MORE: Final = ("limit", "cursor")
_TOGETHER: Final = "contradiction"
"""The code of an error that two fields make together."""


class Pagination(msgspec.Struct, frozen=True):
    """Which page this is, and how many can be asked for.

    `total_is_estimate`: there are at least so many rows as `total` says.
    """

    page: int
    size: int
    total: int
    pages: int
    total_is_estimate: bool


class NumberedPage(msgspec.Struct, frozen=True):
    """A page of a list, by its number."""

    data: list[Any]
    pagination: Pagination


class Found(msgspec.Struct, frozen=True):
    """A page's rows and its place."""

    rows: Rows
    pagination: Pagination


async def read(query: dict[str, str], source: Source, span: Span) -> Found:
    """Return the page that the query asks for. Raises ValidationFailed if it cannot be had."""
    for name in _NO_MORE:
        if name in query:
            raise invalid_query(name, "It does not go with page and size.", code=_TOGETHER)
    size = _number(query, "size", paging.DEFAULT_LIMIT, paging.MAX_LIMIT)
    page = _number(query, "page", 1, MOST_COUNTED)
    if page * size > MOST_COUNTED:
        raise invalid_query(
            "page",
            f"Pages end at row {MOST_COUNTED}. For older rows, set created_to to the created_at of "
            "the last row that you have, and begin with page 1; or leave out page and size, and "
            "follow next_cursor.",
            code=_TOGETHER,
        )
    counted = await source.count(span, (page - 1) * size + 1)
    rows: Rows = []
    if counted.starts_at is not None:
        rows = await source.rows(span.starting_with(counted.starts_at), size)
    total, exact = counted.total, counted.exact
    if not exact:
        known = await source.total(span)
        if known is not None:
            total, exact = known if known.exact else (max(total, known.number), False)
    pages = min(-(-total // size), MOST_COUNTED // size)
    return Found(rows, Pagination(page, size, total, pages, not exact))


def response(request: Request, views: Sequence[Any], found: Found) -> Response:
    """Return the page, with its numbers in headers, too."""
    place = found.pagination
    answer = Response(200, encode(NumberedPage(list(views), place)))
    answer.cache_control = PRIVATE
    answer.headers = [
        (b"x-total-count", b"%d" % place.total),
        (b"x-page", b"%d" % place.page),
        (b"x-size", b"%d" % place.size),
    ]
    if place.total_is_estimate:
        answer.headers.append((b"x-total-is-estimate", b"true"))
    return answer


def _number(query: dict[str, str], name: str, usual: int, most: int) -> int:
    text = query.get(name)
    number = usual if text is None else whole_number(text, 1, most)
    if number is None:
        raise invalid_query(name, f"Use a whole number from 1 to {most}.")
    return number
