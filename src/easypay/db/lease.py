"""Leases with fencing tokens: one process at a time does a thing, over many transactions.

A session's advisory lock would do the same on a connection of its own, but not behind a pooler that
gives each transaction another connection. A lease is a row and works anywhere.

A process can be stopped for a minute and then go on, unaware that another has taken its lease. So
every transaction that writes under a lease asks `hold` first. `hold` keeps the lease's row locked
until the transaction ends: nobody can take the lease between the check and the commit.

    lease = Lease("event positions", holder=my_process, for_s=10)
    while True:
        token = await lease.take(pool)            # also prolongs it: call it well before it ends
        if token is not None:
            async with pool.acquire() as connection, connection.transaction():
                if await hold(connection, lease.name, token):
                    await write_something(connection)
        await asyncio.sleep(2)
    await lease.release(pool)                     # on a stop, so that another need not wait

The transactions must be short: while one is open, nobody can take the lease, not even after it has
ended. All times are the database's.
"""

from typing import Any, Final
from uuid import UUID

import msgspec

Runner = Any

# A lease that another holds is only read, without waiting for its row. So is one that has ended
# while a transaction of its holder is still open: SKIP LOCKED finds nothing to take.
_TAKE: Final = """
    WITH others AS MATERIALIZED (
        SELECT FROM leases WHERE name = $1 AND holder <> $2
    ), ended AS MATERIALIZED (
        SELECT FROM leases WHERE name = $1 AND holder <> $2 AND leased_until <= db_now()
           FOR UPDATE SKIP LOCKED
    )
    INSERT INTO leases AS l (name, holder, token, leased_until)
    SELECT $1, $2, 1, db_now() + make_interval(secs => $3)
     WHERE NOT EXISTS (SELECT FROM others) OR EXISTS (SELECT FROM ended)
    ON CONFLICT (name) DO UPDATE
       SET holder = excluded.holder, leased_until = excluded.leased_until,
           token = l.token + (l.holder <> excluded.holder OR l.leased_until <= db_now())::int
     WHERE l.holder = excluded.holder OR l.leased_until <= db_now()
    RETURNING token
"""
_HOLD: Final = """
    SELECT FROM leases WHERE name = $1 AND token = $2 AND leased_until > db_now() FOR SHARE
"""
_RELEASE: Final = """
    UPDATE leases SET leased_until = db_now()
     WHERE name = $1 AND holder = $2 AND leased_until > db_now()
"""


class Lease(msgspec.Struct, frozen=True):
    """The right to do the thing `name`, for `for_s` seconds at a time, as `holder` wants it.

    `holder` must differ between processes and between starts: make one with `ids.new_id()`.
    `take` and `release` need an asyncpg pool or connection.
    """

    name: str
    holder: UUID
    for_s: float

    async def take(self, runner: Runner) -> int | None:
        """Take the lease, or prolong it. Return its token, or None if another process has it.

        The token stays the same for as long as the holder prolongs in time. It grows by one when
        the holder changes or an own lease had ended: then start over, for another may have had it.
        """
        token: int | None = await runner.fetchval(_TAKE, self.name, self.holder, self.for_s)
        return token

    async def release(self, runner: Runner) -> None:
        """End the lease if this process has it, so that another can take it at once."""
        await runner.execute(_RELEASE, self.name, self.holder)


async def hold(connection: Any, name: str, token: int) -> bool:
    """Whether `token` is still the lease's token and has not ended. Call it in a transaction.

    If it returns true, nobody else can take the lease until the transaction ends. If it returns
    false, write nothing.
    """
    return await connection.fetchrow(_HOLD, name, token) is not None
