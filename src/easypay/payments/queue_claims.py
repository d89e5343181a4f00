"""Which queued operations a worker claims next: the oldest, with a turn for each merchant.

While there is room for all that is due, the claim is that of every work list: oldest first. Once
more is due than there is room for, a merchant with thousands of rows would take all the room until
they are done. So before each such claim, the next merchants in turn are looked at, and those that
this worker holds less of than their share are claimed of first; what room is left goes to the
oldest rows. A merchant's only payment then waits for about a quarter of the calls under way, not
for another's backlog.

Looking at merchants takes at most a fortieth of the time, as looking for old work does
(`db.claim_window`): rows that are gone may stay in the key's index for long, too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.claim_window import ClaimWindow
from easypay.db.connections import LOST, Lane
from easypay.db.work_list import Work, claimed_rows
from easypay.payments.queue_rows import QUEUED

MOST_MERCHANTS: Final = 64
"""Merchants that one claim looks at. The next claim goes on behind the last of them."""
_REST: Final = 40
"""After a look at merchants there is a pause of so many times what it took."""
_FIRST: Final = UUID(int=0)

NEXT_MERCHANTS: Final = "next merchants"
CLAIM_OF: Final = "claim of merchants"
# Merchants are found one by one through the primary key, each by one look-up.
_NEXT_MERCHANTS: Final = """
    WITH RECURSIVE merchant AS (
        (SELECT merchant_id FROM queued_operations WHERE merchant_id > $1
          ORDER BY merchant_id LIMIT 1)
        UNION ALL
        SELECT next.merchant_id FROM merchant m CROSS JOIN LATERAL (
               SELECT w.merchant_id FROM queued_operations w WHERE w.merchant_id > m.merchant_id
                ORDER BY w.merchant_id LIMIT 1) AS next
    )
    SELECT merchant_id FROM merchant LIMIT $2::bigint
"""
# Ids of operations begin with their time, so the primary key has a merchant's oldest first. Of its
# rows, only those are looked at that come before the last one that is claimed, whatever the plan
# was made for: nothing can be sorted (LANE_SETTINGS), and the earlier operation of a payment is
# looked up for each row by its whole key. The key and ANY: see the claim in `db.work_list`.
_CLAIM_OF: Final = f"""
    WITH due AS MATERIALIZED (
        SELECT given.merchant_id, oldest.*
          FROM unnest($1::uuid[]) AS given(merchant_id) CROSS JOIN LATERAL (
               SELECT w.operation_id, w.due_at FROM {QUEUED.table} w
                WHERE w.merchant_id = given.merchant_id AND w.parked_at IS NULL
                  AND w.due_at <= db_now()
                  AND {QUEUED.ready}
                ORDER BY w.merchant_id, w.operation_id LIMIT $2::bigint
                  FOR UPDATE SKIP LOCKED) AS oldest
         LIMIT $3::bigint
    )
    UPDATE {QUEUED.table} w
       SET due_at = db_now() + make_interval(secs => $4::float8), attempt = w.attempt + 1
      FROM due
     WHERE w.merchant_id = ANY (ARRAY[due.merchant_id])
       AND w.operation_id = ANY (ARRAY[due.operation_id])
    RETURNING w.merchant_id, w.operation_id, {", ".join(f"w.{each}" for each in QUEUED.payload)},
        w.attempt, due.due_at, w.created_at, extract(epoch FROM db_now() - due.due_at)::float8
"""
LANE_SETTINGS: Final = {"enable_sort": "off"}
STATEMENTS: Final = {NEXT_MERCHANTS: _NEXT_MERCHANTS, CLAIM_OF: _CLAIM_OF}
"""Statements of a worker's lane, beside those of every work list."""


async def next_merchants(lane: Any, after: UUID, most: int) -> list[UUID]:
    """Return the next `most` merchants with rows, in the order of their ids."""
    return [row[0] for row in await lane.fetch((after, most), NEXT_MERCHANTS)]


async def claim_of(
    lane: Any, merchants: Sequence[UUID], *, of_each: int, most: int, lease_s: float
) -> list[Work]:
    """Claim at most `of_each` of each of these merchants, its oldest rows, and `most` in all."""
    held_until = monotonic() + lease_s
    rows = await lane.fetch((list(merchants), of_each, most, lease_s), CLAIM_OF)
    return claimed_rows(QUEUED, rows, held_until)


class QueueClaims:
    """The claims of one worker, which holds at most `at_once` operations."""

    def __init__(self, lane: Lane, *, at_once: int, lease_s: float) -> None:
        self._lane = lane
        self._at_once = at_once
        self._lease_s = lease_s
        self._window = ClaimWindow()
        self._more_is_due = False
        """The last claim filled all the room there was."""
        self._last_merchant = _FIRST
        self._look_at = 0.0
        """When to look at merchants again."""

    async def next(self, room: int, held: Iterable[Work]) -> list[Work]:
        """Claim at most `room` operations. `held`: those that this worker has claimed already.
        Raises the database's errors."""
        claimed: list[Work] = []
        if self._more_is_due and monotonic() >= self._look_at:
            began = monotonic()
            claimed = await self._of_the_next(room, Counter(work.key[0] for work in held))
            now = monotonic()
            self._look_at = now + _REST * (now - began)
        if left := room - len(claimed):
            try:
                oldest = await work_list.claim_next(
                    self._lane, QUEUED, self._window, most=left, lease_s=self._lease_s
                )
            except (*LOST, asyncpg.PostgresError):
                if not claimed:
                    raise
                return claimed  # they are ours; the next claim meets the error again
            self._more_is_due = len(oldest) == left
            claimed += oldest
        return claimed

    async def _of_the_next(self, room: int, held: Counter[UUID]) -> list[Work]:
        """Claim of those next merchants of which this worker holds less than their share."""
        most = min(MOST_MERCHANTS, room)
        merchants = await next_merchants(self._lane, self._last_merchant, most)
        self._last_merchant = merchants[-1] if len(merchants) == most else _FIRST
        share = max(1, self._at_once // max(1, len(merchants)))
        behind = [each for each in merchants if held[each] < share]
        if len(merchants) < 2 or not behind:
            return []
        return await claim_of(
            self._lane,
            behind,
            of_each=min(share, max(1, room // len(behind))),
            most=room,
            lease_s=self._lease_s,
        )
