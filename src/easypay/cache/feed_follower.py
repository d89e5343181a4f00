"""How a process without a shared cache hears of changes: it follows the feed.

Every outcome has an event, and every event gets a place in the feed after its commit
(events/numbering.py). This reads what is new there, ten times a second, and drops those payments.
It asks the database only while somebody reads with leave for more than a second, by plain
statements: a pooler may stand between, and a payment has nothing to do for it.

Hearing is proven, not assumed. With each look it notes the first transaction that has no number
yet. When a later look shows that the feed's mark of this month is beyond that transaction, every
event that was committed before the earlier look has its place, and has been read here. So if the
leader of the feed stands still, or the database is away, the proof grows old, and answers are not
used for more than a second.
"""

import asyncio
from collections import deque
from typing import Any, Final

import asyncpg

from easypay import clock
from easypay.cache.caches import Caches
from easypay.cache.database_clock import TIMELINE
from easypay.cache.names import UNTOLD_S, customer_methods_name, payment_name
from easypay.clock import monotonic
from easypay.db.connections import LOST
from easypay.mode import MODE

_LOOK_EVERY_S: Final = 0.1
_WANTED_FOR_S: Final = 10.0
"""How long it goes on after the last reader who wanted it."""
_MOST: Final = 5_000
"""Events. If more are new, everything is dropped instead."""
_LOOK_WITHIN_S: Final = 1.0

# What it returns is one snapshot: what has its place by now, and what had it by an earlier look.
LOOK: Final = f"""
    SELECT {TIMELINE} AS timeline, h.last_seq, m.read_below,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS first_to_come
      FROM feed_head h LEFT JOIN feed_months m ON m.month = $1
"""
CHANGED: Final = """
    SELECT s.merchant_id, s.mode, f.payment_id
      FROM feed f JOIN streams s USING (stream)
     WHERE f.seq > $1 AND f.seq <= $2
"""


class FeedFollower:
    """Drops from the caches what the feed says has changed."""

    def __init__(self, pool: Any, caches: Caches) -> None:
        self._pool = pool
        self._caches = caches
        self._last_seq: int | None = None
        self._timeline = ""
        self._looks: deque[tuple[float, int]] = deque()
        """When it looked, and the first transaction that had no number then."""
        self._heard_until = 0.0
        caches.connect(None, self.hears)

    def hears(self) -> bool:
        """Whether every change up to a second ago is known here."""
        return monotonic() - self._heard_until <= UNTOLD_S

    async def run(self) -> None:
        """Follow while it is wanted, until cancelled."""
        while True:
            if monotonic() - self._caches.wanted_at <= _WANTED_FOR_S:
                try:
                    async with asyncio.timeout(_LOOK_WITHIN_S):
                        await self.look()
                except (*LOST, asyncpg.PostgresError):
                    pass  # nothing is heard meanwhile, and that shows
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Read what is new, once. Raises the database's errors."""
        looked_at = monotonic()
        timeline, last_seq, read_below, first_to_come = await self._pool.fetchrow(
            LOOK, f"{clock.now():%Y_%m}"
        )
        before = self._last_seq
        if timeline != self._timeline:  # another server: it may lack what was read from the other
            self._caches.drop_all()
            self._looks.clear()
            self._timeline = timeline
        elif before is not None and not before <= last_seq <= before + _MOST:
            self._caches.drop_all()  # a restored database, or very much
        elif before is not None and last_seq > before:
            for merchant_id, mode, payment_id in await self._pool.fetch(CHANGED, before, last_seq):
                # An event about a customer has the customer's id there.
                self._caches.drop(payment_name(merchant_id, MODE[mode], payment_id))
                self._caches.drop(customer_methods_name(merchant_id, MODE[mode], payment_id))
        self._last_seq = last_seq
        while self._looks and read_below is not None and self._looks[0][1] < read_below:
            self._heard_until, _ = self._looks.popleft()
        self._looks.append((looked_at, first_to_come))
        if len(self._looks) > _MOST:
            self._looks.popleft()
