"""Sessions on a test's database: open, hold locks, wait until one waits for a lock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from harness.waiting import until

_ENDED: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""How a session fails that the server has ended."""


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """Yield a connection, and close it at the end of the block."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


class Sessions:
    """Sessions on one database that one caller after the other has: to begin one takes client and
    server longer than most statements. What a caller sets in its session would stay, so it is for
    those who set nothing."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: list[tuple[asyncio.AbstractEventLoop, Any]] = []

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """Yield a session that nobody else has meanwhile."""
        connection = await self._taken() or await asyncpg.connect(
            self._dsn,
            statement_cache_size=0,  # a test may change tables between two statements
        )
        try:
            yield connection
        except asyncpg.InternalClientError as error:
            connection.terminate()
            raise ConnectionResetError("the server has just ended this session") from error
        except BaseException:
            connection.terminate()
            raise
        self._idle.append((asyncio.get_running_loop(), connection))

    async def _taken(self) -> Any:
        """Return an idle session, or None. The server may have ended it meanwhile."""
        while self._idle and self._idle[-1][0] is asyncio.get_running_loop():
            _, connection = self._idle.pop()
            with suppress(*_ENDED):
                await connection.execute("SELECT")
                return connection
            connection.terminate()
        return None

    def end(self) -> None:
        """End those that nobody has."""
        while self._idle:
            loop, connection = self._idle.pop()
            if not loop.is_closed():
                connection.terminate()


@asynccontextmanager
async def held(dsn: str, sql: str, *arguments: object) -> AsyncIterator[None]:
    """Hold the locks that this statement takes, until the end of the block."""
    async with connected(dsn) as connection, connection.transaction():
        await connection.execute(sql, *arguments)
        yield


async def until_locked(dsn: str, name: str = "", *, sessions: int = 1, what: str = "") -> None:
    """Wait until this many sessions of the database, whose names begin so, wait for a lock."""

    async def locked() -> bool:
        waiting: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND starts_with(application_name, $1) AND wait_event_type = 'Lock'",
            name,
        )
        return waiting >= sessions

    async with connected(dsn) as connection:
        await until(locked, what=what)
