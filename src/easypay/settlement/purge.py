"""Forgets what settled so long ago that nobody need keep it: whole batches, the oldest first."""

from typing import Any, Final

# A step into the index for each account.
_OLD: Final = """
    SELECT b.account, b.batch_id
      FROM account_books a
     CROSS JOIN LATERAL (
           SELECT s.account, s.batch_id FROM settled_batches s
            WHERE s.account = a.account AND s.settled_at < db_now() - make_interval(years => $1)
            ORDER BY s.settled_at, s.batch_id LIMIT $2) b
     LIMIT $2
"""
_FORGET: Final = tuple(
    f"DELETE FROM {table} WHERE account = $1 AND batch_id = $2"
    for table in (
        "settlement_changes",
        "settled_transactions",
        "settlement_sums",
        "settled_batches",
    )
)
_AT_ONCE: Final = 100


async def purge(pool: Any, *, years: int) -> int:
    """Forget batches that settled more than `years` ago, each in a transaction. Returns how many.

    Several processes may do it at the same time.
    """
    forgotten = 0
    while found := await pool.fetch(_OLD, years, _AT_ONCE):
        for account, batch_id in found:
            async with pool.acquire() as connection, connection.transaction():
                for statement in _FORGET:
                    await connection.execute(statement, account, batch_id)
        forgotten += len(found)
    return forgotten
