"""Whether there is room in the queue: a bound for each merchant, and one for all together.

A request does not count rows. While requests are accepted, the rows are counted about once a second
in the background, and what this process has accepted since then is added. What other processes have
accepted since then is not seen, so a bound may be passed by what they accept in that time.

No count reads more rows than the bound of all, and counting takes at most a fiftieth of the time.
"""

import asyncio
import math
from collections import Counter
from typing import Any, Final
from uuid import UUID

from easypay.clock import monotonic
from easypay.errors import Overloaded, TooManyQueued

_COUNT_EVERY_S: Final = 1.0
_OF_THE_TIME: Final = 50.0
_COUNTS_FOR_S: Final = 10.0
"""A count that is older is not relied on: whoever comes waits for the next one."""

_COUNT: Final = """
    SELECT merchant_id, count(*)
      FROM (SELECT merchant_id FROM queued_operations LIMIT $1::bigint) AS q GROUP BY merchant_id
"""


class QueueRoom:
    """The room that one process knows of. `most` rows may wait, `most_of_merchant` of each one."""

    def __init__(self, pool: Any, *, most: int, most_of_merchant: int) -> None:
        self._pool = pool
        self._most = most
        self._most_of_merchant = most_of_merchant
        self._counted: Counter[UUID] = Counter()
        self._since: Counter[UUID] = Counter()
        """What this process has accepted since the last count began, or since the one before if
        one is running."""
        self._all = 0
        self._good_until = self._next_at = -math.inf
        self._counting: asyncio.Task[None] | None = None

    async def take(self, merchant_id: UUID) -> None:
        """Take the room of one row. Raises Overloaded or TooManyQueued; then nothing is taken."""
        if monotonic() >= self._next_at and self._counting is None:
            self._counting = asyncio.create_task(self._count())
            self._counting.add_done_callback(self._counted_or_failed)
        if monotonic() >= self._good_until and self._counting is not None:
            await asyncio.shield(self._counting)
        if self._all >= self._most:
            raise Overloaded(
                "As many payments are queued as may be, for all merchants together; nothing was "
                "written. Repeat the request with the same Idempotency-Key when some were sent, or "
                "send it without Prefer: respond-async.",
                retry_after_s=5,
            )
        if self._counted[merchant_id] + self._since[merchant_id] >= self._most_of_merchant:
            raise TooManyQueued.of(self._most_of_merchant)
        self._since[merchant_id] += 1
        self._all += 1

    def give_back(self, merchant_id: UUID) -> None:
        """Give back what was taken and not used."""
        if self._since[merchant_id] > 0:  # else a count that began meanwhile has corrected it
            self._since[merchant_id] -= 1
            self._all -= 1

    async def _count(self) -> None:
        before, began = self._since, monotonic()
        self._since = Counter(before)  # what is taken meanwhile may be counted or not: it is added
        rows = await self._pool.fetch(_COUNT, self._most + 1)
        took_s = monotonic() - began
        self._since.subtract(before)
        self._since = +self._since
        self._counted = Counter(dict(map(tuple, rows)))
        self._all = self._counted.total() + self._since.total()
        self._good_until = began + max(_COUNTS_FOR_S, 2 * _OF_THE_TIME * took_s)
        self._next_at = began + max(_COUNT_EVERY_S, _OF_THE_TIME * took_s)

    def _counted_or_failed(self, counting: "asyncio.Task[None]") -> None:
        self._counting = None
        if not counting.cancelled():
            counting.exception()  # whoever needs the count gets it; the next one counts again
