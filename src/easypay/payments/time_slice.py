"""The length of time that one statement of a sweep looks through.

A sweep goes through operations by the time in their ids. Each statement takes one slice, so none
takes long, however many operations there are: `authorization_expiry` and `orphan_sweep` use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import asyncpg

from easypay.clock import monotonic


class TimeSlice:
    """A length that doubles after a quick statement, halves after a slow one, and falls to an
    eighth after one that the database cancelled."""

    def __init__(
        self,
        first: timedelta,
        *,
        shortest: timedelta,
        longest: timedelta,
        quick_s: float,
        slow_s: float,
    ) -> None:
        self.length = first
        self._shortest, self._longest = shortest, longest
        self._quick_s, self._slow_s = quick_s, slow_s

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """Adapt the length to how long the enclosed statement takes."""
        began = monotonic()
        try:
            yield
        except (asyncpg.QueryCanceledError, TimeoutError):
            self._scale(1 / 8)
            raise
        took_s = monotonic() - began
        if took_s > self._slow_s:
            self._scale(1 / 2)
        elif took_s < self._quick_s:
            self._scale(2)

    def _scale(self, factor: float) -> None:
        self.length = max(self._shortest, min(self.length * factor, self._longest))
