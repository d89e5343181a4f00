"""Sessions on a test's database: open, hold locks, wait until one waits for a lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from harness.waiting import until


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """Yield a connection, and close it at the end of the block."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


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
        await until(locked, within_s=5, what=what)
