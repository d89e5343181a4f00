"""No chore can stop another chore, a start or payments."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import row_builders

from easypay import ids
from easypay.db import migrate, partitions, pool
from easypay.db.embedded import Cluster
from easypay.payments import chores, statements
from easypay.payments.chores import Chore, keep_doing
from harness import QUICK, Stack, connected, held, new_database, until

AHEAD = 3


@pytest.fixture
async def bare(cluster: Cluster) -> AsyncIterator[tuple[str, Any]]:
    """Yield the DSN of a migrated database without monthly partitions, and a connection to it."""
    dsn = await new_database(cluster.dsn, None)
    await migrate.migrate(dsn)
    async with connected(dsn) as connection:
        yield dsn, connection


def suffix(months: int) -> str:
    return f"{partitions.month_start(datetime.now(UTC), months):%Y_%m}"


async def attached(connection: Any) -> set[str]:
    found = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'payments'::regclass"
    )
    return {row[0] for row in found} - {"payments_default"}


async def test_a_stray_row_prevents_only_its_own_month(bare: tuple[str, Any]) -> None:
    """A gateway whose clock was months ahead wrote the row. A start succeeds nevertheless."""
    dsn, connection = bare
    await partitions.ensure(connection, at=datetime.now(UTC), months_ahead=1)
    begin = row_builders.committer(statements.BEGIN, dsn)
    far = partitions.month_start(datetime.now(UTC), 2) + timedelta(days=3)
    await begin.submit(row_builders.new_payment(ids.new_id(), at=far))
    await begin.close()
    with pytest.raises(partitions.MonthsMissing, match=suffix(2)):
        await partitions.ensure(connection, months_ahead=AHEAD)
    there = {f"payments_{suffix(n)}" for n in range(-1, AHEAD + 1)}
    assert await attached(connection) == there - {f"payments_{suffix(2)}"}
    await chores.make_months_at_start(connection, months_ahead=AHEAD)


async def test_a_start_without_the_present_month_fails_and_names_it(bare: tuple[str, Any]) -> None:
    dsn, connection = bare
    await partitions.ensure(connection, at=datetime.now(UTC), months_ahead=1)
    await connection.execute(
        f"ALTER TABLE payments DETACH PARTITION payments_{suffix(0)};"
        f"ALTER TABLE payments_{suffix(0)} RENAME TO payments_kept"
    )
    begin = row_builders.committer(statements.BEGIN, dsn)
    await begin.submit(row_builders.new_payment(ids.new_id()))
    await begin.close()
    with pytest.raises(partitions.MonthsMissing, match=suffix(0)):
        await chores.make_months_at_start(connection, months_ahead=AHEAD)


async def test_a_gateway_starts_while_a_dump_locks_every_table(stack: Stack) -> None:
    """pg_dump reads the default partition for hours, so next month cannot be attached."""
    last = suffix(3)
    drops = [f"DROP TABLE {table}_{last};" for table in partitions.PARTITIONED]
    dump = "LOCK TABLE payments, operations, events, idempotency_keys IN ACCESS SHARE MODE"
    async with connected(stack.dsn) as admin:
        await admin.execute("".join(drops))
        async with held(stack.dsn, dump):
            gateway = await stack.gateway(**QUICK)
            shop = await stack.shop(gateway)
            assert (await shop.pay()).status_code == 201
            assert f"payments_{last}" not in await attached(admin)
            assert '"level": "critical"' in gateway.logs()
        await partitions.ensure(admin, months_ahead=3)
        assert f"payments_{last}" in await attached(admin)


async def test_the_database_s_clock_decides_the_month(bare: tuple[str, Any]) -> None:
    """Here the database's clock shows the last minute of a year."""
    dsn, _ = bare
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": "shifted, pg_catalog, public"}
    )
    await connection.execute(
        "CREATE SCHEMA shifted;"
        "CREATE FUNCTION shifted.now() RETURNS timestamptz LANGUAGE sql AS"
        " $$ SELECT timestamptz '2031-12-31 23:59:00+00' $$"
    )
    assert not await partitions.has_present_month(connection)
    made = await partitions.ensure(connection, months_ahead=1)
    assert {name for name in made if name.startswith("payments_2")} == {
        f"payments_{month}" for month in ("2031_11", "2031_12", "2032_01")
    }
    assert await partitions.has_present_month(connection)
    # Gateway clocks hours off in either direction: each row is in the month of its id.
    begin = row_builders.committer(statements.BEGIN, dsn)
    for hours, month in ((-7, "2031_12"), (0, "2031_12"), (7, "2032_01")):
        at = datetime(2031, 12, 31, 23, 59, tzinfo=UTC) + timedelta(hours=hours)
        new = row_builders.new_payment(ids.new_id(), at=at)
        assert await begin.submit(new)
        partition = await connection.fetchval(
            "SELECT tableoid::regclass::text FROM payments WHERE id = $1", new.payment_id
        )
        assert partition == f"payments_{month}"
    assert not any((await partitions.strays(connection)).values())
    await begin.close()
    await connection.close()


async def test_a_chore_that_fails_or_hangs_stops_no_other(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chore has its own time limit and is retried."""
    monkeypatch.setattr(chores, "_AGAIN_S", 0.02)
    tried: dict[str, int] = {"fails": 0, "hangs": 0, "works": 0}

    async def fails() -> None:
        tried["fails"] += 1
        raise asyncpg.LockNotAvailableError("a locked row")

    async def hangs() -> None:
        tried["hangs"] += 1
        await asyncio.Event().wait()

    async def works() -> None:
        tried["works"] += 1

    tasks = [
        asyncio.create_task(keep_doing(Chore(name, work, every_s=0.02, limit_s=0.05)))
        for name, work in (("fails", fails), ("hangs", hangs), ("works", works))
    ]

    async def all_again() -> bool:
        return min(tried.values()) >= 3

    await until(all_again)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_chore_that_fails_does_not_stop_the_others(stack: Stack) -> None:
    """Months cannot be made because of a lock; old keys are purged nevertheless."""
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    await shop.paid(key="old")
    for days in (399, 401):
        await stack.fetch(
            "INSERT INTO customer_events (merchant_id, mode, customer_id, event_id, data)"
            " VALUES ($1, 'test', $1, lowest_id_at(now() - make_interval(days => $2)), '{}')",
            *(shop.merchant_id, days),
        )
    await stack.fetch("UPDATE idempotency_keys SET created_at = now() - interval '31 days'")
    opened = await pool.open_pool(stack.dsn, size=2)
    months = partitions.Months()
    async with held(stack.dsn, "SELECT pg_advisory_xact_lock(hashtext('easypay partitions'))"):
        done: dict[str, str] = {}
        days = {"key_days": 30, "customer_event_days": 400}
        for chore in chores.chores(opened, months, months_ahead=40, **days):
            try:
                await chore.work()
            except partitions.MonthsMissing:
                done[chore.name] = "failed"
            else:
                done[chore.name] = "done"
    assert list(done.values()) == ["failed", "done", "done", "done", "done", "done"]
    assert months.of(ids.new_id()) == f"_{suffix(0)}"
    assert await stack.fetch("SELECT 1 FROM idempotency_keys WHERE key = 'old'") == []
    assert await stack.value("SELECT count(*) FROM customer_events") == 1
    await opened.close()
