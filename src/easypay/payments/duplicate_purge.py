"""Deletes guards against duplicates whose window has passed.

One pass over the table in parts of a few pages, each in a transaction of its own. So the purge
needs no index, and its cost is the table's size. It waits for no lock: a guard that a payment is
using just now stays until the next time. One process at a time does it.
"""

import asyncio
from typing import Any, Final

_PAGES: Final = 256
"""Pages of one part: 2 MiB, some 10,000 guards."""
_PAUSE_S: Final = 0.01

# Without a sequential scan each part reads only its own pages, whatever the statistics say.
_BEGIN: Final = """
    SELECT pg_try_advisory_xact_lock(hashtext('easypay duplicate guards')),
           pg_relation_size('duplicate_guards') / current_setting('block_size')::bigint,
           set_config('lock_timeout', '2s', true), set_config('enable_seqscan', 'off', true)
"""
_DELETE: Final = """
    DELETE FROM duplicate_guards WHERE ctid = ANY (ARRAY(
        SELECT g.ctid FROM duplicate_guards g
         WHERE g.ctid >= $1::tid AND g.ctid < $2::tid AND g.until <= db_now()
           FOR UPDATE SKIP LOCKED))
"""


async def purge_guards(pool: Any) -> int:
    """Delete guards whose window has passed. Returns how many.

    Returns at once if another process is purging.
    """
    purged, page = 0, 0
    while True:
        async with pool.acquire() as connection, connection.transaction():
            mine, pages, *_ = await connection.fetchrow(_BEGIN)
            if not mine or page >= pages:
                return purged
            status: str = await connection.execute(_DELETE, (page, 0), (page + _PAGES, 0))
        deleted = int(status.rpartition(" ")[2])
        purged += deleted
        page += _PAGES
        if deleted:
            await asyncio.sleep(_PAUSE_S)  # let others have their turn
