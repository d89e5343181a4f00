"""Monthly partitions: names and bounds, rows outside them, statements that read few of them."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import row_builders

from easypay import clock, ids
from easypay.db import migrate, partitions
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.payments import statements
from easypay.payments.begin import NewPayment
from easypay.payments.model import PaymentKey
from harness import QUICK, Stack, connected, new_database


@pytest.mark.parametrize(
    ("moment", "months", "start"),
    [
        ("2026-01-31T23:59:59.999Z", 1, "2026-02-01"),
        ("2026-12-31T23:59:59.999Z", 0, "2026-12-01"),
        ("2026-12-31T23:59:59.999Z", 1, "2027-01-01"),
        ("2027-01-01T00:00:00Z", -1, "2026-12-01"),
        ("2028-02-29T12:00:00Z", 12, "2029-02-01"),
        ("2026-12-31T23:30:00-05:00", 0, "2027-01-01"),
    ],
)
def test_a_month_begins_at_its_first_instant_in_utc(moment: str, months: int, start: str) -> None:
    found = partitions.month_start(datetime.fromisoformat(moment), months)
    assert found == datetime.fromisoformat(f"{start}T00:00:00Z")


async def test_the_turn_of_a_year_has_no_gap_and_no_overlap(cluster: Cluster) -> None:
    dsn = await new_database(cluster.dsn, None)
    await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    at = datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    made = await partitions.ensure(connection, at=at, months_ahead=2)
    months = ["2026_11", "2026_12", "2027_01", "2027_02"]
    expected = {
        f"{table}_{name}" for table in partitions.PARTITIONED for name in [*months, "default"]
    }
    assert set(made) == expected
    assert await partitions.ensure(connection, at=at, months_ahead=2) == []
    known = partitions.Months()
    await known.load(connection)
    # As far as there is no gap: the metric of the months ahead.
    assert known.reach(at) == datetime(2027, 3, 1, tzinfo=UTC)
    assert known.reach(at + timedelta(days=365)) == at + timedelta(days=365)
    merchant = ids.new_id()
    edges = {
        at - timedelta(days=31): "_2026_11",
        at: "_2026_12",
        at + timedelta(milliseconds=1): "_2027_01",
        datetime(2027, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC): "_2027_02",
        datetime(2027, 3, 1, tzinfo=UTC): "",
        datetime(2026, 10, 31, 23, 59, 59, 999_000, tzinfo=UTC): "",
    }
    begin = row_builders.committer(statements.BEGIN, dsn)
    for moment, month in edges.items():
        new = row_builders.new_payment(merchant, at=moment)
        assert known.of(new.payment_id) == month
        assert await begin.submit(new)
        for table, value in (("payments", new.payment_id), ("operations", new.operation_id)):
            partition = await connection.fetchval(
                f"SELECT tableoid::regclass::text FROM {table} WHERE id = $1", value
            )
            assert partition == f"{table}{month or '_default'}"
    # Two rows are outside every month: nothing is lost, and `strays` counts them.
    assert await partitions.strays(connection) == {"payments": 2, "operations": 2, "events": 0}
    await begin.close()
    await connection.close()


async def test_an_edited_migration_is_refused_and_a_failed_one_rolls_back(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await new_database(cluster.dsn, None)
    await migrate.migrate(dsn)
    real = migrate.files()
    edited = [(real[0][0], real[0][1] + "\n-- later\n"), *real[1:]]
    monkeypatch.setattr(migrate, "files", lambda: edited)
    with pytest.raises(migrate.MigrationFailed, match="was changed after it had been applied"):
        await migrate.migrate(dsn)
    broken = ("9998_broken.sql", "CREATE TABLE half (id int); SELECT 1/0;")
    monkeypatch.setattr(migrate, "files", lambda: [*real, broken])
    with pytest.raises(migrate.MigrationFailed, match=r"9998_broken\.sql"):
        await migrate.migrate(dsn)
    good = ("9999_good.sql", "CREATE TABLE whole (id int);")
    monkeypatch.setattr(migrate, "files", lambda: [*real, good])
    applied = await asyncio.gather(*(migrate.migrate(dsn) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["9999_good.sql"]]
    async with connected(dsn) as connection:
        assert await connection.fetchval("SELECT to_regclass('half')") is None


async def test_migrating_and_making_months_does_not_disturb_a_gateway(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    connection = await asyncpg.connect(stack.dsn)
    stop = asyncio.Event()
    statuses: list[int] = []

    async def trade() -> None:
        while not stop.is_set():
            statuses.append((await shop.pay()).status_code)

    async def without_rows(names: Mapping[str, str]) -> None:
        pass

    trading = [asyncio.create_task(trade()) for _ in range(4)]
    for ahead in range(4, 10):
        assert await migrate.migrate(stack.dsn) == []
        assert await partitions.ensure(connection, at=clock.now(), months_ahead=ahead)
        over = partitions.month_start(clock.now(), -ahead)
        await partitions.make_closed_month(connection, over, without_rows)
    stop.set()
    await asyncio.gather(*trading)
    assert statuses
    assert set(statuses) == {201}
    await connection.close()
    await shop.client.aclose()


# Which months a statement reads ------------------------------------------------------------------

MONTHS = 12
EACH = 250


@pytest.fixture(scope="module")
async def a_year(cluster: Cluster) -> tuple[str, list[NewPayment]]:
    """Return the DSN of a database with 13 months and more, and one begun payment a month, oldest
    first. Each month has 250 payments of five merchants; statistics are up to date.
    """
    dsn = await new_database(cluster.dsn, None)
    await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    oldest = partitions.month_start(clock.now(), -MONTHS)
    await partitions.ensure(connection, at=oldest, months_ahead=MONTHS + 2)
    merchants = [ids.new_id() for _ in range(5)]
    begin, record = (
        row_builders.committer(statements.BEGIN, dsn),
        row_builders.committer(statements.RECORD_CHANGES, dsn),
    )
    samples: list[NewPayment] = []
    for month in range(MONTHS):
        at = partitions.month_start(clock.now(), month - MONTHS) + timedelta(days=14)
        new = [
            row_builders.new_payment(merchants[n % 5], at=at + timedelta(minutes=n))
            for n in range(EACH)
        ]
        assert all(await asyncio.gather(*map(begin.submit, new)))
        changes = [
            row_builders.approved(
                *await row_builders.begun(connection, each), at=each.payment.created_at
            )
            for each in new[1:20]
        ]
        assert all(await asyncio.gather(*map(record.submit, changes)))
        samples.append(new[0])
    await connection.execute("ANALYZE")
    await begin.close()
    await record.close()
    await connection.close()
    return dsn, samples


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan that ran."""
    if plan.get("Actual Loops", 1) > 0:
        yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


