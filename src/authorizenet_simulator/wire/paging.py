"""Paging of lists: `paging.offset` counts pages, from 1."""

from collections.abc import Mapping
from typing import Any, Final

MAX_LIMIT: Final = 1000
"""Maximum entries of a page, and the default."""


def bounds(body: Mapping[str, Any], total: int) -> tuple[int, int]:
    """Return the start and end of the page in a list of `total` entries. A page after the last is
    empty, so that a client that reads until the end gets no error."""
    paging: Mapping[str, str] = body.get("paging") or {}
    limit, page = int(paging.get("limit", MAX_LIMIT)), int(paging.get("offset", 1))
    start = min((page - 1) * limit, total)
    return start, min(start + limit, total)
