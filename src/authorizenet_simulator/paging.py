"""Which part of a list a request asks for: `paging` counts in pages, from 1."""

from collections.abc import Mapping
from typing import Any, Final

from authorizenet_simulator.answers import ApiError

MOST: Final = 1000
"""On one page; also where none is asked for."""


def bounds(body: Mapping[str, Any], total: int) -> tuple[int, int]:
    """Where the page begins and ends in a list of `total`; an empty list has one page, as every
    page of it is empty. Raises ApiError E00094 for a page behind the last."""
    asked: Mapping[str, str] = body.get("paging") or {}
    limit, page = int(asked.get("limit", MOST)), int(asked.get("offset", 1))
    start = (page - 1) * limit
    if start >= total > 0:
        raise ApiError("E00094")
    return start, min(start + limit, total)
