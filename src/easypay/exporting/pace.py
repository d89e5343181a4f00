"""How an export makes way for payments.

Alone, it runs as fast as it can. While payments are written, by whatever gateway, it works for a
share of the time and rests for the others, in short turns: a turn that is long would be felt by the
payments that come just then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from easypay.clock import stopwatch

IsBusy = Callable[[], Awaitable[bool]]
"""Tells whether payments are written now."""
ROWS_ALONE: Final = 10_000
ROWS_BESIDE: Final = 1_000
"""Rows of one turn: about 50 ms of work, and 5 ms beside payments."""
_LOOK_EVERY_S: Final = 0.25
_LONGEST_REST_S: Final = 2.0


class Pace:
    """The pace of one export. `share` is the part of the time that it may work beside payments,
    from 0 to 1."""

    def __init__(self, share: float, is_busy: IsBusy) -> None:
        self._share = share
        self._is_busy = is_busy
        self._busy = False
        self._look_at = 0.0

    async def rows(self) -> int:
        """Return how many rows the next turn may read."""
        if self._share < 1 and stopwatch() >= self._look_at:
            self._busy = await self._is_busy()
            self._look_at = stopwatch() + _LOOK_EVERY_S
        return ROWS_BESIDE if self._busy else ROWS_ALONE

    async def rest(self, worked_s: float) -> None:
        """Rest after a turn of `worked_s`, so that work has its share of the time."""
        if self._busy:
            await asyncio.sleep(min(_LONGEST_REST_S, worked_s * (1 / self._share - 1)))
