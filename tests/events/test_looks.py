"""Nothing that the leader does beside its looks holds them up: each event gets its place soon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from easypay import ids
from easypay.db import partitions
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.events import numbering
from easypay.events.leader import FeedLeader
from easypay.events.readers import Follower, PlanAge
from easypay.payments.feed_fold import PAYMENTS
from harness import new_database, until

INSERT = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    VALUES ($1, $2, $2, $2, 'test', 'payment.captured', 'captured', 100, 'USD', now())
"""
NUMBERED = "SELECT count(*) FROM feed"


@asynccontextmanager
async def leading(
    pool: Pool, dsn: str, plan: PlanAge | None = None, **more: Any
) -> AsyncIterator[None]:
    """Let a leader with these parts lead. `plan`: of the reader that follows it."""
    follower = Follower(PAYMENTS, dsn, limit_s=4.0, plan=plan)
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


MANY = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    SELECT $1, id, id, id, 'test', 'payment.captured', 'captured', 100, 'USD', now()
      FROM unnest($2::uuid[]) AS id
"""
FOLLOWED = "SELECT last_seq > 0 FROM feed_readers WHERE name = 'payments'"
SESSIONS = """
    SELECT array_agg(pid) FROM pg_stat_activity
     WHERE application_name = 'easypay feed' AND datname = current_database()
"""


async def test_the_looks_go_on_while_their_statements_are_planned_anew(
    cluster: Cluster, template: str
) -> None:
    """The tables have grown, but for some time there is no other connection to plan over."""
    dsn = await new_database(cluster.dsn, template)
    pool = await open_pool(dsn, size=3)
    name, server = urlsplit(dsn).path[1:], await asyncpg.connect(cluster.dsn)
    connections = f"ALTER DATABASE {name} ALLOW_CONNECTIONS"
    connection = await asyncpg.connect(dsn)
    await partitions.ensure(connection, months_ahead=1)
    merchant_id, count = ids.new_id(), 600

    async def renewed() -> bool:
        sessions = await connection.fetchval(SESSIONS)
        return sessions is not None and len(sessions) == 1 and sessions != first

    async with leading(pool, dsn, PlanAge(10 * count)):
        await pool.execute(INSERT, merchant_id, ids.new_id())
        await until(lambda: pool.fetchval(FOLLOWED), what="all connections are there")
        first = await connection.fetchval(SESSIONS)
        await server.execute(f"{connections} false")
        await pool.execute(MANY, merchant_id, [ids.new_id() for _ in range(count)])
        await until(lambda: _are_numbered(pool, 1 + count), what="these are numbered")
        await pool.execute(INSERT, merchant_id, ids.new_id())
        await until(lambda: _are_numbered(pool, 2 + count), what="the next one, too")
        assert await connection.fetchval(SESSIONS) == first
        await server.execute(f"{connections} true")
        await until(renewed, what="another connection takes the place of the first")
        await pool.execute(INSERT, merchant_id, ids.new_id())
        await until(lambda: _are_numbered(pool, 3 + count), what="and numbers what comes")
    await asyncio.gather(connection.close(), server.close(), pool.close())


async def _are_numbered(pool: Pool, count: int) -> bool:
    return int(await pool.fetchval(NUMBERED)) == count


async def test_to_plan_a_statement_numbers_nothing(cluster: Cluster, template: str) -> None:
    dsn = await new_database(cluster.dsn, template)
    connection = await asyncpg.connect(dsn)
    await partitions.ensure(connection, months_ahead=1)
    await connection.execute(INSERT, ids.new_id(), ids.new_id())
    before = await numbering.marks(connection)
    lane = Lane(dsn, "feed", _statement_of, lookups=True)
    for mark in before:
        if mark.month != "default":
            await numbering.plan(lane, mark, 0)
    assert await numbering.marks(connection) == before
    assert await connection.fetchval(NUMBERED) == 0
    assert await connection.fetchval("SELECT count(*) FROM streams") == 0

    async def numbered() -> bool:  # not while an older transaction of another test is open
        marks = await numbering.marks(connection)
        done = [await numbering.number(lane, mark, transactions=2000, most=9) for mark in marks]
        return sum(each.events for each in done) == 1

    await until(numbered, what="the lane numbers it")
    await asyncio.gather(lane.close(), connection.close())


def _statement_of(variant: str) -> str:
    month, _, read = variant.partition(" ")
    if read:
        return numbering.and_read(month, PAYMENTS)
    return numbering.in_month(month) if month else ""


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
