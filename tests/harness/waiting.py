"""Wait for conditions, never for a time. A time that the product promises is counted in pauses of
the event loop: a machine that is busy or stands still makes a pause longer, never their sum."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

_OFTEN_S: Final = 0.02
_SELDOM_S: Final = 0.1
_TICK_S: Final = 0.01
_SHARE: Final = 0.1
"""Of the time that a wait takes already, it may take so much longer than necessary."""


async def until(
    condition: Callable[[], Awaitable[Any]],
    *,
    within_s: float = 45,
    promised_s: float | None = None,
    what: object = "",
) -> Any:
    """Wait until the condition returns a true value, and return that. It is asked every 20 ms, and
    less often when the wait is long: to ask takes a request or a query.

    `within_s` only says when to give up: a busy machine takes long. `promised_s` is what the test
    asserts: the pauses between two questions add up to no more than that.
    """
    begun = time.monotonic()
    ends = begun + within_s
    paused_s = 0.0
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < ends, f"not within {within_s} s: {what or condition}"
        assert promised_s is None or paused_s < promised_s, (
            f"not within the {promised_s} s that are promised: {what or condition}"
        )
        pause_s = min(max(_OFTEN_S, _SHARE * (time.monotonic() - begun)), _SELDOM_S)
        await asyncio.sleep(pause_s)
        paused_s += pause_s


class Stopwatch:
    """How long something took, in pauses of the event loop."""

    seconds = 0.0


@asynccontextmanager
async def counted() -> AsyncIterator[Stopwatch]:
    """Count 10 ms for each pause of 10 ms that the event loop made within the block."""
    watch = Stopwatch()

    async def count() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            watch.seconds += _TICK_S

    counting = asyncio.create_task(count())
    try:
        yield watch
    finally:
        counting.cancel()
        await asyncio.wait([counting])
