"""Deletes idempotency keys that are past their age limit; their operations stay.

A key whose operation is open or still watched is kept whatever its age: without it, the same key
would charge again. An operation's id says when it began, by its gateway's clock: it is looked for
in the months around its key's time. Keys whose gateway had a wrong clock come after the others, and
their operations are looked for in all months.

The purge goes back from the age limit, first by hours and then by days, so that each statement
reads its own part of the table (BRIN) and not the rows deleted before. One process at a time does
it, in batches with a transaction each.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from easypay import ids
from easypay.db.partitions import within_months

_BATCH: Final = 5_000
_PAUSE_S: Final = 0.01
_HOURS: Final = 72
_DAYS: Final = 400

# Force look-ups by key: hashing all operations would cost more than the whole purge. Each span gets
# a plan of its own: one for any span may look up all keys and then leave out those of other times.
_BEGIN: Final = """
    SELECT pg_try_advisory_xact_lock(hashtext('easypay purge')),
           set_config('lock_timeout', '2s', true), set_config('enable_hashjoin', 'off', true),
           set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)
"""
# Returns how many it deleted, and after the last batch whether there are keys whose operations lie
# in other months: to look for them reads the whole span.
_DELETE: Final = """
    WITH deleted AS (
        DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
            SELECT k.ctid FROM idempotency_keys k
             WHERE k.created_at >= $1 AND k.created_at < $2 AND {keys}
               AND NOT EXISTS (SELECT FROM unresolved_operations u
                                WHERE u.merchant_id = k.merchant_id
                                  AND u.operation_id = k.operation_id)
               AND NOT EXISTS (SELECT FROM watched_operations w
                                WHERE w.merchant_id = k.merchant_id
                                  AND w.operation_id = k.operation_id AND w.purpose <> 'expiry')
               AND NOT EXISTS (SELECT FROM operations o
                                WHERE o.merchant_id = k.merchant_id AND o.id = k.operation_id
                                  AND {operations}
                                  AND o.state IN ('queued', 'in_flight', 'unknown', 'not_sent',
                                                   'held'))
             LIMIT $3))
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM deleted),
           CASE WHEN (SELECT count(*) FROM deleted) < $3 THEN EXISTS (
               SELECT FROM idempotency_keys k
                WHERE k.created_at >= $1 AND k.created_at < $2 AND NOT ({keys})) END
"""
_IN_ALL_MONTHS: Final = _DELETE.format(keys="true", operations="true")
_CLOCKS_DIFFER: Final = timedelta(days=1)
_OLDER: Final = "SELECT EXISTS (SELECT FROM idempotency_keys WHERE created_at < $1)"
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def purge_keys(pool: Any, *, days: int) -> int:
    """Delete keys older than `days` whose operation is closed. Returns how many.

    Does nothing and returns 0 if another process is purging.
    """
    limit: datetime = await pool.fetchval("SELECT db_now() - make_interval(days => $1)", days)
    edges = [limit - timedelta(hours=n) for n in range(_HOURS + 1)]
    purged = await _purge_between(pool, edges)
    if await pool.fetchval(_OLDER, edges[-1]):
        older = [edges[-1] - timedelta(days=n) for n in range(_DAYS + 1)]
        purged += await _purge_between(pool, [*older, _EVER])
    return purged


async def _purge_between(pool: Any, edges: list[datetime]) -> int:
    """Purge the spans between edges, one after another, back in time."""
    purged = 0
    for end, start in pairwise(edges):
        around = [ids.lowest_id_at(at) for at in (start - _CLOCKS_DIFFER, end + _CLOCKS_DIFFER)]
        keys, operations = (within_months(name, around) for name in ("k.operation_id", "o.id"))
        delete = _DELETE.format(keys=keys, operations=operations)
        while delete:
            async with pool.acquire() as connection, connection.transaction():
                if not (await connection.fetchrow(_BEGIN))[0]:
                    return purged
                deleted, are_elsewhere = await connection.fetchrow(delete, start, end, _BATCH)
            purged += deleted
            if deleted:
                await asyncio.sleep(_PAUSE_S)  # let others have their turn
            if deleted < _BATCH:
                delete = _IN_ALL_MONTHS if are_elsewhere else ""
    return purged
