"""The feed misses no event, whenever its transaction commits, and gives none two places."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from easypay import clock, ids
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.events import numbering
from easypay.events.numbering import Mark
from harness import connected, new_database, until

MERCHANT = ids.new_id()
INSERT = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    SELECT $1, id, id, id, $3, 'payment.captured', 'captured', 100, 'USD', now()
      FROM unnest($2::uuid[]) AS id
"""


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
async def lane(database: str) -> AsyncIterator[Lane]:
    opened = Lane(database, "feed", numbering.in_month, lookups=True)
    yield opened
    await opened.close()


def present() -> str:
    return f"{clock.now():%Y_%m}"


async def write(
    connection: Any, count: int = 1, *, merchant: UUID = MERCHANT, mode: str = "test"
) -> list[UUID]:
    """Write events in one transaction, or in the one that is open. Return their ids."""
    made = [ids.new_id() for _ in range(count)]
    await connection.execute(INSERT, merchant, made, mode)
    return made


async def number_all(
    lane: Lane, connection: Any, *, transactions: int = 1 << 40, most: int = 1 << 40
) -> None:
    """Number everything that is committed, as the leader does."""
    for mark in await numbering.marks(connection):
        while True:
            done = await numbering.number(lane, mark, transactions=transactions, most=most)
            assert done.mark is not None
            if done.mark.read_below - mark.read_below < transactions:
                break
            mark = done.mark


async def feed(connection: Any, merchant: UUID = MERCHANT, mode: str = "test") -> list[UUID]:
    """Return a merchant's events in their order, after checking that positions have no gap."""
    rows = await connection.fetch(
        "SELECT position, event_id FROM feed JOIN streams USING (stream)"
        " WHERE merchant_id = $1 AND mode = $2 ORDER BY position",
        merchant,
        mode,
    )
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["event_id"] for row in rows]


async def test_a_transaction_that_commits_late_comes_after_what_was_read(
    database: str, connection: Any, lane: Lane
) -> None:
    slow = await asyncpg.connect(database)
    transaction = slow.transaction()
    await transaction.start()
    early = await write(slow)
    quick = await write(connection)
    await number_all(lane, connection)
    assert await feed(connection) == quick

    more = await write(connection)
    await number_all(lane, connection)
    assert await feed(connection) == [*quick, *more]

    await transaction.commit()
    await number_all(lane, connection)
    assert await feed(connection) == [*quick, *more, *early]
    await slow.close()


async def test_a_transaction_that_fails_leaves_no_gap(
    database: str, connection: Any, lane: Lane
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await write(connection)
    await transaction.rollback()
    written = await write(connection)
    await number_all(lane, connection)
    await number_all(lane, connection)
    assert await feed(connection) == written


async def test_every_merchant_and_mode_counts_for_itself(connection: Any, lane: Lane) -> None:
    other = ids.new_id()
    expected = {
        (MERCHANT, "test"): await write(connection, 3),
        (MERCHANT, "live"): await write(connection, 2, mode="live"),
        (other, "test"): await write(connection, 4, merchant=other),
    }
    await number_all(lane, connection)
    for (merchant, mode), written in expected.items():
        assert await feed(connection, merchant, mode) == written
    rows = await connection.fetch("SELECT seq FROM feed ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, 10))


async def test_only_one_of_two_leaders_numbers(database: str, connection: Any, lane: Lane) -> None:
    """Both believe that they lead: one of them was stopped and has just gone on."""
    await number_all(lane, connection)
    (mark,) = [m for m in await numbering.marks(connection) if m.month == present()]
    written = await write(connection, 50)
    other = Lane(database, "feed", numbering.in_month, lookups=True)
    both = await asyncio.gather(
        *(
            numbering.number(each, mark, transactions=1 << 40, most=1 << 40)
            for each in (lane, other)
        ),
        return_exceptions=True,
    )
    await other.close()
    moved = [done for done in both if isinstance(done, numbering.Numbered) and done.mark]
    assert len(moved) == 1
    assert await feed(connection) == written


async def test_a_head_that_another_leader_moves_meanwhile_loses_no_event(
    database: str, connection: Any, lane: Lane
) -> None:
    """The other numbers events of another month, so only the head lies between the two."""
    await number_all(lane, connection)
    (mark,) = [m for m in await numbering.marks(connection) if m.month == present()]
    head = await connection.fetchval("SELECT ctid FROM feed_head")
    written = await write(connection, 20)
    numbering_now = numbering.number(lane, mark, transactions=1 << 40, most=1 << 40, head=head)
    async with connected(database) as other:
        async with other.transaction():
            await other.execute("UPDATE feed_head SET last_seq = last_seq + 5")
            task = asyncio.create_task(numbering_now)
            await until(lambda: waits_for_a_lock(connection), what="a leader that waits")
        done = await task
    if done.mark is None:  # whether it goes on depends on PostgreSQL's release
        (unmoved,) = [m for m in await numbering.marks(connection) if m.month == present()]
        assert unmoved == mark
        assert await feed(connection) == []
        done = await numbering.number(lane, mark, transactions=1 << 40, most=1 << 40, head=head)
    assert done.mark is not None
    assert await feed(connection) == written
    assert await connection.fetchval("SELECT last_seq FROM feed_head") == 25


async def waits_for_a_lock(connection: Any) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'easypay feed' AND wait_event_type = 'Lock')"
        )
    )


