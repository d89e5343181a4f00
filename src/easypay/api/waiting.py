"""`GET /payments/{id}?wait=10`: an answer as soon as the payment is no longer `pending`.

For a waiting client the payment is read again and again, in groups with all others who read one.
Every wait has an end, only so many clients wait at a time, and a gateway that stops answers them.
A client that leaves gives its place to another at once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from easypay.api.http import ClientLeft, invalid_query
from easypay.clock import monotonic
from easypay.payments.model import Payment, Status

LONGEST_S: Final = 30
MOST_WAITING: Final = 1_000
"""In one process. Whoever comes then is answered at once."""
WAIT_PATTERN: Final = r"^([0-9]|[12][0-9])(\.[0-9]{1,3})?(?!\n)$|^30(?!\n)$"
_WAIT: Final = re.compile(WAIT_PATTERN)
_FIRST_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.25


def wait_of(query: dict[str, str]) -> float:
    """Return how long the client waits, in seconds; 0 if it does not. Raises ValidationFailed."""
    text = query.get("wait")
    if text is None:
        return 0.0
    if not _WAIT.fullmatch(text):
        raise invalid_query("wait", f"Use seconds from 0 to {LONGEST_S}, such as 10.")
    return float(text)


class Waiting:
    """The clients of one process that wait for a payment."""

    def __init__(self, is_draining: Callable[[], bool]) -> None:
        self._is_draining = is_draining
        self._count = 0

    async def until_sent(
        self,
        payment: Payment,
        wait_s: float,
        read: Callable[[], Awaitable[Payment]],
        left: Callable[[], Coroutine[Any, Any, None]],
    ) -> Payment:
        """Return the payment once it is not pending, or as it is after `wait_s` seconds. Raises
        ClientLeft if `left`, which returns once the client has left, does so first."""
        if payment.status is not Status.PENDING or self._count >= MOST_WAITING:
            return payment
        ends, pause_s = monotonic() + wait_s, _FIRST_S
        self._count += 1
        gone = asyncio.create_task(left())
        try:
            while payment.status is Status.PENDING and not self._is_draining():
                left_s = ends - monotonic()
                if left_s <= 0:
                    break
                await asyncio.wait({gone}, timeout=min(pause_s, left_s))
                if gone.done():
                    raise ClientLeft
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
                payment = await read()
        finally:
            gone.cancel()
            self._count -= 1
        return payment
