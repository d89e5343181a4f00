"""Months that are over: written at once with full pages, and what the report says about months."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import row_builders

from easypay import ids
from easypay.db import month_report, partitions
from easypay.db.table_sizes import payments_in, sizes
from easypay.payments import statements

JUNE = datetime(2020, 6, 1, tzinfo=UTC)
TABLES = partitions.tables_of(JUNE)


async def copy_of_a_month(connection: Any, dsn: str, payments: int) -> None:
    """Write a gateway's payments of June 2020 into tables beside the real ones."""
    begin, record = (
        row_builders.committer(statements.BEGIN, dsn),
        row_builders.committer(statements.RECORD_CHANGES, dsn),
    )
    merchant = ids.new_id()
    for n in range(payments):
        at = JUNE + timedelta(minutes=n)
        new = row_builders.new_payment(merchant, at=at)
        await begin.submit(new)
        begun = await row_builders.begun(connection, new)
        await record.submit(row_builders.approved(*begun, at=at))
    await begin.close()
    await record.close()


async def test_a_closed_month_has_full_pages_and_every_index(
    connection: Any, database: str
) -> None:
    await copy_of_a_month(connection, database, 60)  # into the default partitions

    async def move(names: Mapping[str, str]) -> None:
        assert names == TABLES
        for table, name in names.items():
            await connection.execute(f"INSERT INTO {name} SELECT * FROM {table}_default")
            await connection.execute(f"DELETE FROM {table}_default")

    before = {r["id"] for r in await connection.fetch("SELECT id FROM operations")}
    await partitions.make_closed_month(connection, JUNE + timedelta(days=9), move)
    assert {r["id"] for r in await connection.fetch("SELECT id FROM operations_2020_06")} == before
    assert await partitions.strays(connection) == dict.fromkeys(partitions.PARTITIONED, 0)
    parents = await indexes(connection, "payments", "operations", "events")
    assert await indexes(connection, *TABLES.values()) == parents
    months = partitions.Months()
    await months.load(connection)
    assert months.of(row_builders.id_at(JUNE)) == "_2020_06"
    # The status edges hold there, too.
    with pytest.raises(asyncpg.CheckViolationError, match="captured cannot become declined"):
        await connection.execute("UPDATE payments SET status = 'declined'")
    await connection.execute("VACUUM ANALYZE payments_2020_06")
    (found,) = [
        month
        for month in (await month_report.report(connection, wanted_ahead=3)).months
        if month.month == "2020_06"
    ]
    assert found.rows["payments"] == 60
    assert found.bytes["payments"] == await connection.fetchval(
        "SELECT pg_total_relation_size('payments_2020_06')"
    )
    assert found.full["payments"] is not None
    assert found.full["payments"] > 0.7
    measured = await sizes(connection)
    assert payments_in(measured) == 60
    assert measured[0].total >= measured[-1].total


async def indexes(connection: Any, *tables: str) -> list[str]:
    """Return the indexes of tables, without names."""
    rows = await connection.fetch(
        "SELECT split_part(pg_get_indexdef(indexrelid), ' USING ', 2) AS what, indisunique,"
        " indisprimary, indisvalid FROM pg_index"
        " WHERE indrelid = ANY ($1::text[]::regclass[])",
        list(tables),
    )
    return sorted(map(str, map(tuple, rows)))


async def test_a_month_that_cannot_be_filled_leaves_nothing(connection: Any) -> None:
    async def fail(names: Mapping[str, str]) -> None:
        raise RuntimeError("the file is damaged")

    with pytest.raises(RuntimeError, match="damaged"):
        await partitions.make_closed_month(connection, JUNE, fail)
    assert await connection.fetchval("SELECT to_regclass('payments_2020_06')") is None

    async def nothing(names: Mapping[str, str]) -> None:
        pass

    await partitions.make_closed_month(connection, JUNE, nothing)
    with pytest.raises(asyncpg.DuplicateTableError):
        await partitions.make_closed_month(connection, JUNE, nothing)


async def test_the_report_alarms_if_a_month_ahead_is_missing_or_rows_lie_outside(
    connection: Any, database: str
) -> None:
    whole = await month_report.report(connection, wanted_ahead=3)
    assert (whole.alarms, whole.months_ahead) == ([], 3)
    assert whole.horizon_days > 89
    nearer = await month_report.report(connection, wanted_ahead=4)
    assert [alarm[7:50] for alarm in nearer.alarms] == [
        " has no table for payments, operations, eve"
    ]
    now = await connection.fetchval("SELECT now()")
    month = partitions.month_start(now, 2)
    await connection.execute(f"DROP TABLE operations_{partitions.suffix_of(month)}")
    await copy_of_a_month(connection, database, 1)
    found = await month_report.report(connection, wanted_ahead=3)
    assert found.reach == month
    assert found.months_ahead == 1
    assert [alarm.split(":")[0] for alarm in found.alarms] == [
        f"{month:%Y_%m} has no table for operations",
        *(f"1 rows of {table} lie outside every month" for table in ("payments", "operations")),
    ]
