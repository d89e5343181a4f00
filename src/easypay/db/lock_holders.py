"""Taking locks that payments need, without making payments wait for somebody else's.

Who waits for a lock makes all who come later wait, too. So a lock is asked for only when nobody has
held it for long, and only for a moment; otherwise it is tried again later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg

_PATIENCE_S: Final = 600.0
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 10.0
_IN_USE: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
)

_HOLDERS: Final = """
    SELECT DISTINCT a.pid || coalesce(' (' || nullif(a.application_name, '') || ')', '')
      FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.relation = ANY ($1::text[]::regclass[]) AND l.granted AND a.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND a.backend_type = 'client backend' AND a.xact_start < clock_timestamp() - interval '1 s'
"""


async def long_holders(connection: Any, tables: Sequence[str]) -> list[str]:
    """Return the clients whose transaction is older than a second and holds one of the tables, as
    `4711 (pg_dump)`."""
    return [row[0] for row in await connection.fetch(_HOLDERS, tables)]


class StillHeld(Exception):
    """The locks were not free for ten minutes. The message names who holds them."""


async def when_free(
    connection: Any, tables: Sequence[str], work: Callable[[], Awaitable[None]]
) -> None:
    """Run `work`, which locks the tables with short time limits, as often as it takes to get them.

    Raises StillHeld after ten minutes, and what `work` raises.
    """
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    pause = _PAUSE_S
    while True:
        holders = await long_holders(connection, tables)
        if not holders:
            try:
                return await work()
            except _IN_USE:
                holders = ["a transaction"]
        if asyncio.get_running_loop().time() > deadline:
            raise StillHeld(", ".join(holders))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
