"""The connections for reading: so many at once, so many in the queue, and none of the others'."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from cutting_proxy import CuttingProxy

from easypay.db import connections
from easypay.db.reading import Reading
from easypay.errors import DatabaseUnavailable, Overloaded
from harness import until

COUNT = "SELECT count(*) FROM payments WHERE merchant_id = $1"
NOBODY = "00000000-0000-0000-0000-000000000000"


@asynccontextmanager
async def opened(dsn: str, **over: Any) -> AsyncIterator[Reading]:
    options: dict[str, Any] = {"connections": 2, "queue": 1, "limit_s": 4, "patience_s": 5}
    reading = Reading(dsn, **options | over)
    yield reading
    await reading.close()


@asynccontextmanager
async def locked(connection: Any) -> AsyncIterator[None]:
    """Hold up every statement that reads payments."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        yield


def _state(reading: Reading, busy: int, waiting: int) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return (reading.busy, reading.waiting) == (busy, waiting)

    return reached


async def test_more_requests_than_may_wait_are_refused_at_once(
    database: str, connection: Any
) -> None:
    async with opened(database) as reading:
        async with locked(connection):
            waiting = [asyncio.create_task(reading.fetchval(COUNT, NOBODY)) for _ in range(3)]
            await until(_state(reading, 2, 1))
            with pytest.raises(Overloaded, match="2 requests are reading and 1 wait") as refused:
                await reading.fetch(COUNT, NOBODY)
            assert refused.value.retry_after_s == 1
        assert await asyncio.gather(*waiting) == [0, 0, 0]
        assert (reading.busy, reading.waiting) == (0, 0)


async def test_whoever_waits_too_long_is_told_and_holds_nothing(
    database: str, connection: Any
) -> None:
    async with opened(database, connections=1, queue=5, patience_s=0.3) as reading:
        assert await reading.fetchval(COUNT, NOBODY) == 0
        async with locked(connection):
            first = asyncio.create_task(reading.fetchval(COUNT, NOBODY))
            await until(_state(reading, 1, 0))
            left = asyncio.create_task(reading.fetchval(COUNT, NOBODY))
            second = asyncio.create_task(reading.fetchval(COUNT, NOBODY))
            await until(_state(reading, 1, 2))
            left.cancel()
            await asyncio.wait([left, first])
            assert left.cancelled()
            assert isinstance(first.exception(), TimeoutError), "no answer came in time"
            await asyncio.wait([second])
            assert isinstance(second.exception(), Overloaded | TimeoutError)
        assert await reading.fetchval(COUNT, NOBODY) == 0
        assert (reading.busy, reading.waiting) == (0, 0)


async def test_a_statement_that_takes_too_long_is_stopped_by_the_server(database: str) -> None:
    async with opened(database, connections=1, limit_s=0.4) as reading:
        with pytest.raises(DatabaseUnavailable, match=r"more than 0\.3 s"):
            await reading.fetchval("SELECT pg_sleep(5)")
        assert await reading.fetchval("SELECT 1") == 1


async def test_a_connection_that_broke_is_replaced_and_the_statement_repeated(
    proxy: CuttingProxy,
) -> None:
    async with opened(proxy.dsn, connections=1) as reading:
        first = await reading.fetchval("SELECT pg_backend_pid()")
        killer = await asyncpg.connect(proxy.dsn)
        await killer.execute("SELECT pg_terminate_backend($1)", first)
        await killer.close()
        assert await reading.fetchval("SELECT pg_backend_pid()") != first


async def test_nothing_is_connected_until_somebody_reads(database: str, connection: Any) -> None:
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'easypay reading%'"
    )
    async with opened(database, connections=3) as reading:
        assert await connection.fetchval(count) == 0
        await reading.fetchval("SELECT 1")
        assert await connection.fetchval(count) == 1


async def test_a_connection_keeps_its_newest_statements_prepared_and_no_more_than_fit(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MOST_SQL", 100)
    prepared = "SELECT array_agg(statement) FROM pg_prepared_statements"
    async with opened(database, connections=1) as reading:
        for number in range(30):
            assert await reading.fetchval(f"SELECT {number:02} + $1::int", 1) == number + 1
        kept = await reading.fetchval(prepared)
        assert "SELECT 29 + $1::int" in kept
        assert sum(map(len, kept)) <= 100 + len(prepared)
        assert await reading.fetchval("SELECT 00 + $1::int", 5) == 5, "it is prepared again"
