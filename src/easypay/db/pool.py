"""The small pool for replays, the resolver and administration: asyncpg's, with bounded waits.

A connection whose answer does not come in time is dropped at once: asyncpg would ask the server to
cancel, and wait for that. A connection to a server that no longer takes writes is replaced by one
to the server that does.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from easypay.db.connections import CONNECT_TIMEOUT_S, LOST, SESSION, Connector, Wanted
from easypay.db.failures import Failure, failure_of
from easypay.db.pooler import DropsOnCancel, through_pooler
from easypay.errors import DatabaseUnavailable

ACQUIRE_WITHIN_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 10.0
ANSWER_WITHIN_S: Final = 12.0
_RELEASE_WITHIN_S: Final = 1.0


class Pool:
    """asyncpg's pool with bounded waits. Each statement acquires a connection."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", wanted: Wanted = "read-write") -> None:
        self._pool = pool
        self._wanted = wanted
        self.get_size = pool.get_size
        self.get_idle_size = pool.get_idle_size
        self.get_max_size = pool.get_max_size

    async def fetch(self, sql: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> Any:
        async with self.acquire() as connection:
            return await connection.execute(sql, *arguments)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """Give a block a connection to a server of the wanted kind.

        Raises TimeoutError if none is free in time, and CannotConnect.
        """
        connection = await self._take()
        cancelled = _cancelled()
        try:
            yield connection
        except BaseException as error:
            ends = _cancelled() > cancelled
            if ends or not isinstance(error, Exception) or failure_of(error) is Failure.GONE:
                with suppress(AttributeError, *LOST):  # it may be closed or released already
                    connection.terminate()
            if isinstance(error, TimeoutError | asyncpg.ReadOnlySQLTransactionError):
                await self._pool.expire_connections()  # the others lead to the same server
            if ends and isinstance(error, Exception):
                # A transaction could not be rolled back on a connection that was dropped. That
                # error must not hide that the task has to end.
                raise asyncio.CancelledError from error
            raise
        finally:
            with suppress(*LOST):
                await self._pool.release(connection, timeout=_RELEASE_WITHIN_S)

    async def close(self, within_s: float = _RELEASE_WITHIN_S) -> None:
        """Close all connections; drop those that do not close in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._pool.close()
        except LOST:
            self._pool.terminate()

    async def _take(self) -> Any:
        async with asyncio.timeout(ACQUIRE_WITHIN_S):
            while True:
                connection = await self._pool.acquire()
                if self._wanted != "read-write" or not _only_reads(connection):
                    return connection
                connection.terminate()
                await self._pool.release(connection)


def _cancelled() -> int:
    """Return how often somebody wants this task to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _only_reads(connection: Any) -> bool:
    """Whether the server takes no writes, as it last reported by itself (since PostgreSQL 14).

    What a pooler reports may be old, so there each transaction looks itself.
    """
    if through_pooler(connection):
        return False
    reported = connection.get_settings()
    return "on" in (
        getattr(reported, "default_transaction_read_only", "off"),
        getattr(reported, "in_hot_standby", "off"),
    )


async def _leave_session(connection: Any) -> None:
    """Skip asyncpg's reset, which costs one more round trip for every statement. Nothing here
    changes a session: advisory locks and settings end with their transaction."""


async def open_pool(
    dsn: str,
    *,
    size: int,
    answer_within_s: float = ANSWER_WITHIN_S,
    name: str = "pool",
    settings: Mapping[str, str] | None = None,
) -> Pool:
    """Return a pool of at most `size` connections. `settings` are added to those of the session.

    Raises DatabaseUnavailable if no connection can be made.
    """
    pool = await make_pool(
        dsn, size=size, answer_within_s=answer_within_s, name=name, settings=settings
    )
    try:
        async with pool.acquire():
            return pool
    except LOST as error:
        await pool.close(within_s=0)
        raise DatabaseUnavailable(f"cannot connect to the database: {error}") from error


async def make_pool(
    dsn: str,
    *,
    size: int,
    answer_within_s: float = ANSWER_WITHIN_S,
    name: str = "pool",
    settings: Mapping[str, str] | None = None,
    wanted: Wanted = "read-write",
) -> Pool:
    """Return a pool that has no connection yet. `wanted`: the kind of server to connect to."""
    pool = await asyncpg.create_pool(
        dsn,
        connect=Connector(dsn, wanted).connect,
        connection_class=DropsOnCancel,
        min_size=0,  # nothing reconnects by itself while the database is away
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=answer_within_s,
        reset=_leave_session,
        # Statements stay prepared, the last 100 of each connection. By default asyncpg forgets them
        # after five minutes, and those of more than 15 KiB at once.
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=0,
        server_settings={
            **SESSION,
            "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
            "application_name": f"easypay {name}",
            **(settings or {}),
        },
    )
    return Pool(pool, wanted)
