"""Migrations: two at once, one that is killed, and files that run without a transaction."""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from easypay.db import migrate
from easypay.db.embedded import Cluster
from easypay.settlement import settling
from harness import connected, new_database, until, until_locked
from harness.forks import start_logged

INDEX = """-- no-transaction
CREATE INDEX CONCURRENTLY merchants_by_day ON merchants (created_at);
COMMENT ON INDEX merchants_by_day IS 'made by a file without a transaction';
"""


@pytest.fixture
async def empty(cluster: Cluster) -> str:
    """Return the DSN of a database without a schema."""
    return await new_database(cluster.dsn, None)


async def test_a_killed_migration_leaves_nothing_locked_and_the_next_one_goes_on(
    empty: str, tmp_path: Path
) -> None:
    connection, watching = await asyncpg.connect(empty), await asyncpg.connect(empty)
    # An open CREATE TABLE of the same name makes the migration wait in the middle of its file.
    in_the_way = connection.transaction()
    await in_the_way.start()
    await connection.execute("CREATE TABLE merchants (name text)")
    environment = os.environ | {"EASYPAY_DATABASE_URL": empty}
    stuck = start_logged(["easypay", "migrate"], environment, tmp_path / "migrate.log")
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'easypay migrate' AND wait_event_type = 'Lock'"
    )
    await until(lambda: watching.fetchval(waits), what="the migration waits")
    second = asyncio.create_task(migrate.migrate(empty))
    stuck.kill()
    stuck.wait()
    await in_the_way.rollback()
    assert await second == [name for name, _ in migrate.files()]
    assert await migrate.migrate(empty) == []
    await connection.close()
    await watching.close()


async def test_sums_of_settlements_are_made_beside_one_who_tells_payments(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has locked what it tells, and writes it when the migration has begun."""
    files = migrate.files()
    monkeypatch.setattr(migrate, "files", lambda: [each for each in files if each[0] < "0040"])
    await migrate.migrate(empty)
    monkeypatch.undo()
    async with connected(empty) as telling, connected(empty) as watching:
        await telling.execute(
            "INSERT INTO settled_transactions (account, batch_id, transaction_id, kind, status,"
            "    amount_minor, currency, settled_at, merchant_id, mode, payment_id, operation_id)"
            " SELECT 'x', 'b', n::text, 'charge', 'settledSuccessfully', 100, 'USD', now(),"
            "    gen_random_uuid(), 'live', gen_random_uuid(), gen_random_uuid()"
            "   FROM generate_series(1, 5) AS n"
        )
        async with telling.transaction():
            due = await telling.fetch(settling.DUE, b"x", "", "", 500)
            migrating = asyncio.create_task(migrate.migrate(empty))
            await until_locked(empty, "easypay migrate", what="the migration waits")
            told = [["b"] * 5, [row["transaction_id"] for row in due], ["settled"] * 5]
            await telling.execute(settling._TOLD, b"x", *told)
        assert (await migrating)[0] == "0040_settlement_sums.sql"
        sql = "SELECT sum(transactions), sum(amount_minor) FROM settlement_sums"
        assert tuple(await watching.fetchrow(sql)) == (5, 500)
        assert await watching.fetchval("SELECT to_regclass('settled_transactions_day')") is None


async def test_a_file_without_a_transaction_is_applied_once_by_many(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*migrate.files(), ("9999_index.sql", INDEX)]
    monkeypatch.setattr(migrate, "files", lambda: files)
    applied = await asyncio.gather(*(migrate.migrate(empty) for _ in range(3)))
    assert sorted(name for names in applied for name in names) == [name for name, _ in files]
    connection = await asyncpg.connect(empty)
    assert await connection.fetchval(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'merchants_by_day'::regclass"
    )
    await connection.close()
