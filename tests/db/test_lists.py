"""Lists over ten years of months: few statements, few locks, only the rows of the page."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from row_builders import id_at

from easypay import clock, ids
from easypay.db import migrate, partitions
from easypay.db.embedded import Cluster
from easypay.db.reading import Reading
from easypay.payments import lists
from easypay.payments.lists import PAYMENTS, REFUNDS, Lists, Span
from easypay.payments.model import PAYMENT_COLUMNS, payment_of
from easypay.payments.views import PAYMENT_VIEW_COLUMNS, listed_payment_views, payment_view
from harness import new_database

MONTHS = 120
ALL = uuid.UUID(int=0)
BUSY, SMALL, GONE, SPARSE = (uuid.UUID(int=n) for n in range(1, 5))
"""Merchants: payments in every month, five in this month, forty 100 months ago, one a month."""

INSERT = """
    INSERT INTO payments (merchant_id, id, mode, status, amount_minor, currency, capture,
        method_type, processor, metadata, description, created_at, updated_at)
    SELECT $1, unnest($2::uuid[]), 'test', 'declined', 2500, 'USD', 'automatic', 'card',
        'authorize_net', '{"order": "A-1"}', 'socks', now(), now()
"""
INSERT_OPERATIONS = """
    INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
        currency, reference, begun_at)
    SELECT $1, i.id, i.id, 'test', CASE WHEN i.n % 10 = 0 THEN 'refund' ELSE 'sale' END, 'approved',
        2500, 'USD', repeat('0', 20), now()
      FROM unnest($2::uuid[]) WITH ORDINALITY AS i(id, n)
"""


def back(months: int) -> Any:
    """Return the middle of the month that lies so many months back; now for this month."""
    if months == 0:
        return clock.now() - timedelta(minutes=1)
    return partitions.month_start(clock.now(), -months) + timedelta(days=14)


def several(months: int, count: int) -> list[uuid.UUID]:
    return [id_at(back(months) - timedelta(milliseconds=n)) for n in range(count)]


@pytest.fixture(scope="module")
async def ten_years(cluster: Cluster) -> tuple[str, dict[uuid.UUID, list[uuid.UUID]]]:
    """Return the DSN of a database with 120 months, and each merchant's payments, newest first."""
    dsn = await new_database(cluster.dsn, None)
    await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute("SET synchronous_commit = off")
    oldest = partitions.month_start(clock.now(), -MONTHS)
    await partitions.ensure(connection, at=oldest, months_ahead=MONTHS + 2)
    payments = {
        BUSY: [each for month in range(MONTHS) for each in several(month, 40)],
        SMALL: several(0, 5),
        GONE: several(100, 40),
        SPARSE: [each for month in range(MONTHS) for each in several(month, 1)],
    }
    for merchant, made in payments.items():
        made.sort(reverse=True)
        await connection.execute(INSERT, merchant, made)
        await connection.execute(INSERT_OPERATIONS, merchant, made)
    await connection.execute("ANALYZE")
    await connection.close()
    return dsn, payments


