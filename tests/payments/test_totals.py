"""Totals of pages by number are exact at any moment, or say that they are not."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from statistics_world import BEGIN, World

from easypay import clock, ids
from easypay.api import numbered_pages
from easypay.db.embedded import Cluster
from easypay.db.partitions import Months
from easypay.db.reading import Reading
from easypay.payments import lists, search, totals
from easypay.payments.lists import PAYMENTS, Lists, Span, Total
from easypay.payments.model import Status
from easypay.payments.search import Filters
from harness import QUICK, Shop, Stack, card, new_database, until

EACH = [
    Filters(),
    *(Filters(status=status) for status in Status if status not in totals._UNCOUNTED),
    Filters(currency="EUR"),
    Filters(currency="XXX"),
    *(Filters(brand=brand) for brand in ("visa", "amex")),
    Filters(status=Status.CAPTURED, currency="USD"),
    Filters(status=Status.DECLINED, brand="mastercard"),
    Filters(status=Status.CAPTURED, currency="JPY", brand="visa"),
]
NEVER = [
    Filters(status=Status.PROCESSING),
    Filters(last4="1111"),
    Filters(currency="USD", refunded=True),
]


@pytest.fixture
async def world(cluster: Cluster, template: str) -> AsyncIterator[World]:
    dsn = await new_database(cluster.dsn, template)
    quick = {"synchronous_commit": "off"}  # nothing dies here, but transactions
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4, server_settings=quick) as pool:
        made = await World(dsn, pool, 1).open({"a": "Asia/Kathmandu", "b": "America/New_York"})
        yield made
        await made.close()


def span(merchant: UUID, since: datetime | None, until: datetime, mode: str = "test") -> Span:
    floor = UUID(int=0) if since is None else ids.lowest_id_at(since)
    return Span(merchant, mode, floor, ids.lowest_id_at(until))


async def by_rows(connection: Any, filters: Filters, of: Span) -> int:
    """Count the rows that a list shows. One with filters shows no payment without an outcome."""
    found: int = await connection.fetchval(
        "SELECT count(*)::int FROM payments WHERE merchant_id = $1 AND mode = $2 AND id >= $3"
        " AND id < $4 AND ($5::text IS NULL OR status = $5)"
        " AND ($6::text IS NULL OR currency = $6) AND ($7::text IS NULL OR card_brand = $7)"
        " AND ($8 OR status <> 'processing')",
        *(of.merchant_id, of.mode, of.floor, of.below),
        *(filters.status, filters.currency, filters.brand, not filters),
    )
    return found


async def agree(connection: Any, months: Months, wanted: list[Filters], of: Span) -> list[Total]:
    """Compare totals with the rows, in one snapshot each."""
    found = []
    for filters in wanted:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            total = await totals.read(connection, months, filters, of)
            rows = await by_rows(connection, filters, of)
        assert total is not None
        assert total.number == rows if total.exact else total.number <= rows, (filters, of)
        assert total.exact or filters.brand is not None
        found.append(total)
    return found


async def have_ended(world: World) -> None:
    """Let the sweep find the calls that ended without an outcome up to now."""
    await world.pool.execute(
        "INSERT INTO unresolved_operations"
        " (merchant_id, operation_id, payment_id, since, next_inquiry_at)"
        " SELECT merchant_id, id, id, created_at, created_at FROM payments"
        "  WHERE status = 'processing' ON CONFLICT DO NOTHING"
    )
    await world.pool.execute("UPDATE sweeps SET swept_below = $1", ids.lowest_id_at(world.now))


async def test_a_total_agrees_with_the_rows_at_any_moment(world: World) -> None:
    chance = world.chance
    steps = [world.number, world.fold, world.seal, world.commit, world.happens_late]
    steps.append(world.number_and_fold)
    for turn in range(16):
        for _ in range(12):
            await world.happens()
            await world.passes(timedelta(hours=7) * chance.random() ** 2)
        await chance.choice(steps)()
        if turn % 8 == 3:
            await have_ended(world)
        since = None if chance.random() < 0.3 else BEGIN + chance.random() * (world.now - BEGIN)
        to = world.now + timedelta(days=1)
        if since is not None and chance.random() < 0.6:
            since = since.replace(minute=45, second=0, microsecond=0)
            to = since + chance.random() * (to - since)
        of = span(chance.choice([*world.merchants]), since, max(to, since or to))
        async with world.pool.acquire() as connection:
            await agree(connection, world.months, chance.sample(EACH, 5), of)
    await world.commit()
    await world.number()
    await world.fold()
    await world.seal()
    await have_ended(world)
    async with world.pool.acquire() as connection:
        for merchant in world.merchants:
            of = span(merchant, None, world.now + timedelta(days=1))
            assert (await agree(connection, world.months, EACH, of))[0].number > 10


async def test_a_brand_that_became_known_later_makes_the_total_an_estimate(world: World) -> None:
    for _ in range(60):
        await world.happens()
        await world.passes(timedelta(hours=1))
    await world.number()
    await world.fold()
    merchant = next(iter(world.merchants))
    of = span(merchant, None, world.now)
    await world.pool.execute("UPDATE payments SET card_brand = 'amex' WHERE card_brand IS NULL")
    async with world.pool.acquire() as connection:
        (found,) = await agree(connection, world.months, [Filters(brand="amex")], of)
        assert found == Total(0, False)
        await connection.execute("DELETE FROM payment_counts WHERE brand = ''")
        found = await totals.read(connection, world.months, Filters(brand="amex"), of)
        assert found == Total(0, True)  # nothing was counted without a brand


async def test_payments_of_an_archived_month_are_not_in_the_total(world: World) -> None:
    for _ in range(150):
        await world.happens()
        await world.passes(timedelta(hours=10))
    await world.number()
    await world.fold()
    await world.seal()
    await have_ended(world)
    months = [datetime(2023, month, 1, tzinfo=UTC) for month in (9, 10, 11, 12)]
    whole = span(next(iter(world.merchants)), None, world.now)
    async with world.pool.acquire() as connection:
        (before, *_) = await agree(connection, world.months, EACH, whole)
        for low, high in ((months[2], months[3]), (months[0], months[1])):
            bounds = ids.lowest_id_at(low), ids.lowest_id_at(high)
            await connection.execute("DELETE FROM payments WHERE id >= $1 AND id < $2", *bounds)
            await connection.execute("DELETE FROM events WHERE id >= $1 AND id < $2", *bounds)
            await connection.execute(
                "INSERT INTO archived_months (month, low, high, label, manifest)"
                " VALUES ($1, $2, $3, 'away', '{}')",
                *(f"{low:%Y_%m}", *bounds),
            )
            (after, *_) = await agree(connection, world.months, EACH, whole)
            assert after.number < before.number
        within = (months[2] - timedelta(days=9), months[2] + timedelta(days=9, minutes=7))
        await agree(connection, world.months, EACH, span(whole.merchant_id, *within))


async def test_what_cannot_be_told_is_none(world: World) -> None:
    of = span(next(iter(world.merchants)), None, world.now)
    for filters in NEVER:
        assert await totals.of(world.pool, world.months, filters, of) is None
    await world.pool.execute("UPDATE feed_head SET caught_up = false")
    assert await totals.of(world.pool, world.months, Filters(), of) is None


async def test_a_page_says_whether_its_total_is_exact(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(200):
        await world.happens()
        await world.passes(timedelta(hours=1))
    await world.number()
    await world.fold()
    for module in (lists, search):
        monkeypatch.setattr(module, "MOST_COUNTED", 4)
    reading = Reading(world.dsn, connections=1, queue=10, limit_s=10, patience_s=10)
    several = Lists(reading, world.months)
    of = span(next(iter(world.merchants)), None, world.now + timedelta(days=1))

    async def page(filters: Filters) -> numbered_pages.Pagination:
        source = several.source(PAYMENTS)
        if filters:
            source = search.source(several, filters)
        total = partial(totals.of, world.pool, world.months, filters)
        source = dataclasses.replace(source, total=total)
        return (await numbered_pages.read({"page": "1", "size": "3"}, source, of)).pagination

    for filters, exact in (
        (Filters(), True),
        (Filters(status=Status.CAPTURED), True),
        (Filters(currency="EUR"), True),
        (Filters(brand="visa"), False),
        (Filters(amount_from=1), False),
    ):
        found = await page(filters)
        rows = await by_rows(world.pool, filters, of)
        assert found.total_is_estimate is not exact
        assert found.total == rows if exact else 4 <= found.total <= rows, filters
        assert found.total > 4 or not exact
        assert found.pages == -(-found.total // 3)
    await reading.close()


async def test_a_total_is_exact_while_payments_run(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway, currencies=("USD", "EUR"))
    other = await stack.shop(gateway)
    await shop.paid(100)
    done = False

    async def buys(shop: Shop) -> None:
        while not done:
            await shop.pay(100, billing_address={"postal_code": "46282"})
            await shop.refund((await shop.paid(300, payment_method=card()))["id"])

    running = [asyncio.create_task(buys(each)) for each in (shop, shop, shop, other)]
    connection = await asyncpg.connect(stack.dsn)
    months = Months()
    await months.load(connection)
    of = span(shop.merchant_id, None, clock.now() + timedelta(days=1))

    async def ready() -> bool:
        return await totals.of(pool, months, Filters(), of) is not None

    async with asyncpg.create_pool(stack.dsn, min_size=1, max_size=1) as pool:
        await until(ready, what="the statistics are ready")
    for wanted in (EACH[0:3], EACH[-6:], EACH[:1]):
        await agree(connection, months, wanted, of)
    done = True
    await asyncio.gather(*running)
    found = await agree(connection, months, [Filters()], of)
    assert found[0].number > 5
    page = await shop.client.get("/payments", params={"page": "1", "status": "declined"})
    assert page.json()["pagination"]["total_is_estimate"] is False
    await connection.close()
