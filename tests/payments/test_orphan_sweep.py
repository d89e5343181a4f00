"""The sweep for operations that a dead process left in flight: what it reads, and how soon it finds
one."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from easypay import clock, ids
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.payments.orphan_sweep import Sweep
from harness import new_database
from harness.page_counts import without_autovacuum

ABANDONED_S = 12
LASTS_S = 60
PER_S = 20
_CLOCK = """
    CREATE TABLE moment (at timestamptz);
    INSERT INTO moment VALUES (now());
    CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN (SELECT at FROM moment)
"""
_OPERATION = """
    INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor, currency,
        reference, begun_at)
    SELECT $1, i.id, i.id, 'test', 'sale', i.state, 100, 'USD', upper(substr(i.id::text, 15, 20)),
        i.at
      FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS i(id, state, at)
"""
_PAGES = """
    SELECT sum(heap_blks_hit + heap_blks_read)::int FROM pg_statio_user_tables
     WHERE relname LIKE 'operations%'
"""
_OF_THEM = """
    SELECT sum(pg_relation_size(oid))::int / 8192 FROM pg_class
     WHERE relname LIKE 'operations%' AND relkind = 'r'
"""
_SUMMARIZED = """
    SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_am a ON a.oid = c.relam
     WHERE a.amname = 'brin' AND c.relkind = 'i' AND c.relname LIKE 'operations%'
"""
MERCHANT = ids.new_id()
BEGAN = clock.now().replace(microsecond=0)


@pytest.fixture
async def pool(cluster: Cluster, template: str) -> AsyncIterator[Pool]:
    opened = await open_pool(await new_database(cluster.dsn, template), size=1)
    await without_autovacuum(opened)
    await opened.execute(_CLOCK)
    yield opened
    await opened.close()


def _id_at(moment: datetime, nth: int = 0) -> UUID:
    return UUID(int=ids.lowest_id_at(moment).int | 7 << 76 | 2 << 62 | nth)


async def _at(pool: Pool, after_s: float) -> None:
    await pool.execute("UPDATE moment SET at = $1", BEGAN + timedelta(seconds=after_s))


async def _begun(
    pool: Pool, after_s: float, state: str, *, count: int = 1, ahead_s: float = 0
) -> None:
    """Let operations begin, whose ids are those of a host with a clock that is ahead."""
    moment = BEGAN + timedelta(seconds=after_s)
    made = [_id_at(moment + timedelta(seconds=ahead_s), n) for n in range(count)]
    await pool.execute(_OPERATION, MERCHANT, made, [state] * count, [moment] * count)


async def _pages(pool: Pool) -> int:
    await pool.execute("SELECT pg_stat_force_next_flush()")
    async with pool.acquire() as connection:
        found: int = await connection.fetchval(_PAGES)
    return found


async def test_each_operation_is_looked_at_a_few_times(pool: Pool) -> None:
    """However often the sweep is asked to go on, and however many processes ask."""
    for second in range(LASTS_S):
        await _begun(pool, second, "approved", count=PER_S)
    for index in await pool.fetch(_SUMMARIZED):
        await pool.execute("SELECT brin_summarize_new_values($1::oid)", index[0])
    await pool.execute("UPDATE sweeps SET swept_below = $1", ids.lowest_id_at(BEGAN))
    sweeps = [Sweep(pool, abandoned_after_s=ABANDONED_S) for _ in range(2)]
    before = await _pages(pool)
    for second in range(LASTS_S + 2 * ABANDONED_S):
        await _at(pool, second)
        for each in sweeps:
            await each._narrow(ends=0.0)
    read = await _pages(pool) - before
    (row,) = await pool.fetch(_OF_THEM)
    assert row[0] > 100
    assert read <= 6 * row[0], f"{read} pages were read, of {row[0]}"


@pytest.mark.parametrize("ahead_s", [-10, 0, 10])
async def test_a_lost_operation_is_found_soon_whatever_its_hosts_clock(
    pool: Pool, ahead_s: float
) -> None:
    sweep = Sweep(pool, abandoned_after_s=ABANDONED_S)
    await pool.execute("UPDATE sweeps SET swept_below = $1", ids.lowest_id_at(BEGAN))
    await _begun(pool, 30, "in_flight", ahead_s=ahead_s)
    found_after = None
    for second in range(100):
        await _at(pool, second)
        if await sweep._narrow(ends=0.0):
            found_after = second - 30
            break
    assert found_after is not None
    assert ABANDONED_S < found_after <= 1.25 * ABANDONED_S + 1 + max(0, ahead_s)
