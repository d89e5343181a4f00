"""Which part of a list a request asks for: `paging` counts in pages, from 1."""

from collections.abc import Mapping
from typing import Any, Final

MOST: Final = 1000
"""On one page; also where none is asked for."""


def bounds(body: Mapping[str, Any], total: int) -> tuple[int, int]:
    """Where the page begins and ends in a list of `total`. A page behind the last is empty: who
    reads until there is nothing more must not end with an error."""
    asked: Mapping[str, str] = body.get("paging") or {}
    limit, page = int(asked.get("limit", MOST)), int(asked.get("offset", 1))
    start = min((page - 1) * limit, total)
    return start, min(start + limit, total)
