"""Reads share a few connections, and each reader gets its turn."""

import asyncio

import asyncpg
import pytest

from easypay.db.pool import open_pool
from easypay.observability.call_metrics import MeasuredPool
from easypay.observability.metrics import Instruments
from harness import Stack, until


async def test_the_pool_serves_readers_in_order(shared_stack: Stack) -> None:
    """Readers arrive while others wait. asyncpg alone gives a free connection to whoever asks at
    that moment, and the reader that was woken for it goes back to the end of the queue."""
    pool = MeasuredPool(await open_pool(shared_stack.dsn, size=1), Instruments())
    served: list[int] = []

    async def read(number: int) -> None:
        await pool.fetchval("SELECT 1")
        served.append(number)

    async with asyncio.timeout(30), asyncio.TaskGroup() as readers:
        for number in range(400):
            readers.create_task(read(number))
            await asyncio.sleep(0)  # one more reader in each turn of the loop
    await pool.close()
    assert served == sorted(served)


async def test_a_failed_statement_releases_its_place(shared_stack: Stack) -> None:
    pool = MeasuredPool(await open_pool(shared_stack.dsn, size=1), Instruments())
    for _ in range(3):
        try:
            await pool.execute("SELECT nonsense")
        except asyncpg.UndefinedColumnError:
            pass
        else:
            raise AssertionError("the statement should have failed")
    reading = asyncio.create_task(pool.fetchval("SELECT pg_sleep(5)"))
    waiting = asyncio.create_task(pool.fetchval("SELECT 2"))
    await asyncio.sleep(0)
    waiting.cancel()
    reading.cancel()
    await asyncio.wait((reading, waiting))
    async with asyncio.timeout(30):
        assert await pool.fetchval("SELECT 3") == 3
    await pool.close()


async def test_a_task_that_is_cancelled_in_a_transaction_ends(shared_stack: Stack) -> None:
    """The connection is dropped, so the transaction cannot be rolled back. That error once hid the
    cancellation, and a loop that repeats what fails went on."""
    pool = await open_pool(shared_stack.dsn, size=1, name="cancelled")

    async def work() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_sleep(60)")

    async def sleeps() -> bool:
        busy = (
            "SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = $1 AND state = 'active'"
        )
        return bool(await shared_stack.fetch(busy, "easypay cancelled"))

    working = asyncio.create_task(work())
    await until(sleeps, what="the transaction runs")
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()


async def test_a_long_statement_stays_prepared(shared_stack: Stack) -> None:
    """A question of statistics can be one, and planning it takes longer than running it."""
    pool = await open_pool(shared_stack.dsn, size=1)
    long = f"SELECT {', '.join(['1'] * 1_500)}{' ' * 15_000} -- long"
    for _ in range(2):
        await pool.fetchval(long)
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '% -- long'"
    assert await pool.fetchval(kept) == 1
    await pool.close()
