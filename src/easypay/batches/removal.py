"""Removes batches: uploads that were cut, and old ones that are over. SQL only.

A batch is removed in pieces, so first it is made one that nobody sees: an upload that was cut.
Whoever is killed meanwhile leaves the rest to the next one.
"""

import asyncio
from typing import Any, Final

from easypay.batches import look_ups
from easypay.batches.model import COLUMNS, Batch, batch_of

Runner = Any

_MOST_AT_A_TIME: Final = 20_000
_PAUSE_S: Final = 0.01
_DELETE_LINES: Final = """
    DELETE FROM batch_lines WHERE merchant_id = $1 AND batch_id = $2 AND line > $3 AND line <= $4
       AND ($5 OR state <> 'skipped')
"""
_LAST: Final = """
    SELECT line FROM batch_lines WHERE merchant_id = $1 AND batch_id = $2
     ORDER BY line DESC LIMIT 1
"""
# From then on the upload cannot end. If it has ended after all, its lines must stay.
_CUT_OFF: Final = """
    UPDATE batches SET upload_until = '-infinity'
     WHERE merchant_id = $1 AND id = $2 AND state = 'checking'
"""
_HAS_ENDED: Final = """
    SELECT EXISTS (SELECT FROM batches
                    WHERE merchant_id = $1 AND id = $2 AND state <> 'checking')
"""
_FORGET: Final = """
    WITH forgotten AS (
        DELETE FROM batches WHERE merchant_id = $1 AND id = $2 AND state = 'checking'
        RETURNING merchant_id, id
    ), events AS (
        DELETE FROM batch_events e USING forgotten f
         WHERE e.merchant_id = f.merchant_id AND e.batch_id = f.id
    )
    DELETE FROM batch_totals t USING forgotten f
     WHERE t.merchant_id = f.merchant_id AND t.batch_id = f.id
"""


async def delete_lines(pool: Runner, batch: Batch, *, wrong_too: bool = False) -> None:
    """Delete the lines of a batch that will not run, some thousands at a time."""
    key = batch.merchant_id, batch.id
    last = await pool.fetchval(_LAST, *key) or 0
    for start in range(0, last, _MOST_AT_A_TIME):
        end = start + _MOST_AT_A_TIME
        await look_ups.fetch(pool, _DELETE_LINES, *key, start, end, wrong_too)
        await asyncio.sleep(_PAUSE_S)  # let others have their turn


async def forget(pool: Runner, batch: Batch) -> None:
    """Remove a batch whose upload was cut, with what was read of it. Does nothing if it ended."""
    key = batch.merchant_id, batch.id
    await pool.execute(_CUT_OFF, *key)
    if not await pool.fetchval(_HAS_ENDED, *key):
        await delete_lines(pool, batch, wrong_too=True)
        await look_ups.fetch(pool, _FORGET, *key)


CUT: Final = f"""
    SELECT {COLUMNS} FROM batches WHERE state = 'checking' AND upload_until < db_now()
     LIMIT 50
"""


async def forget_cut(pool: Runner) -> int:
    """Remove uploads that are not whole although their time is over: their gateway died, or they
    were old batches. Returns how many."""
    found = [batch_of(row) for row in await pool.fetch(CUT)]
    for batch in found:
        await forget(pool, batch)
    return len(found)


# The same file may be uploaded again from now on. What a cancelled batch still has under way is
# waited for.
_GIVE_UP_OLD: Final = """
    WITH old AS MATERIALIZED (
        SELECT merchant_id, id FROM batches b
         WHERE ended_at < db_now() - make_interval(days => $1)
           AND NOT EXISTS (SELECT FROM batch_groups g
                            WHERE g.merchant_id = b.merchant_id AND g.batch_id = b.id)
         ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE batches b
       SET state = 'checking', upload_until = '-infinity', digest = NULL, ended_at = NULL
      FROM old WHERE b.merchant_id = old.merchant_id AND b.id = old.id
    RETURNING b.id
"""
_OLD_AT_A_TIME: Final = 50


async def give_up_old(pool: Runner, *, keep_days: int) -> int:
    """Let batches be removed that ended so many days ago: `forget_cut` does it. Returns how many;
    there may be more."""
    return len(await look_ups.fetch(pool, _GIVE_UP_OLD, keep_days, _OLD_AT_A_TIME))