async def test_more_events_than_fit_are_numbered_in_parts(connection: Any, lane: Lane) -> None:
    written = [event for _ in range(10) for event in await write(connection, 10)]
    (mark,) = [m for m in await numbering.marks(connection) if m.month == present()]
    too_many = await numbering.number(lane, mark, transactions=1 << 40, most=50)
    assert too_many.mark is None
    assert too_many.events > 50
    assert await feed(connection) == []
    await number_all(lane, connection, transactions=1 << 40)
    assert await feed(connection) == written


async def test_an_event_of_a_clock_that_is_wrong_is_numbered_too(
    connection: Any, lane: Lane
) -> None:
    """Its id lies in no month, so it is in the default table."""
    strange = UUID(int=ids.lowest_id_at(datetime(2001, 1, 1, tzinfo=UTC)).int + 1)
    await number_all(lane, connection)
    await connection.execute(INSERT, MERCHANT, [strange], "test")
    await number_all(lane, connection)
    assert await feed(connection) == [strange]


async def test_a_month_that_is_gone_leaves_no_mark(connection: Any, lane: Lane) -> None:
    before = await numbering.marks(connection)
    month = max(mark.month for mark in before if mark.month != "default")
    await connection.execute(f"ALTER TABLE events DETACH PARTITION events_{month}")
    await connection.execute(f"ALTER TABLE events_{month} RENAME TO kept_{month}")
    gone = Mark(month, 0, [], 1)
    done = await numbering.number(lane, gone, transactions=10, most=10)
    assert done.events == 0
    assert [m.month for m in await numbering.marks(connection)] == [
        mark.month for mark in before if mark.month != month
    ]


async def test_a_restored_database_goes_on_where_the_dump_ended(
    connection: Any, lane: Lane
) -> None:
    """A dump keeps the numbers of transactions that another server gave."""
    written = await write(connection, 5)
    await number_all(lane, connection)
    unread = await write(connection, 3)
    await connection.execute(
        "UPDATE events SET written_by = (written_by::text::bigint + 1000000)::text::xid8"
    )
    await connection.execute("UPDATE feed_months SET read_below = read_below + 1000000")
    assert await numbering.is_restored(connection)

    for mark in await numbering.marks(connection):
        await numbering.adopt(connection, mark)
    assert not await numbering.is_restored(connection)
    assert await feed(connection) == [*written, *unread]
    new = await write(connection, 2)
    await number_all(lane, connection)
    await number_all(lane, connection)
    assert await feed(connection) == [*written, *unread, *new]
    ahead = "SELECT count(*) FROM events WHERE written_by > pg_current_xact_id()"
    assert await connection.fetchval(ahead) == 0


async def test_news_is_whatever_ended_and_was_not_read(database: str, connection: Any) -> None:
    """The server's other databases end transactions as well, so quiet is waited for."""
    lane = Lane(
        database,
        "feed",
        lambda name: numbering.IS_ANY_NEW if name == numbering.PEEK else numbering.in_month(name),
        lookups=True,
    )
    marks = {mark.month: mark for mark in await numbering.marks(connection)}

    async def nothing_new() -> bool:
        mark = marks[present()]
        done = await numbering.number(lane, mark, transactions=1 << 40, most=1 << 40)
        assert done.mark is not None
        marks[present()] = done.mark
        return not await numbering.is_any_new(lane, done.mark)

    await until(nothing_new, what="a look that finds nothing is no news itself")
    await write(connection)
    assert await numbering.is_any_new(lane, marks[present()])

    slow = await asyncpg.connect(database)
    transaction = slow.transaction()
    await transaction.start()
    await write(slow)
    number = await slow.fetchval("SELECT pg_current_xact_id()::text::bigint")
    await write(connection)
    beyond = Mark(present(), 1 << 60, [number], 1)
    assert not await numbering.is_any_new(lane, beyond), "it is still open"
    await transaction.commit()
    assert await numbering.is_any_new(lane, beyond)
    await slow.close()
    await lane.close()
