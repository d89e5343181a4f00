"""Wait for conditions, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(
    condition: Callable[[], Awaitable[Any]], *, within_s: float = 20, what: object = ""
) -> Any:
    """Wait until the condition returns a true value, and return that."""
    ends = time.monotonic() + within_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < ends, f"not within {within_s} s: {what or condition}"
        await asyncio.sleep(0.02)
