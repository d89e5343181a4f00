"""Whoever follows a stream by its positions misses no event, whatever commits late or is lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from easypay import clock, ids
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.events import numbering, pages
from easypay.events.pages import Place
from harness import new_database

MERCHANT = ids.new_id()
INSERT = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    SELECT $1, id, id, id, 'test', $3, 'captured', 100, 'USD', now() FROM unnest($2::uuid[]) AS id
"""


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database, size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def lane(database: str) -> AsyncIterator[Lane]:
    opened = Lane(database, "feed", numbering.in_month, lookups=True)
    yield opened
    await opened.close()


async def write(runner: Any, count: int = 1, word: str = "payment.captured") -> list[UUID]:
    made = [ids.new_id() for _ in range(count)]
    await runner.execute(INSERT, MERCHANT, made, word)
    return made


async def number(lane: Lane, pool: Pool) -> None:
    for mark in await numbering.marks(pool):
        done = await numbering.number(lane, mark, transactions=1 << 40, most=1 << 40)
        assert done.mark is not None


class Reader:
    """A client that follows the stream and keeps what it has got."""

    def __init__(self, pool: Pool, *types: str) -> None:
        self.pool = pool
        self.types = types
        self.place = Place()
        self.got: list[UUID] = []

    async def follow(self, limit: int = 3) -> None:
        stream = await pages.stream_of(self.pool, MERCHANT, "test")
        if stream is None:
            return
        more = True
        self.place = await pages.checked(self.pool, stream, self.place)
        while more:
            page = await pages.read(
                self.pool, MERCHANT, stream, self.place, limit=limit, types=self.types
            )
            assert len(page.events) <= limit
            self.got += [event.id for event in page.events]
            self.place, more = page.after, page.more


async def test_what_commits_late_comes_later_and_is_not_missed(
    database: str, pool: Pool, lane: Lane
) -> None:
    reader = Reader(pool)
    slow = await asyncpg.connect(database)
    transaction = slow.transaction()
    await transaction.start()
    held = await write(slow, 2)
    first = await write(pool, 5)
    await number(lane, pool)
    await reader.follow()
    assert reader.got == first
    await transaction.commit()
    await slow.close()
    second = await write(pool, 1)
    await number(lane, pool)
    await reader.follow()
    assert reader.got == [*first, *held, *second]


async def test_of_two_events_the_one_that_committed_first_comes_first(
    pool: Pool, lane: Lane
) -> None:
    """Whatever the clocks of the hosts say that made their ids."""
    early, late = ids.new_id(), ids.new_id()
    for each in (late, early):
        await pool.execute(INSERT, MERCHANT, [each], "payment.captured")
    await number(lane, pool)
    reader = Reader(pool)
    await reader.follow()
    assert reader.got == [late, early]
    assert [row[0] for row in await pool.fetch("SELECT event_id FROM feed ORDER BY seq")] == [
        late,
        early,
    ]


async def test_types_are_found_however_far_apart_they_are(pool: Pool, lane: Lane) -> None:
    wanted = []
    for _ in range(3):
        await write(pool, pages.MOST_LOOKED_AT)
        wanted += await write(pool, 2, "refund.succeeded")
    await number(lane, pool)
    reader = Reader(pool, "refund.succeeded")
    await reader.follow(limit=1)
    assert reader.got == wanted
    assert reader.place.position == 3 * pages.MOST_LOOKED_AT + 6


async def test_after_a_failover_that_lost_events_a_reader_misses_none_of_the_new_ones(
    pool: Pool, lane: Lane
) -> None:
    """The standby lacked the last three events, so new ones get the positions of those."""
    reader = Reader(pool)
    kept, lost = await write(pool, 4), await write(pool, 3)
    await number(lane, pool)
    await reader.follow()
    assert reader.got == [*kept, *lost]
    await pool.execute("DELETE FROM events WHERE id = ANY($1)", lost)
    await pool.execute("DELETE FROM feed WHERE event_id = ANY($1)", lost)
    await pool.execute("UPDATE feed_head SET last_seq = 4")
    await reader.follow()  # of what is left: again, but nothing is new
    new = await write(pool, 5)
    await number(lane, pool)
    await reader.follow()
    assert set(reader.got) == {*kept, *lost, *new}
    assert reader.got[-5:] == new
    await reader.follow()
    assert reader.got[-5:] == new, "each is told again at most once"


@pytest.mark.parametrize("new_ones", [0, 2])
async def test_after_a_restore_of_an_old_dump_nothing_is_told_again_and_again(
    pool: Pool, lane: Lane, new_ones: int
) -> None:
    """All that the dump has is much older than the reader's last event. Whether it looks before
    there is a new event or after, it goes on from there."""
    reader = Reader(pool)
    old = [ids.lowest_id_at(clock.now() - timedelta(days=1, seconds=n)) for n in (3, 2, 1)]
    await pool.execute(INSERT, MERCHANT, old, "payment.captured")
    await number(lane, pool)
    lost = await write(pool, 3)
    await number(lane, pool)
    await reader.follow()
    assert reader.got == [*old, *lost]
    await pool.execute("DELETE FROM events WHERE id = ANY($1)", lost)
    await pool.execute("DELETE FROM feed WHERE event_id = ANY($1)", lost)
    await pool.execute("UPDATE feed_head SET last_seq = 3")
    new = await write(pool, new_ones)
    await number(lane, pool)
    for _ in range(3):
        await reader.follow()
        assert reader.got == [*old, *lost, *new]


async def test_the_newest_place_skips_what_there_is(pool: Pool, lane: Lane) -> None:
    await write(pool, 3)
    await number(lane, pool)
    stream = await pages.stream_of(pool, MERCHANT, "test")
    assert stream is not None
    reader = Reader(pool)
    reader.place = await pages.newest(pool, stream)
    new = await write(pool, 2)
    await number(lane, pool)
    await reader.follow()
    assert reader.got == new


async def test_readers_at_the_same_time_as_writers_get_everything_once_in_one_order(
    pool: Pool, lane: Lane
) -> None:
    """Eight writers whose transactions overlap, and two readers that poll meanwhile."""
    readers = [Reader(pool), Reader(pool)]
    written: list[UUID] = []

    async def writer() -> None:
        for _ in range(10):
            async with pool.acquire() as connection, connection.transaction():
                written.extend(await write(connection, 2))
                await asyncio.sleep(0)

    async def follow_while(writers: "asyncio.Future[Any]") -> None:
        while not writers.done():
            await number(lane, pool)
            for reader in readers:
                await reader.follow()

    writers = asyncio.gather(*(writer() for _ in range(8)))
    await follow_while(writers)
    await writers
    await number(lane, pool)
    for reader in readers:
        await reader.follow()
    first, second = (reader.got for reader in readers)
    assert first == second
    assert len(first) == len(set(first)) == len(written)
    assert set(first) == set(written)