class Counting(Reading):
    """The connections for reading, which also keep what they ran."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, connections=1, queue=9, limit_s=4, patience_s=5)
        self.ran: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        self.ran.append((sql, arguments))
        return await super().fetch(sql, *arguments)


@pytest.fixture
async def reading(ten_years: tuple[str, Any]) -> AsyncIterator[Counting]:
    opened = Counting(ten_years[0])
    yield opened
    await opened.close()


@pytest.fixture
async def read(reading: Counting, ten_years: tuple[str, Any]) -> Lists:
    months = partitions.Months()
    connection = await asyncpg.connect(ten_years[0])
    await months.load(connection)
    await connection.close()
    return Lists(reading, months)


def span_of(merchant: uuid.UUID, *, newest_first: bool = True, floor: uuid.UUID = ALL) -> Span:
    below = ids.lowest_id_at(clock.now() + timedelta(days=1))
    return Span(merchant, "test", floor, below, newest_first)


def ids_of(rows: Sequence[Any]) -> list[uuid.UUID]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("merchant", [BUSY, SMALL, GONE, SPARSE])
async def test_following_pages_gives_every_payment_once_in_at_most_three_statements_a_page(
    read: Lists,
    reading: Counting,
    ten_years: tuple[str, Any],
    merchant: uuid.UUID,
    newest_first: bool,
) -> None:
    expected = ten_years[1][merchant][:: 1 if newest_first else -1]
    span = span_of(merchant, newest_first=newest_first)
    found: list[uuid.UUID] = []
    while page := ids_of(await read.page(PAYMENTS, span, 700)):
        assert len(reading.ran) <= 3
        reading.ran.clear()
        found += page
        span = span.continuing(page[-1])
    assert found == expected


async def test_a_span_is_cut_where_its_times_say(
    read: Lists, ten_years: tuple[str, dict[uuid.UUID, list[uuid.UUID]]]
) -> None:
    made = ten_years[1][SPARSE]
    span = Span(SPARSE, "test", made[30], made[10])
    assert ids_of(await read.page(PAYMENTS, span, 100)) == made[11:31]
    assert await read.page(PAYMENTS, Span(SPARSE, "live", ALL, made[0]), 100) == []
    assert await read.page(PAYMENTS, Span(SPARSE, "test", made[3], made[3]), 100) == []


def _literal(argument: object) -> str:
    if isinstance(argument, list):
        return f"'{{{','.join(map(str, argument))}}}'"
    return str(argument) if isinstance(argument, int) else f"'{argument}'"


async def _plan(dsn: str, sql: str, *arguments: object) -> tuple[dict[str, Any], float, int]:
    """Return a statement's plan as a reading connection has it, its planning time in milliseconds
    once it is prepared, and how many locks on tables and indexes it takes."""
    settings = {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
    }
    connection = await asyncpg.connect(dsn, server_settings=settings)
    async with connection.transaction():
        prepared = await connection.prepare(sql)
        await prepared.fetch(*arguments)
        locks = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN"
            " (SELECT oid FROM pg_class WHERE relname ~ '^(payments|operations)')"
        )
        await connection.execute(f"PREPARE page AS {sql}")
        values = ", ".join(map(_literal, arguments))
        for _ in range(2):  # the first makes the plan
            text = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page({values})"
            )
    await connection.close()
    plan = json.loads(text)[0]
    return plan["Plan"], plan["Planning Time"], locks


@pytest.mark.parametrize("merchant", [BUSY, SMALL])
async def test_the_first_page_is_one_prepared_statement_on_the_newest_months(
    read: Lists, reading: Counting, ten_years: tuple[str, Any], merchant: uuid.UUID
) -> None:
    rows = await read.page(PAYMENTS, span_of(merchant), 5)
    assert ids_of(rows) == ten_years[1][merchant][:5]
    ((sql, arguments),) = reading.ran
    plan, planning_ms, locks = await _plan(ten_years[0], sql, *arguments)
    assert locks <= 4, "two months and their primary keys"
    assert planning_ms < 0.5, "it looks the plan up"
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 12
    assert "Sort" not in json.dumps(plan), "rows come from the index in their order"
    assert "Seq Scan" not in json.dumps(plan)


async def test_a_merchant_whose_last_payment_is_old_takes_three_statements(
    read: Lists, reading: Counting, ten_years: tuple[str, Any]
) -> None:
    rows = await read.page(PAYMENTS, span_of(GONE), 21)
    assert ids_of(rows) == ten_years[1][GONE][:21]
    assert [sql.count("FROM payments_") for sql, _ in reading.ran] == [2, 12, 0]
    plan, planning_ms, _ = await _plan(ten_years[0], reading.ran[-1][0], *reading.ran[-1][1])
    assert plan["Actual Rows"] == 21
    assert planning_ms < 5
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert blocks <= 3 * MONTHS, "one look into each month's index"


async def test_a_list_ends_where_its_time_filter_ends(
    read: Lists, reading: Counting, ten_years: tuple[str, Any]
) -> None:
    """A client that says how far back it wants to look pays for no other month."""
    floor = ids.lowest_id_at(partitions.month_start(clock.now(), -1))
    rows = await read.page(PAYMENTS, span_of(GONE, floor=floor), 21)
    assert rows == []
    assert len(reading.ran) <= 2
    assert all("payments_" in sql for sql, _ in reading.ran)


async def test_the_refunds_of_all_payments_come_from_their_own_index(
    read: Lists, reading: Counting, ten_years: tuple[str, Any]
) -> None:
    rows = await read.page(REFUNDS, span_of(BUSY), 5)
    assert ids_of(rows) == ten_years[1][BUSY][9:50:10]
    sql, arguments = reading.ran[0]
    plan, _, _ = await _plan(ten_years[0], sql, *arguments)
    used = {part["Index Name"] for part in _nodes(plan) if "Index Name" in part}
    assert used
    assert all("mode_id" in name or "refunds" in name for name in used), used
    assert all(part.get("Rows Removed by Filter", 0) == 0 for part in _nodes(plan))


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", []) for node in _nodes(part))]


async def test_operations_of_many_payments_are_one_statement(
    read: Lists, reading: Counting, ten_years: tuple[str, Any]
) -> None:
    made = ten_years[1]
    for merchant, wanted in ((BUSY, made[BUSY][:30]), (SPARSE, made[SPARSE][::7])):
        reading.ran.clear()
        found = await read.operations_of(
            merchant,
            "test",
            wanted,
            kind=None,
            limit=3,
            since=min(wanted),
            until=ids.lowest_id_at(clock.now() + timedelta(days=1)),
        )
        assert len(reading.ran) == 1
        assert {payment: [each.id for each in children] for payment, children in found.items()} == {
            payment: [payment] for payment in wanted
        }


@pytest.mark.parametrize(
    ("months", "tables"),
    [
        ((3,), 1),
        ((3, 4), 2),
        ((3, 5, 6), 12),
        ((40, 41, 45, 46), 12),
        ((0, 30, 60, 119), 0),
    ],
)
async def test_rows_by_their_ids_are_one_statement_that_looks_each_of_them_up(
    read: Lists,
    reading: Counting,
    ten_years: tuple[str, Any],
    months: tuple[int, ...],
    tables: int,
) -> None:
    """However the ids are spread, no month is looked into for the id of another one."""
    wanted = [payment for month in months for payment in ten_years[1][BUSY][40 * month :][:5]]
    stranger = ten_years[1][SPARSE][months[0]]
    found = await read.by_ids(PAYMENTS, BUSY, "test", [*wanted, stranger])
    assert sorted(found) == sorted(wanted)
    ((sql, arguments),) = reading.ran
    assert sql.count("FROM payments_") == tables
    plan, planning_ms, _ = await _plan(ten_years[0], sql, *arguments)
    assert planning_ms < 5
    looked_up = len(wanted) + 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 4 * looked_up


async def test_few_different_statements_read_any_rows_by_their_ids(
    read: Lists, reading: Counting, ten_years: tuple[str, Any]
) -> None:
    """A connection keeps them prepared; planning one takes longer than running it."""
    made = ten_years[1][SPARSE]
    for start in range(MONTHS):
        for count in (3, 7, 40):
            wanted = made[start : start + count]
            assert set(await read.by_ids(PAYMENTS, SPARSE, "test", wanted)) == set(wanted)
    asked = {sql for sql, _ in reading.ran}
    neighbours = [sql for sql in asked if sql.count("FROM payments_") in (1, 2)]
    assert len(asked) - len(neighbours) <= 2 * MONTHS / 12 + 3


async def test_the_number_of_a_merchants_stream_is_looked_up_once_a_minute(
    read: Lists,
    reading: Counting,
    ten_years: tuple[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await read.stream(SMALL, "test") is None, "it has none before its first payment is found"
    connection = await asyncpg.connect(ten_years[0])
    add = "INSERT INTO streams (merchant_id, mode) VALUES ($1, $2) RETURNING stream"
    made = await connection.fetchval(add, SMALL, "test")
    assert [await read.stream(SMALL, "test") for _ in range(3)] == [made] * 3
    assert len(reading.ran) == 2
    assert await read.stream(SMALL, "live") is None
    await connection.execute("DELETE FROM streams")  # as a failover that loses commits does
    later = lists.monotonic() + 60
    monkeypatch.setattr(lists, "monotonic", lambda: later)
    assert await read.stream(SMALL, "test") is None
    await connection.close()


async def test_a_month_that_was_detached_is_read_through_the_parent(
    read: Lists, reading: Counting, ten_years: tuple[str, Any]
) -> None:
    """The gateway learns of it within the hour. Until then no row is lost or shown twice."""
    made = ten_years[1][SPARSE]
    connection = await asyncpg.connect(ten_years[0])
    name = f"payments_{partitions.month_start(clock.now(), -1):%Y_%m}"
    await connection.execute(f"ALTER TABLE {name} RENAME TO elsewhere")
    try:
        rows = await read.page(PAYMENTS, span_of(SPARSE), 20)
        assert ids_of(rows) == made[:20]
        assert set(await read.by_ids(PAYMENTS, SPARSE, "test", made[:4])) == set(made[:4])
    finally:
        await connection.execute(f"ALTER TABLE elsewhere RENAME TO {name}")
        await connection.close()


async def test_a_listed_payment_is_shown_as_a_payment_that_is_read(
    ten_years: tuple[str, Any],
) -> None:
    connection = await asyncpg.connect(ten_years[0])
    sql = "SELECT {} FROM payments WHERE merchant_id = $1 ORDER BY id LIMIT 1"
    whole = await connection.fetchrow(sql.format(PAYMENT_COLUMNS), SMALL)
    listed = await connection.fetchrow(sql.format(PAYMENT_VIEW_COLUMNS), SMALL)
    assert listed_payment_views([listed]) == [payment_view(payment_of(whole))]
    await connection.close()


async def test_totals_are_exact_up_to_a_limit(
    read: Lists, reading: Counting, ten_years: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ten_years[1][BUSY]
    counted = await read.count(PAYMENTS, span_of(BUSY), 3)
    assert counted == (len(made), True, made[2])
    assert len(reading.ran) <= 3
    monkeypatch.setattr(lists, "MOST_COUNTED", 1000)
    reading.ran.clear()
    assert await read.count(PAYMENTS, span_of(BUSY), 1000) == (1000, False, made[999])
    assert await read.count(PAYMENTS, span_of(BUSY, newest_first=False), 2) == (
        1000,
        False,
        made[-2],
    )
    assert await read.count(PAYMENTS, span_of(SMALL), 6) == (5, True, None)
