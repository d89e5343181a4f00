"""One process at a time has a lease, and one that was stopped meanwhile writes nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from easypay import ids
from easypay.db.lease import Lease, hold
from easypay.db.pool import Pool, open_pool
from harness import until

NAME = "the thing"
WORKER = """
import asyncio, sys
from easypay import ids
from easypay.db.lease import Lease, hold
from easypay.db.pool import open_pool

async def main(dsn):
    pool = await open_pool(dsn, size=2)
    lease = Lease("the thing", ids.new_id(), 0.3)
    token = await lease.take(pool)
    print(token, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with pool.acquire() as connection, connection.transaction():
        held = await hold(connection, lease.name, token)
        if held:
            await connection.execute("INSERT INTO written VALUES ($1)", token)
    print(held, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database, size=16)
    yield opened
    await opened.close()


async def move_clock(runner: Any, seconds: float) -> None:
    """Move the database's clock ahead by so much, from the real time."""
    await runner.execute(
        "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE"
        f" PARALLEL SAFE RETURN now() + interval '{seconds} s'"
    )


def lease(for_s: float = 60) -> Lease:
    """A lease that a process of its own wants."""
    return Lease(NAME, ids.new_id(), for_s)


async def test_of_many_at_once_one_gets_it_and_the_others_do_not_wait(pool: Pool) -> None:
    for token in (1, 2, 3):
        tokens = await asyncio.gather(*(lease().take(pool) for _ in range(12)))
        assert sorted(tokens, key=str) == sorted([token, *[None] * 11], key=str)
        await pool.execute("UPDATE leases SET leased_until = db_now()")


async def test_a_token_stays_while_its_holder_prolongs_in_time_and_grows_otherwise(
    pool: Pool,
) -> None:
    mine, other = lease(), lease()
    assert [await mine.take(pool), await mine.take(pool)] == [1, 1]
    assert await other.take(pool) is None
    await move_clock(pool, 50)
    assert await mine.take(pool) == 1, "in time: 50 of 60 s had passed"
    await move_clock(pool, 100)
    assert [await other.take(pool), await mine.take(pool)] == [None, 1]
    await move_clock(pool, 161)
    assert await mine.take(pool) == 2, "its own lease had ended, and another may have had it"
    await move_clock(pool, 222)
    assert [await other.take(pool), await mine.take(pool)] == [3, None]


async def test_a_released_lease_is_free_at_once_and_only_its_holder_releases_it(pool: Pool) -> None:
    mine, other = lease(), lease()
    assert await mine.take(pool) == 1
    await other.release(pool)
    assert await other.take(pool) is None
    await mine.release(pool)
    assert await other.take(pool) == 2, "a token never comes back"
    await mine.release(pool)
    assert await mine.take(pool) is None


async def test_a_token_is_held_only_while_it_is_the_newest_and_has_not_ended(pool: Pool) -> None:
    mine, other = lease(), lease()

    async def held(token: int) -> bool:
        async with pool.acquire() as connection, connection.transaction():
            return await hold(connection, NAME, token)

    assert not await held(1), "nobody has taken it"
    await mine.take(pool)
    assert [await held(0), await held(1), await held(2)] == [False, True, False]
    await move_clock(pool, 61)
    assert not await held(1)
    await other.take(pool)
    assert [await held(1), await held(2)] == [False, True]


async def test_nobody_takes_the_lease_before_a_transaction_that_holds_it_has_ended(
    pool: Pool,
) -> None:
    """Not even if it ends meanwhile; and nobody waits for it, except its own holder."""
    mine, other = lease(0.3), lease()
    token = await mine.take(pool)
    assert token is not None
    async with pool.acquire() as connection:
        async with connection.transaction():
            assert await hold(connection, NAME, token)
            ended = "SELECT leased_until <= clock_timestamp() FROM leases"
            await until(lambda: pool.fetchval(ended))
            assert await asyncio.wait_for(other.take(pool), 5) is None
        assert await other.take(pool) == token + 1
        async with connection.transaction():
            assert not await hold(connection, NAME, token)


async def test_a_process_that_was_stopped_and_goes_on_writes_nothing(
    pool: Pool, database: str
) -> None:
    await pool.execute("CREATE TABLE written (token bigint)")
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, database, stdin=-1, stdout=-1, env={**os.environ}
    )
    assert worker.stdout is not None
    assert worker.stdin is not None
    assert await worker.stdout.readline() == b"1\n"
    worker.send_signal(signal.SIGSTOP)
    mine = lease()

    async def taken() -> int | None:
        return await mine.take(pool)

    assert await until(taken) == 2
    worker.send_signal(signal.SIGCONT)
    worker.stdin.write(b"go on\n")
    assert await worker.stdout.readline() == b"False\n"
    assert await worker.wait() == 0
    assert await pool.fetch("SELECT FROM written") == []
