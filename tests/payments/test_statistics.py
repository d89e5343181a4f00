"""The statistics are exact at any moment, in any time zone, whatever commits late or dies."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from msgspec import structs
from statistics_oracle import edges, expected, local_start, told
from statistics_world import BEGIN, CURRENCIES, World

from breadth import examples
from easypay.db import partitions
from easypay.db.embedded import Cluster
from easypay.errors import StatisticsNotReady, ValidationFailed
from easypay.merchants import admin
from easypay.payments import seals, statistics, statistics_check
from easypay.payments.statistics import Interval, Question
from harness import new_database, until

ZONES = {
    "a": "Asia/Kathmandu",
    "b": "America/New_York",
    "c": "Australia/Lord_Howe",
    "d": "America/Havana",
}
INTERVALS: tuple[Interval, ...] = ("none", "hour", "day", "week", "month")


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, cluster: Cluster, template: str
) -> AsyncIterator[World]:
    """Return a world of its own; the parameter is its seed."""
    dsn = await new_database(cluster.dsn, template)
    quick = {"synchronous_commit": "off"}  # nothing dies here, but transactions
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4, server_settings=quick) as pool:
        made = await World(dsn, pool, getattr(request, "param", 0)).open(ZONES)
        yield made
        await made.close()


async def is_exact(world: World, question: Question) -> None:
    """Compare an answer with the rows, in one snapshot."""
    async with world.pool.acquire() as connection:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = await statistics.answer(connection, world.months, question)
            zone = world.merchants[question.merchant_id]
            cuts = edges(question, zone)
            assert [bucket.since for bucket in found.buckets] == cuts[:-1], question
            assert told(found) == await expected(connection, question, zone), question


async def differences(world: World) -> list[statistics_check.Difference]:
    async with world.pool.acquire() as connection:
        return await statistics_check.verify(connection)


def any_question(world: World) -> Question:
    chance = world.chance
    interval = chance.choice(INTERVALS)
    longest = timedelta(days=15 if interval == "hour" else 60)
    since = BEGIN + chance.random() * max(timedelta(hours=1), world.now - BEGIN)
    until = min(since + chance.random() * longest, world.now + timedelta(days=1))
    if chance.random() < 0.7:
        since, until = (each.replace(minute=15, second=0, microsecond=0) for each in (since, until))
    return Question(
        chance.choice([*world.merchants]),
        chance.choice(("test", "live")),
        min(since, until),
        max(since, until) + timedelta(minutes=15),
        interval,
        by_brand=chance.random() < 0.5,
    )


@pytest.mark.breadth
@pytest.mark.parametrize("world", range(examples(1, 3)), indirect=True)
async def test_any_question_is_answered_exactly_at_any_moment(world: World) -> None:
    steps = [world.number, world.fold, world.seal, world.commit, world.happens_late]
    steps.append(world.number_and_fold)
    for _ in range(40):
        for _ in range(world.chance.randrange(12)):
            await world.happens()
            await world.passes(timedelta(hours=5) * world.chance.random() ** 3)
        await world.chance.choice(steps)()
        await is_exact(world, any_question(world))
    await world.commit()
    await world.number()
    await world.fold()
    await world.seal()
    for _ in range(10):
        await is_exact(world, any_question(world))
    assert await differences(world) == []


async def lived(world: World, days: int = 40, steps: int = 150) -> None:
    """Let this much time pass, with something at every step."""
    for _ in range(steps):
        await world.happens()
        await world.passes(timedelta(days=days) / steps)


async def all_is_exact(world: World) -> None:
    """Ask about all time, by each interval but hours, for every merchant."""
    for merchant in world.merchants:
        for interval in ("none", "day", "month"):
            until = world.now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            await is_exact(world, Question(merchant, "test", BEGIN, until, interval))


async def waits(world: World, name: str) -> None:
    """Wait until a session of this name waits for a lock."""

    async def is_waiting() -> bool:
        return bool(
            await world.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
                " AND datname = current_database() AND wait_event_type = 'Lock'",
                name,
            )
        )

    await until(is_waiting, what=f"{name} waits for a lock")


async def test_a_fold_that_began_before_a_seal_adds_to_the_sealed_days(world: World) -> None:
    """It waited for the mark, so it sees no seal: it must begin again."""
    await lived(world)
    await world.number()
    async with world.pool.acquire() as connection:
        async with connection.transaction():
            for merchant in world.merchants:
                await seals.seal(connection, merchant)
            fold = asyncio.create_task(world.fold())
            await waits(world, "easypay feed payments")
        await fold
    await all_is_exact(world)
    assert await differences(world) == []


async def test_a_leader_that_dies_while_it_seals_leaves_nothing_half_done(world: World) -> None:
    await lived(world)
    await world.number()
    await world.fold()
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await seals.seal(connection, next(iter(world.merchants)))
        await transaction.rollback()
    await all_is_exact(world)
    await world.seal()
    await all_is_exact(world)
    assert await differences(world) == []


async def test_a_step_seals_little_and_asks_little_where_nothing_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed stands still meanwhile, and a night makes many merchants due at once."""
    monkeypatch.setattr(seals, "_AT_ONCE_S", 0)
    step_by_step = seals.Seals()
    there_is_more = [await step_by_step.step(world.pool) for _ in world.merchants]
    assert there_is_more == [True] * (len(world.merchants) - 1) + [False]
    assert step_by_step.rests
    sealed = await world.pool.fetchval("SELECT count(*) FROM statistics_seals")
    assert sealed == len(world.merchants)
    asked: list[str] = []
    async with world.pool.acquire() as connection:
        connection.add_query_logger(lambda query: asked.append(query.query.split()[0]))
        await seals.seal(connection, next(iter(world.merchants)))
        assert asked[:4] == ["BEGIN;", "UPDATE", "SELECT", "INSERT"]
        assert asked[4:] in ([], ["COMMIT;"])  # it is told of a little later


