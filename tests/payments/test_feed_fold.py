"""New events are folded in the statement that numbers them, if everything before them is folded."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from statistics_world import BEGIN, World
from test_statistics import all_is_exact, differences, lived, waits

from easypay.db.embedded import Cluster
from easypay.payments import seals
from harness import new_database


@pytest.fixture
async def world(cluster: Cluster, template: str) -> AsyncIterator[World]:
    dsn = await new_database(cluster.dsn, template)
    quick = {"synchronous_commit": "off"}
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4, server_settings=quick) as pool:
        made = World(dsn, pool, 7)
        yield await made.open({"one": "America/New_York", "other": "Pacific/Chatham"})
        await made.close()


async def test_what_is_numbered_is_folded_with_it(world: World) -> None:
    for _ in range(4):
        await lived(world, days=3, steps=20)
        assert await world.number_and_fold()
        assert await world.folded() == await world.pool.fetchval("SELECT last_seq FROM feed_head")
        await all_is_exact(world)
    await world.seal()
    await lived(world, days=1, steps=30)
    assert await world.number_and_fold()
    assert await differences(world) == []


async def test_a_fold_that_is_behind_reads_nothing_at_once(world: World) -> None:
    await lived(world, days=3, steps=20)
    await world.number()
    await lived(world, days=3, steps=20)
    assert not await world.number_and_fold()
    assert await world.folded() == 0
    await world.fold()
    await lived(world, days=3, steps=20)
    assert not await world.number_and_fold(read_to=1), "its caller knows of less than was folded"
    await world.fold()
    await all_is_exact(world)
    assert await differences(world) == []


async def test_events_that_were_found_before_a_seal_are_folded_after_it(world: World) -> None:
    await lived(world)
    assert await world.number_and_fold()
    await lived(world, days=1, steps=20)
    async with world.pool.acquire() as connection:
        async with connection.transaction():
            for merchant in world.merchants:
                await seals.seal(connection, merchant)
            at_once = asyncio.create_task(world.number_and_fold())
            await waits(world, "easypay feed at once")
        assert not await at_once, "the numbers are given, and nothing is folded"
    await world.fold()
    await all_is_exact(world)
    assert await differences(world) == []


async def test_of_two_leaders_only_one_numbers_and_folds(world: World) -> None:
    await lived(world)
    other = World(world.dsn, world.pool, 0)
    both = await asyncio.gather(
        world.number_and_fold(), other.number_and_fold(), return_exceptions=True
    )
    await other.close()
    assert True in both
    assert world.now - BEGIN >= timedelta(days=39)
    await all_is_exact(world)
    assert await differences(world) == []
