"""Keeps the block range index of the newest events summarised, so that the feed reads only those.

PostgreSQL leaves that to autovacuum, which comes once a minute at best: until then each look at the
new events would read all of that minute's pages.
"""

from contextlib import suppress
from typing import Any, Final

import asyncpg

RANGE_PAGES: Final = 16
"""`pages_per_range` of the index events_written."""
_MOST_RANGES: Final = 64

# The lock waits for no vacuum: one that makes others wait for a second is ended by PostgreSQL.
_LOCK_TIMEOUT: Final = "SELECT set_config('lock_timeout', '50ms', true)"
_PAGES: Final = """
    SELECT c.oid, pg_relation_size(x.indrelid) / current_setting('block_size')::int
      FROM pg_inherits i
      JOIN pg_class c ON c.oid = i.inhrelid
      JOIN pg_index x ON x.indexrelid = c.oid
     WHERE i.inhparent = 'events_written'::regclass AND x.indrelid = to_regclass('events_' || $1)
"""
_SUMMARISE: Final = """
    SELECT sum(brin_summarize_range($1::oid::regclass, block))
      FROM generate_series($2::bigint, $3::bigint, $4::bigint) AS block
"""


class Summaries:
    """Remembers up to which block each month's index is summarised."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._done: dict[str, int] = {}

    async def make(self, month: str) -> bool:
        """Summarise the full ranges of a month's events that are not yet, a few at a time. Returns
        whether more are left. Does nothing while a vacuum or a change of the table is at work."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(_LOCK_TIMEOUT)
            found = await connection.fetchrow(_PAGES, month)
            if found is None:
                return False
            index, pages = found
            first = self._done.get(month, 0)
            newest = (pages // RANGE_PAGES - 1) * RANGE_PAGES
            last = min(newest, first + _MOST_RANGES * RANGE_PAGES)
            if last < first:
                return False
            with suppress(asyncpg.LockNotAvailableError):
                await connection.fetchval(_SUMMARISE, index, first, last, RANGE_PAGES)
                self._done[month] = last + RANGE_PAGES
                more: bool = last < newest
                return more
        return False
