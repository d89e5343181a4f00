"""Deletes the objects of old events about customers; the events themselves stay.

Oldest first, a few at a time, each group in a transaction of its own. It waits for no lock: what
another process deletes just now is left to that one.
"""

import asyncio
from typing import Any, Final

_AT_ONCE: Final = 2_000
_PAUSE_S: Final = 0.01

_DELETE: Final = """
    DELETE FROM customer_events WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM customer_events
         WHERE event_id < lowest_id_at(db_now() - make_interval(days => $1))
         ORDER BY event_id LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def purge_objects(pool: Any, *, days: int) -> int:
    """Delete the objects of events that are older than `days`. Returns how many."""
    purged = 0
    while True:
        status: str = await pool.execute(_DELETE, days, _AT_ONCE)
        deleted = int(status.rpartition(" ")[2])
        purged += deleted
        if deleted < _AT_ONCE:
            return purged
        await asyncio.sleep(_PAUSE_S)  # let others have their turn