async def test_of_two_leaders_only_one_folds(world: World) -> None:
    await lived(world)
    await world.number()
    other = World(world.dsn, world.pool, 0)
    await asyncio.gather(world.fold(), other.fold())
    await other.close()
    await all_is_exact(world)
    assert await differences(world) == []


async def test_another_time_zone_has_other_days_at_once(world: World) -> None:
    await lived(world)
    await world.number()
    await world.fold()
    await world.seal()
    async with world.pool.acquire() as connection:
        for merchant in world.merchants:
            await admin.update_merchant(connection, merchant, time_zone="Pacific/Chatham")
            world.merchants[merchant] = "Pacific/Chatham"
    await all_is_exact(world)
    await world.seal()
    await all_is_exact(world)
    assert await differences(world) == []
    zones = "SELECT count(*) FROM statistics_seals WHERE time_zone = 'Pacific/Chatham'"
    assert await world.pool.fetchval(zones) == len(world.merchants)


async def test_what_a_void_undid_is_found_in_the_month_before(world: World) -> None:
    """A payment is captured in the last minutes of a month, and voided in the first of the next.
    Months have tables of their own here."""
    merchant = next(iter(world.merchants))
    turn = datetime(2023, 11, 1, tzinfo=UTC)
    async with world.pool.acquire() as connection:
        await partitions.ensure(connection, months_ahead=1, at=turn)
        await world.months.load(connection)
    life = await world.takes(merchant, "test", turn - timedelta(minutes=9), capture="manual")
    for minutes, status in ((-8, "authorized"), (-7, "captured"), (6, "voided")):
        world.now = turn + timedelta(minutes=minutes)
        await world.moves(life, status)
    at_the_end = Question(
        merchant, "test", turn + timedelta(minutes=5), turn + timedelta(minutes=7)
    )
    within = Question(merchant, "test", turn, turn + timedelta(hours=1), by_brand=True)
    for step in (world.number, world.fold):  # it is not folded, and then it is
        await step()
        for question in (at_the_end, within):
            await is_exact(world, question)
            (bucket,) = (await of(world, question)).buckets
            ((_, tally),) = bucket.tallies.items()
            assert "undone" in tally.counters


async def test_the_check_names_every_counter_that_is_wrong(world: World) -> None:
    await lived(world)
    await world.number()
    await world.fold()
    await world.seal()
    await world.happens()  # what is not folded yet is no difference
    assert await differences(world) == []
    planted = {}
    for grain, counter in (("q", "now_captured"), ("d", "sold"), ("m", "declined_minor")):
        row = await world.pool.fetchrow(
            f"UPDATE payment_counts SET {counter} = {counter} + 1 WHERE ctid = ("
            f"SELECT ctid FROM payment_counts WHERE grain = $1 AND {counter} > 0 LIMIT 1)"
            " RETURNING merchant_id, mode, start, currency, brand",
            grain,
        )
        planted[grain, counter.removesuffix("_minor")] = tuple(row)
    await world.pool.execute(
        "UPDATE decline_counts SET declines = 99 WHERE ctid = ("
        "SELECT ctid FROM decline_counts WHERE grain = 'q' AND code = 'expired_card' LIMIT 1)"
    )
    found = {
        (each.grain, each.counter): (
            *(each.merchant_id, each.mode, each.start, each.currency, each.brand),
        )
        for each in await differences(world)
    }
    assert planted.items() <= found.items()
    assert ("q", "declined expired_card") in found
    async with world.pool.acquire() as connection:
        await statistics_check.rebuild(connection)
    assert await differences(world) == []


