"""Nothing that the leader does beside its looks holds them up: each event gets its place soon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from easypay import ids
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.events.leader import FeedLeader
from easypay.events.readers import Follower
from easypay.payments.feed_fold import PAYMENTS
from harness import new_database, until

INSERT = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    VALUES ($1, $2, $2, $2, 'test', 'payment.captured', 'captured', 100, 'USD', now())
"""
NUMBERED = "SELECT count(*) FROM feed"


@asynccontextmanager
async def leading(pool: Pool, dsn: str, **more: Any) -> AsyncIterator[None]:
    """Let a leader with these parts lead."""
    follower = Follower(PAYMENTS, dsn, limit_s=4.0)
    leader = FeedLeader(pool, dsn, follower, limit_s=4.0, watch=lambda *_: None, **more)
    task = asyncio.create_task(leader.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_events_are_numbered_while_something_beside_the_looks_takes_long(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    pool, began = await open_pool(dsn, size=3), asyncio.Event()

    async def beside(_: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    async with leading(pool, dsn, beside=beside):
        await began.wait()
        await pool.execute(INSERT, ids.new_id(), ids.new_id())
        await until(lambda: pool.fetchval(NUMBERED), what="the event has its place")
    await pool.close()


async def test_the_lease_is_kept_while_something_beside_the_looks_takes_long(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    pool, began = await open_pool(dsn, size=3), asyncio.Event()
    until_when = "SELECT leased_until FROM leases WHERE name = 'feed'"

    async def beside(_: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    async with leading(pool, dsn, beside=beside):
        await began.wait()
        before = await pool.fetchval(until_when)
        renewed = f"SELECT ({until_when}) > $1"
        await until(lambda: pool.fetchval(renewed, before), what="the lease is prolonged")
    await pool.close()


async def test_the_leader_fails_with_what_runs_beside_its_looks(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    pool = await open_pool(dsn, size=3)

    async def beside(_: Any) -> None:
        raise ValueError("a bug")

    leader = FeedLeader(
        *(pool, dsn, Follower(PAYMENTS, dsn, limit_s=4.0)),
        limit_s=4.0,
        watch=lambda *_: None,
        beside=beside,
    )
    with pytest.raises(ValueError, match="a bug"):
        await leader.run()
    await pool.close()


async def test_a_long_chore_is_done_in_parts_with_a_look_after_each(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    pool, numbered, done = await open_pool(dsn, size=3), list[int](), asyncio.Event()

    async def chore(pool: Any) -> bool:
        numbered.append(await pool.fetchval(NUMBERED))
        await pool.execute(INSERT, ids.new_id(), ids.new_id())
        if len(numbered) == 5:
            done.set()
        return not done.is_set()

    async with leading(pool, dsn, chore=chore), asyncio.timeout(20):
        await done.wait()
    await pool.close()
    assert numbered[:5] == [0, 1, 2, 3, 4]


async def test_the_leader_ends_when_another_process_has_the_lease(
    cluster: Cluster, template: str
) -> None:
    """It looks no more, and leads again once the lease is free."""
    dsn = await new_database(cluster.dsn, template)
    pool = await open_pool(dsn, size=3)
    async with leading(pool, dsn):
        leads = "SELECT count(*) FROM leases WHERE name = 'feed' AND holder <> $1"
        other = ids.new_id()
        await until(lambda: pool.fetchval(leads, other), what="it leads")
        await pool.execute(
            "UPDATE leases SET holder = $1, leased_until = 'infinity' WHERE name = 'feed'", other
        )
        connections = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'easypay feed'"
            " AND datname = current_database()"
        )
        await until(lambda: _is_none(pool, connections), what="its connection is closed")
        await pool.execute(INSERT, ids.new_id(), ids.new_id())
        assert await pool.fetchval(NUMBERED) == 0
        await pool.execute("UPDATE leases SET leased_until = now() WHERE name = 'feed'")
        await until(lambda: pool.fetchval(NUMBERED), what="it leads again")
    await pool.close()


async def _is_none(pool: Pool, count: str) -> bool:
    return await pool.fetchval(count) == 0