async def visited(lane: Lane, arguments: Any, variant: str = "") -> tuple[set[str], set[str]]:
    """Return (monthly tables that were read, those of them read by sequential scan)."""
    answer = await lane.fetch(arguments, variant)
    ran = list(nodes(json.loads(answer[0][0])[0]["Plan"]))
    tables = {node["Relation Name"] for node in ran if "Relation Name" in node}
    whole = {node["Relation Name"] for node in ran if node["Node Type"] == "Seq Scan"}
    of_months = tuple(f"{table}_" for table in partitions.PARTITIONED)
    return (
        {table for table in tables if table.startswith(of_months)},
        {table for table in whole if table.startswith(of_months)},
    )


def explaining(dsn: str, sql: str) -> Lane:
    """Return a lane, with its session settings, that runs its statement under EXPLAIN."""
    return Lane(
        dsn,
        "explain",
        lambda variant: f"EXPLAIN (ANALYZE, FORMAT JSON) {statements.in_months(sql, variant)}",
        lookups=True,
    )


async def test_group_statements_read_only_their_own_month(
    a_year: tuple[str, list[NewPayment]],
) -> None:
    dsn, samples = a_year
    connection = await asyncpg.connect(dsn)
    old = samples[3]
    month = row_builders.month(old.payment_id)
    change = row_builders.approved(
        *await row_builders.begun(connection, old), at=old.payment.created_at
    )
    key = PaymentKey(old.merchant_id, "test", old.payment_id)
    for sql, arguments, variant, tables in (
        (statements.READ_PAYMENTS, statements.read_payments_arguments([key]), month, {"payments"}),
        (
            statements.RECORD,
            statements.record_arguments([change]),
            f"{month} {month}",
            {"payments", "operations"},
        ),
        (
            statements.BEGIN_FOLLOW_UPS,
            statements.begin_follow_ups_arguments([row_builders.refund_of(old, 100)]),
            month,
            {"payments"},
        ),
    ):
        lane = explaining(dsn, sql)
        seen, whole = await visited(lane, arguments, variant)
        assert whole == set()
        # Inserted rows name their parent table, so a plan shows only reads and updates.
        assert seen <= {f"{table}{month}" for table in (*tables, "operations", "events")}
        assert {f"{table}{month}" for table in tables} <= seen
        await lane.close()
    await connection.close()


async def test_reads_by_id_through_the_parent_read_one_month(
    a_year: tuple[str, list[NewPayment]],
) -> None:
    """Under a custom plan, which the pool's first executions and every pruned one have."""
    dsn, samples = a_year
    connection = await asyncpg.connect(dsn)
    old = samples[3]
    month = row_builders.month(old.payment_id)

    async def looked_at(sql: str, *arguments: object) -> tuple[set[str], set[str]]:
        async with connection.transaction():
            answer = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
        ran = list(nodes(json.loads(answer)[0]["Plan"]))
        tables = {n["Relation Name"] for n in ran if "Relation Name" in n}
        whole = {n["Relation Name"] for n in ran if n["Node Type"] == "Seq Scan"}
        populated = {
            f"{table}{row_builders.month(sample.payment_id)}"
            for table in partitions.PARTITIONED
            for sample in samples
        }
        return tables & populated, whole & populated

    seen, whole = await looked_at(
        "SELECT id FROM payments WHERE merchant_id = $1 AND mode = $2 AND id = $3",
        old.merchant_id,
        "test",
        old.payment_id,
    )
    assert (seen, whole) == ({f"payments{month}"}, set())
    low, high = ids.reference_bounds(old.operation.reference)
    seen, whole = await looked_at(
        "SELECT id FROM operations WHERE merchant_id = $1 AND id BETWEEN $2 AND $3",
        old.merchant_id,
        low,
        high,
    )
    assert (seen, whole) == ({f"operations{month}"}, set())
    await connection.close()