async def test_statistics_are_counted_anew_while_events_come(world: World) -> None:
    await lived(world)
    await world.number()
    await world.fold()
    await world.seal()
    await lived(world, days=1, steps=20)
    await world.pool.execute("UPDATE payment_counts SET sold = 7, now_voided = 3")
    await world.pool.execute("DELETE FROM payment_search WHERE counted_status = 'voided'")
    async with world.pool.acquire() as connection:
        await statistics_check.rebuild(connection)
    await all_is_exact(world)
    await lived(world, days=1, steps=20)
    await world.number()
    await world.fold()
    await all_is_exact(world)
    await world.seal()
    await all_is_exact(world)
    assert await differences(world) == []


async def test_a_card_that_becomes_known_later_is_counted_as_at_first(world: World) -> None:
    await lived(world, steps=60)
    await world.number()
    await world.fold()
    await world.pool.execute("UPDATE payments SET card_brand = 'amex' WHERE card_brand IS NULL")
    await lived(world, days=2, steps=40)
    await world.number()
    await world.fold()
    assert await differences(world) == []
    brands = "SELECT DISTINCT brand FROM payment_counts WHERE brand = 'amex'"
    assert await world.pool.fetch(brands) == []


async def test_what_is_refused(world: World) -> None:
    merchant = next(iter(world.merchants))
    long = Question(merchant, "test", BEGIN, BEGIN + timedelta(days=800), "day")
    with pytest.raises(ValidationFailed, match="interval=week"):
        await statistics.of(world.pool, world.months, long)
    await world.pool.execute("UPDATE feed_head SET caught_up = false")
    with pytest.raises(StatisticsNotReady):
        await is_exact(world, Question(merchant, "test", BEGIN, BEGIN + timedelta(days=1)))


async def test_an_answer_has_so_many_totals_and_a_currency_of_its_own_has_fewer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lived(world, days=10)
    await world.number()
    await world.fold()
    merchant = next(iter(world.merchants))
    whole = Question(merchant, "test", BEGIN, BEGIN + timedelta(days=11), "day", by_brand=True)
    most = sum(len(bucket.tallies) for bucket in (await of(world, whole)).buckets) - 1
    monkeypatch.setattr(statistics, "MOST_TOTALS", most)
    with pytest.raises(ValidationFailed, match=r"interval=week.*currency=USD"):
        await of(world, whole)
    found: dict[Any, Any] = {}
    for currency in CURRENCIES:
        found |= told(await of(world, structs.replace(whole, currency=currency)))
    async with world.pool.acquire() as connection:
        assert found == await expected(connection, whole, ZONES["a"])


async def of(world: World, question: Question) -> statistics.Statistics:
    return await statistics.of(world.pool, world.months, question)


async def test_years_of_many_payments_are_few_rows(world: World) -> None:
    """Three years of days and quarters of an hour are there, and months are read."""
    merchant = next(iter(world.merchants))
    await world.pool.execute(
        "INSERT INTO payment_counts (merchant_id, mode, grain, start, currency, brand, sold)"
        " SELECT $1, 'live', 'q', at, 'USD', brand, 1"
        "   FROM generate_series('2020-01-01Z'::timestamptz, '2023-09-01Z', '3 hours') AS at,"
        "        unnest(ARRAY['visa', 'amex']) AS brand",
        merchant,
    )
    await world.seal()
    await world.pool.execute("ANALYZE payment_counts")
    since = local_start(date(2020, 3, 3), ZONES["a"]) + timedelta(minutes=30)
    until = local_start(date(2023, 8, 20), ZONES["a"]) + timedelta(hours=3)
    async with world.pool.acquire() as connection:
        read = await rows_read(
            connection, world.months, Question(merchant, "live", since, until), "payment_counts"
        )
    # 41 months, two ends of at most 30 days and 24 hours; two brands
    assert read <= 2 * (41 + 2 * 30 + 2 * 8)


async def rows_read(connection: Any, months: Any, question: Question, table: str) -> int:
    """Return how many rows of a table's index an answer reads."""

    async def fetched() -> int:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        found: int = await connection.fetchval(
            "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int FROM pg_stat_user_tables"
            " WHERE relname = $1",
            table,
        )
        return found

    before = await fetched()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await statistics.answer(connection, months, question)
    assert sum(each.counters["sold"].count for each in found.buckets[0].tallies.values()) > 10_000
    return await fetched() - before
