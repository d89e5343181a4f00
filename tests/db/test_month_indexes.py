"""A new index on months that exist: built for each while payments are taken, resumed if stopped."""

import asyncio
from typing import Any

import asyncpg
import pytest
from row_builders import committer, new_payment

from easypay import clock, ids
from easypay.db import migrate, month_indexes, partitions
from easypay.db.embedded import Cluster
from easypay.payments import statements
from harness import new_database

INDEX = "0008_refunds_index.sql"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'operations_refunds'::regclass"
MISSING = """
    SELECT count(*) FROM pg_inherits m WHERE m.inhparent = 'operations'::regclass
       AND NOT EXISTS (SELECT FROM pg_inherits a JOIN pg_index x ON x.indexrelid = a.inhrelid
                        WHERE a.inhparent = 'operations_refunds'::regclass
                          AND x.indrelid = m.inhrelid AND x.indisvalid)
"""


@pytest.fixture
async def before(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """Return a database with months that has all but the index, and a connection to it."""
    dsn = await new_database(cluster.dsn, None)
    whole = migrate.files()
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "files", lambda: [file for file in whole if file[0] != INDEX])
        await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    await partitions.ensure(connection, months_ahead=3)
    return dsn, connection


async def test_months_get_the_index_while_payments_are_taken(before: tuple[str, Any]) -> None:
    dsn, connection = before
    begin = committer(statements.BEGIN, dsn)
    merchant = ids.new_id()
    done = asyncio.Event()

    async def take() -> int:
        taken = 0
        while not done.is_set():
            taken += await begin.submit(new_payment(merchant))
        return taken

    taking = asyncio.create_task(take())
    assert INDEX in await migrate.migrate(dsn)
    done.set()
    assert await taking > 0
    assert await connection.fetchval(MISSING) == 0
    assert await connection.fetchval(VALID)
    await begin.close()
    await connection.close()


async def test_an_interrupted_build_goes_on_where_it_stopped(
    before: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that does not end holds up the build of one month; the next run completes it."""
    dsn, connection = before
    with monkeypatch.context() as patched:  # leave the months to this test
        patched.setattr(month_indexes, "_UNFINISHED", "SELECT WHERE false")
        assert INDEX in await migrate.migrate(dsn)
    writer = await asyncpg.connect(dsn)
    transaction = writer.transaction()
    await transaction.start()
    month = partitions.month_start(clock.now())
    await writer.execute(f"LOCK TABLE operations_{month:%Y_%m} IN ROW EXCLUSIVE MODE")
    await connection.execute("SET lock_timeout = '200ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await month_indexes.finish(connection)
    assert 0 < await connection.fetchval(MISSING) < 6
    assert not await connection.fetchval(VALID)
    await transaction.rollback()
    await writer.close()
    assert await migrate.migrate(dsn) == [], "only the index was left"
    assert await connection.fetchval(MISSING) == 0
    assert await connection.fetchval(VALID)
    # A later month gets it when it is made.
    made = await partitions.ensure(connection, months_ahead=4)
    assert len(made) == 3
    assert await connection.fetchval(MISSING) == 0
    await connection.close()
