"""Finds operations that a dead process left in flight.

Ids begin with their millisecond, so the sweep goes through them in slices of time, each one short
statement: however many operations there are, no statement takes long. A narrow sweep covers what
became old enough since the last one. Ids carry the gateways' clocks and `begun_at` the database's,
so it goes back by as much again as an operation may take, and now and then a wide sweep covers some
hours before and after, for hosts whose clocks differ by more.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, Final

from easypay import ids
from easypay.clock import monotonic
from easypay.payments.time_slice import TimeSlice

log = logging.getLogger(__name__)

_SWEEP: Final = """
    WITH lost AS (
        SELECT merchant_id, id, payment_id FROM operations
         WHERE id >= $1 AND id < $2
           AND state = 'in_flight' AND begun_at < db_now() - make_interval(secs => $3)
    ), listed AS (
        INSERT INTO unresolved_operations
            (merchant_id, operation_id, payment_id, since, next_inquiry_at)
        SELECT merchant_id, id, payment_id, db_now(), db_now() FROM lost
        ON CONFLICT (merchant_id, operation_id) DO UPDATE
            SET not_sent = false, next_inquiry_at = excluded.next_inquiry_at
            WHERE unresolved_operations.not_sent
        RETURNING 1
    )
    SELECT count(*) FROM listed
"""
# A gateway of an older version writes no rows for held operations, and deletes those it finds.
_SWEEP_HELD: Final = """
    INSERT INTO unresolved_operations
        (merchant_id, operation_id, payment_id, since, next_inquiry_at, held)
    SELECT o.merchant_id, o.id, o.payment_id, db_now(), db_now(), true
      FROM operations o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
     WHERE o.id >= $1 AND o.id < $2 AND o.state = 'held' AND p.status = 'in_review'
    ON CONFLICT DO NOTHING
"""
_OLDEST: Final = """
    SELECT greatest((SELECT swept_below FROM sweeps), lowest_id_at(db_now() - interval '31 days')),
           db_now()
"""
_OUR_TURN: Final = "SELECT pg_try_advisory_xact_lock(hashtext('easypay sweep'))"
# If this row is locked, some operations are looked at twice; nothing is held up.
_MOVE_ON: Final = """
    UPDATE sweeps SET swept_below = $1
     WHERE only_row = (SELECT only_row FROM sweeps WHERE swept_below < $1 FOR UPDATE SKIP LOCKED)
"""
_STEPS: Final = 4
"""A narrow sweep is made so many times in the time after which an operation is abandoned, by all
processes together. So it looks at each operation about `_STEPS` + 1 times."""
_WIDE: Final = timedelta(hours=6)
_WIDE_EVERY_S: Final = 600.0
_BUDGET_S: Final = 0.2
"""Time limit of one step, so that others have their turn."""


class Sweep:
    """Goes through operations slice by slice. One per process; processes take turns."""

    def __init__(self, pool: Any, *, abandoned_after_s: float) -> None:
        self._pool = pool
        self._abandoned = timedelta(seconds=abandoned_after_s)
        self._slice = TimeSlice(
            timedelta(minutes=5),
            shortest=timedelta(milliseconds=100),
            longest=timedelta(days=1),
            quick_s=0.05,
            slow_s=0.25,
        )
        self._wide_at: datetime | None = None
        """The position of the wide sweep; None between two wide sweeps."""
        self._next_wide_at = 0.0
        """When to begin the next wide sweep, by `monotonic`. The database's clock may be set back,
        and then only a wide sweep finds what is lost."""

    async def step(self) -> int:
        """Search new operations, then part of the wide range. Returns how many were listed."""
        ends = monotonic() + _BUDGET_S
        found = await self._narrow(ends)
        if self._wide_at is None and monotonic() < self._next_wide_at:
            return found
        return found + await self._wide(ends)

    async def _narrow(self, ends: float) -> int:
        """Search from the position that all processes share, up to what may be abandoned by now."""
        found = 0
        while True:
            async with self._pool.acquire() as connection:
                if await self._unswept(connection) is None:
                    return found  # as nearly always, and without a transaction
                async with connection.transaction():
                    if not await connection.fetchval(_OUR_TURN):
                        return found
                    unswept = await self._unswept(connection)
                    if unswept is None:
                        return found
                    low, end = unswept
                    whole = end - low <= self._slice.length
                    high = end if whole else low + self._slice.length
                    found += await self._look(connection, low, high)
                    # The next sweep looks at the rest again, for hosts whose clocks are behind.
                    swept = min(high, end - self._abandoned)
                    await connection.execute(_MOVE_ON, ids.lowest_id_at(swept))
            if whole or monotonic() >= ends:
                return found

    async def _unswept(self, connection: Any) -> tuple[datetime, datetime] | None:
        """Return from when to when operations began that are to be looked at now."""
        oldest, now = await connection.fetchrow(_OLDEST)
        low, end = ids.moment_of(oldest), now - self._abandoned
        due = end - self._abandoned - low >= self._abandoned / _STEPS
        return (low, end) if due else None

    async def _wide(self, ends: float) -> int:
        found = 0
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                now = await connection.fetchval("SELECT db_now()")
                low = now - _WIDE if self._wide_at is None else self._wide_at
                high = min(low + self._slice.length, now + _WIDE)
                found += await self._look(connection, low, high)
                await connection.execute(_SWEEP_HELD, ids.lowest_id_at(low), ids.lowest_id_at(high))
            self._wide_at = high
            if high >= now + _WIDE:
                self._wide_at, self._next_wide_at = None, monotonic() + _WIDE_EVERY_S
                return found
            if monotonic() >= ends:
                return found

    async def _look(self, connection: Any, low: datetime, high: datetime) -> int:
        """Search one slice. Returns how many operations were listed."""
        with self._slice.adapted():
            listed: int = await connection.fetchval(
                _SWEEP,
                ids.lowest_id_at(low),
                ids.lowest_id_at(high),
                self._abandoned.total_seconds(),
            )
        if listed:
            log.warning("%d operations were left in flight by a process that died", listed)
        return listed
