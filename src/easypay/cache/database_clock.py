"""What the database's clock says now, so that the age of a value is the same in every process.

The database is asked once a second. It read its clock at some moment between question and answer,
so what it says is known to within that time. `earliest` takes the one end and `latest` the other:
an age that is computed from both is never less than it is.

Unless the clock is set back: then ages are not known until all values of the later clock have
ended.

With the time it says its timeline, which is a new one after each failover. The server that took
over may lack the last commits of the one before: what was read there may never have happened.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from easypay.cache.names import LIFE_S
from easypay.clock import monotonic
from easypay.db.connections import LOST

_ASK_EVERY_S: Final = 1.0
_ASK_WITHIN_S: Final = 1.0
_KNOWN_FOR_S: Final = 10.0
TIMELINE: Final = """
    CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
"""
"""SQL. Of a standby it is not known; nothing that is cached as the primary's was read there."""
_NOW: Final = f"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, {TIMELINE}"
_MICRO: Final = 1_000_000
_STEP_US: Final = 100_000
"""By how much the clock must have been set back to count. Less is a clock that is being slowed."""
_UNSURE_FOR_S: Final = LIFE_S + _KNOWN_FOR_S
"""After that no value lives whose time is of the later clock, whoever stored it."""


class DatabaseClock:
    """All times of the database are microseconds since 1970. `on_failover` is called when another
    server has taken over."""

    def __init__(self, pool: Any, on_failover: Callable[[], None]) -> None:
        self._pool = pool
        self._on_failover = on_failover
        self.timeline = ""
        """Of the server that was asked last."""
        self._asked_at = self._answered_at = 0.0
        self._said = 0
        self._unsure_until = 0.0

    @property
    def is_known(self) -> bool:
        """Whether the database has said lately what its clock is, and ages can be counted by it."""
        now = monotonic()
        return (
            self._said > 0 and now - self._answered_at <= _KNOWN_FOR_S and now >= self._unsure_until
        )

    def earliest(self, at: float) -> int:
        """Return the least that the database's clock can have shown at a moment of ours."""
        return self._said + int((at - self._answered_at) * _MICRO)

    def latest(self, at: float) -> int:
        """Return the most that the database's clock can have shown at a moment of ours."""
        return self._said + int((at - self._asked_at) * _MICRO) + 1

    def earliest_now(self) -> int:
        """Return the least that the database's clock can show now."""
        return self.earliest(monotonic())

    def latest_now(self) -> int:
        """Return the most that the database's clock can show now."""
        return self.latest(monotonic())

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            try:
                await self.ask()
            except (*LOST, asyncpg.PostgresError):
                pass  # what is known is known for some seconds more
            await asyncio.sleep(_ASK_EVERY_S)

    async def ask(self) -> None:
        """Ask the database once. Raises its errors."""
        asked_at = monotonic()
        async with asyncio.timeout(_ASK_WITHIN_S):
            said, timeline = await self._pool.fetchrow(_NOW)
        if timeline != self.timeline:
            if self.timeline:
                self._on_failover()
            self.timeline = timeline
        if self._said and self.earliest(asked_at) - said > _STEP_US:
            self._unsure_until = monotonic() + _UNSURE_FOR_S
        self._asked_at, self._answered_at, self._said = asked_at, monotonic(), said
