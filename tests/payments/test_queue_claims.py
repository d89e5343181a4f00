"""A turn for each merchant costs as little as the ordinary claim, however long a queue is."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import asyncpg
import msgspec
import pytest

from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.db.work_list import work_lane
from easypay.payments import queue_claims
from easypay.payments.queue_rows import QUEUED
from harness import connected, new_database, until_locked

MOST = 64
MERCHANTS = [uuid.UUID(int=n << 64) for n in range(1, 101)]


@pytest.fixture
async def dsn(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def lane(dsn: str) -> AsyncIterator[Lane]:
    """Yield a worker's connection, whose plans were made when the queue was empty."""
    opened = work_lane(
        dsn, QUEUED, more=queue_claims.STATEMENTS, settings=queue_claims.LANE_SETTINGS
    )
    assert await queue_claims.next_merchants(opened, uuid.UUID(int=0), MOST) == []
    yield opened
    await opened.close()


async def fill(connection: Any, merchant: uuid.UUID, rows: int) -> None:
    await connection.execute(
        "INSERT INTO queued_operations (merchant_id, operation_id, payment_id, mode, kind,"
        " expires_at) SELECT $1, gen_random_uuid(), gen_random_uuid(), 'test', 'sale', 'infinity'"
        " FROM generate_series(1, $2)",
        merchant,
        rows,
    )


async def pages(connection: Any, name: str, *arguments: str) -> int:
    """Explain a prepared statement. Return how many pages it looked at."""
    (plan,) = await connection.fetchrow(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}({', '.join(arguments)})"
    )
    (top,) = msgspec.json.decode(plan)
    found: int = top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
    return found


async def test_merchants_are_found_in_turn_and_give_at_most_their_share(lane: Lane) -> None:
    for each, rows in zip(MERCHANTS, (50, 1, 2), strict=False):
        await fill(lane._connection, each, rows)
    first = await queue_claims.next_merchants(lane, uuid.UUID(int=0), 2)
    assert first == MERCHANTS[:2]
    assert await queue_claims.next_merchants(lane, first[-1], 2) == MERCHANTS[2:3]
    claimed = await queue_claims.claim_of(lane, MERCHANTS[:3], of_each=4, most=MOST, lease_s=30)
    owners = [work.key[0] for work in claimed]
    assert [owners.count(each) for each in MERCHANTS[:3]] == [4, 1, 2]
    assert {work.attempt for work in claimed} == {1}


PAUSED_CLOCK = """
    CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN (SELECT now() FROM pg_advisory_xact_lock_shared(7))
"""


async def test_a_row_that_changes_while_its_merchant_has_a_turn_is_claimed_as_it_is_then(
    lane: Lane, dsn: str
) -> None:
    """The claim has its snapshot and has not locked the row yet, when another worker gives the row
    back. The row has another place then, which the snapshot does not see."""
    turn = partial(queue_claims.claim_of, lane, MERCHANTS[:1], of_each=4, most=MOST, lease_s=30)
    async with connected(dsn) as other:
        await other.execute(PAUSED_CLOCK)
        assert await turn() == []  # planned
        await fill(other, MERCHANTS[0], 1)
        await other.execute("SELECT pg_advisory_lock(7)")
        claiming = asyncio.create_task(turn())
        await until_locked(dsn, what="the claim has its snapshot")
        await other.execute("UPDATE queued_operations SET attempt = 4")
        await other.execute("SELECT pg_advisory_unlock(7)")
        assert [work.attempt for work in await claiming] == [5]


async def test_a_turn_reads_few_pages_however_many_rows_wait(
    cluster: Cluster, template: str
) -> None:
    """The plans are those of an empty queue, and then those of one that was analyzed."""
    connection = await asyncpg.connect(await new_database(cluster.dsn, template))
    for each in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_sort"):
        await connection.execute(f"SET {each} = off")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    for name, sql in (("merchants", "NEXT_MERCHANTS"), ("claim", "CLAIM_OF")):
        variant = getattr(queue_claims, sql)
        await connection.execute(f"PREPARE {name} AS {queue_claims.STATEMENTS[variant]}")
    of_all = "'{" + ",".join(map(str, MERCHANTS)) + "}'::uuid[]"
    await pages(connection, "merchants", f"'{uuid.UUID(int=0)}'", str(MOST))
    await pages(connection, "claim", of_all, "4", str(MOST), "30")
    for each in MERCHANTS:
        await fill(connection, each, 10_000 if each == MERCHANTS[0] else 10)
    for _ in range(2):
        assert await pages(connection, "merchants", f"'{uuid.UUID(int=0)}'", str(MOST)) < 8 * MOST
        assert await pages(connection, "claim", of_all, "4", str(MOST), "30") < 40 * MOST
        await connection.execute("ANALYZE queued_operations")
    await connection.close()
