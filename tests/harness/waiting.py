"""Wait for conditions, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

_OFTEN_S: Final = 0.02
_SELDOM_S: Final = 0.1
_SHARE: Final = 0.1
"""Of the time that a wait takes already, it may take so much longer than necessary."""


async def until(
    condition: Callable[[], Awaitable[Any]], *, within_s: float = 45, what: object = ""
) -> Any:
    """Wait until the condition returns a true value, and return that. It is asked every 20 ms, and
    less often when the wait is long: to ask takes a request or a query. The limit only says when to
    give up: a busy machine takes long."""
    begun = time.monotonic()
    ends = begun + within_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < ends, f"not within {within_s} s: {what or condition}"
        await asyncio.sleep(min(max(_OFTEN_S, _SHARE * (time.monotonic() - begun)), _SELDOM_S))
