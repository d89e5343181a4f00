"""Payments whose outcome is unknown are in the search table, and counted once they have one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from statistics_world import World
from test_statistics import differences, lived, waits

from easypay.db.embedded import Cluster
from easypay.events import numbering
from easypay.payments import search_of_unknown, statistics_check
from harness import new_database

# What the search table lacks or has wrong, of payments with an event or without an outcome.
_WRONG = """
    SELECT p.id, p.status, s.status FROM payments p
      LEFT JOIN streams m ON m.merchant_id = p.merchant_id AND m.mode = p.mode
      LEFT JOIN payment_search s ON s.stream = m.stream AND s.payment_id = p.id
     WHERE (p.status <> 'processing' OR EXISTS (
               SELECT FROM unresolved_operations u
                WHERE u.merchant_id = p.merchant_id AND u.payment_id = p.id))
       AND (s.status, s.version, s.amount_minor, s.card_brand, s.counted_status)
           IS DISTINCT FROM
           (p.status, p.version, p.amount_minor, p.card_brand, nullif(p.status, 'processing'))
"""


@pytest.fixture
async def world(cluster: Cluster, template: str) -> AsyncIterator[World]:
    dsn = await new_database(cluster.dsn, template)
    quick = {"synchronous_commit": "off"}
    async with asyncpg.create_pool(dsn, min_size=1, max_size=6, server_settings=quick) as pool:
        made = World(dsn, pool, 3)
        yield await made.open({"one": "America/New_York", "other": "Asia/Kathmandu"})
        await made.close()


async def have_ended(world: World) -> None:
    """List what is processed now as unresolved: the calls ended without an outcome."""
    await world.pool.execute(
        "INSERT INTO unresolved_operations"
        " (merchant_id, operation_id, payment_id, since, next_inquiry_at)"
        " SELECT merchant_id, id, id, created_at, created_at FROM payments"
        "  WHERE status = 'processing' ON CONFLICT DO NOTHING"
    )


async def take(world: World) -> None:
    await search_of_unknown.take(world.pool)


async def is_right(world: World) -> None:
    """Let everything follow, and compare the search table and the counts with the rows."""
    await world.number()
    await world.fold()
    await take(world)
    assert await world.pool.fetch(_WRONG) == []
    assert await world.pool.fetchval("SELECT count(*) FROM payments_to_search") == 0
    assert await differences(world) == []


async def test_they_get_a_row_and_are_counted_when_their_outcome_comes(world: World) -> None:
    chance = world.chance
    steps = [world.number, world.fold, world.number_and_fold, world.seal]
    for turn in range(40):
        for _ in range(chance.randrange(8)):
            await chance.choice((world.happens, world.happens, world.begins))()
            await world.passes(timedelta(hours=5) * chance.random() ** 3)
        if turn % 3 == 0:
            await have_ended(world)
        await chance.choice([*steps, lambda: take(world), lambda: take(world)])()
    await is_right(world)
    found = await world.pool.fetchval(
        "SELECT count(*) FROM payment_search WHERE status = 'processing'"
    )
    assert found > 0


async def test_a_merchant_whose_first_payment_is_unknown_has_a_stream(world: World) -> None:
    life = await world.begins()
    await have_ended(world)
    await is_right(world)
    (row,) = await world.pool.fetch("SELECT payment_id, status FROM payment_search")
    assert tuple(row) == (life.id, "processing")
    for _ in range(30):
        await world.happens()
    await is_right(world)


async def test_a_fold_that_waited_for_them_looks_again(world: World) -> None:
    """It has not seen their rows, and would insert them a second time."""
    for _ in range(5):
        await world.begins()
    await have_ended(world)
    for _ in range(30):
        await world.happens()
    await world.number()
    async with world.pool.acquire() as connection:
        async with connection.transaction():
            assert await connection.fetchval(search_of_unknown._TAKE) > 0
            fold = asyncio.create_task(world.fold())
            await waits(world, "easypay feed payments")
        await fold
    await is_right(world)


async def test_a_stream_that_is_begun_meanwhile_is_waited_for_without_the_mark(
    world: World,
) -> None:
    """Whoever numbers the first event of a merchant begins its stream, and then wants the mark."""
    life = await world.begins()
    await have_ended(world)
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO streams (merchant_id, mode) VALUES ($1, $2)", life.merchant_id, life.mode
        )
        taking = asyncio.create_task(take(world))
        await waits(world, "")
        await connection.execute("UPDATE feed_readers SET version = version + 1")
        await transaction.commit()
    await taking
    await is_right(world)


async def test_events_are_numbered_later_if_their_stream_is_begun_in_this_moment(
    world: World,
) -> None:
    for _ in range(20):
        await world.happens()
    (mark,) = [each for each in await numbering.marks(world.pool) if each.month == "default"]
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO streams (merchant_id, mode) SELECT DISTINCT merchant_id, mode FROM events"
        )
        many = 1 << 40
        look = asyncio.create_task(
            numbering.number(world._lane, mark, transactions=many, most=many)
        )
        await waits(world, "easypay feed")
    assert (await look).mark is None, "to be tried again"
    await is_right(world)


async def test_whoever_takes_them_at_the_same_time_does_it_once(world: World) -> None:
    other = World(world.dsn, world.pool, 0)
    for _ in range(6):
        for _ in range(10):
            await world.begins()
        await have_ended(world)
        await lived(world, days=1, steps=30)
        await world.number()
        await asyncio.gather(take(world), world.fold(), take(world), other.fold(), take(world))
    await other.close()
    await is_right(world)


async def test_counting_anew_brings_back_the_rows_that_were_lost(world: World) -> None:
    await lived(world, days=3, steps=60)
    await world.begins()
    await have_ended(world)
    await is_right(world)
    await world.pool.execute("DELETE FROM payment_search")
    async with world.pool.acquire() as connection:
        await statistics_check.rebuild(connection)
    await is_right(world)
