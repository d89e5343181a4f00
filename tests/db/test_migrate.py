"""Migrations: two at once, one that is killed, and files that run without a transaction."""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from easypay.db import migrate
from easypay.db.embedded import Cluster
from harness import new_database, until
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
