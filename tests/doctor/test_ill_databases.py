"""Each illness is found on a database that really has it, with its figure and what mends it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from easypay import clock, ids
from easypay.db import embedded, partitions
from easypay.doctor.examine import checks, examine
from easypay.doctor.findings import THRESHOLDS, Finding, Level, Limits, worst
from easypay.doctor.statements import kind_of
from harness import migrated, until, until_locked

AT_ONCE = {
    **THRESHOLDS,
    "long transaction, seconds": Limits(0, 600),
    "idle in transaction, seconds": Limits(0, 60),
    "waiting for a lock, seconds": Limits(0, 600),
    "oldest snapshot, seconds": Limits(0, 3_600),
    "feed behind, seconds": Limits(0.001, 3_600),
    "unused index, bytes": Limits(8_000, float("inf")),
    "bloat before it counts, bytes": Limits(100_000, 100_000),
}
"""What would take minutes or much room counts at once."""


def of(found: list[Finding], check: str) -> Finding:
    """Return the only finding of a check."""
    (only,) = [each for each in found if each.check == check]
    return only


async def keys(connection: Any, count: int) -> None:
    await connection.execute(
        "INSERT INTO idempotency_keys SELECT $1, 'live', 'key ' || n, sha256('x'), $1, $1, now()"
        " FROM generate_series(1, $2) AS n",
        ids.new_id(),
        count,
    )


async def counted(connection: Any) -> None:
    """Let the server's counts include what this connection did."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT 1")


async def test_a_healthy_database_has_no_findings(connection: Any) -> None:
    found = await examine(connection)
    assert [each for each in found if each.level] == []
    assert worst(found) == Level.OK
    assert {each.check for each in found} >= {"schema", "months", "feed", "settings", "vacuum"}


async def test_the_doctor_writes_nothing(connection: Any) -> None:
    async with connection.transaction(readonly=True):
        for check in checks(3).values():
            await check(connection, THRESHOLDS)


async def test_a_missing_month_and_rows_outside_every_month(connection: Any) -> None:
    now = await connection.fetchval("SELECT now()")
    await connection.execute(
        f"DROP TABLE {partitions.tables_of(partitions.month_start(now, 1))['events']}"
    )
    await connection.execute(
        "INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,"
        " amount_minor, currency, created_at)"
        " SELECT id, id, id, id, 'live', 'payment.captured', 'captured', 1, 'USD', now()"
        " FROM (SELECT lowest_id_at('2001-01-01Z') AS id) AS i"
    )
    found = await examine(connection)
    assert worst(found) == Level.BAD
    alarms = [each.figure for each in found if each.check == "months" and each.level]
    assert any("has no table for events" in alarm for alarm in alarms)
    assert of(found, "rows outside months").figure.startswith("1 rows of events lie outside")


async def test_a_migration_that_is_missing(connection: Any) -> None:
    await connection.execute("DELETE FROM migrations WHERE name LIKE '0006%'")
    finding = of(await examine(connection), "schema")
    assert (finding.level, finding.mend) == (Level.BAD, "easypay migrate")


async def test_indexes_that_are_unused_duplicate_missing_or_invalid(connection: Any) -> None:
    await keys(connection, 3_000)
    await connection.execute("CREATE INDEX of_reports ON idempotency_keys (fingerprint)")
    await connection.execute("CREATE INDEX twice ON operations (merchant_id, payment_id)")
    await connection.execute("DROP INDEX payment_search_card")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY one ON idempotency_keys (mode)")
    found = await examine(connection, thresholds=AT_ONCE)
    unused = {each.figure.split()[0]: each for each in found if each.check == "unused index"}
    assert unused.keys() == {"of_reports", "twice"}
    assert unused["of_reports"].level == Level.WARN
    assert "DROP INDEX of_reports" in unused["of_reports"].mend
    duplicate = of(found, "duplicate index")
    assert duplicate.figure == "twice is the beginning of operations_of_payment"
    missing = of(found, "indexes")
    assert (missing.level, missing.figure) == (
        Level.BAD,
        "payment_search_card on payment_search is missing",
    )
    assert of(found, "invalid index").level == Level.BAD
    assert of(found, "invalid index").mend == "psql -c 'REINDEX INDEX CONCURRENTLY one'"


async def test_a_bloated_index(connection: Any) -> None:
    await keys(connection, 20_000)
    await connection.execute("VACUUM ANALYZE idempotency_keys")
    assert of(await examine(connection, thresholds=AT_ONCE), "bloated index").level == Level.OK
    await connection.execute("DELETE FROM idempotency_keys WHERE right(key, 2) <> '00'")
    await connection.execute("VACUUM ANALYZE idempotency_keys")
    bloated = of(await examine(connection, thresholds=AT_ONCE), "bloated index")
    assert bloated.level == Level.BAD
    assert "REINDEX INDEX CONCURRENTLY idempotency_keys_pkey" in bloated.mend


async def test_an_old_snapshot_that_blocks_vacuum(connection: Any, other: Any) -> None:
    await keys(connection, 12_000)
    await connection.execute("ALTER TABLE idempotency_keys SET (autovacuum_enabled = off)")
    async with other.transaction(isolation="repeatable_read"):
        await other.fetchval("SELECT count(*) FROM merchants")
        await connection.execute("DELETE FROM idempotency_keys")
        await connection.execute("VACUUM idempotency_keys")
        await counted(connection)
        found = await examine(connection, thresholds=AT_ONCE)
        snapshot = of(found, "oldest snapshot")
        assert (snapshot.level, "(reports)" in snapshot.figure) == (Level.WARN, True)
        pid = await other.fetchval("SELECT pg_backend_pid()")
        assert f"pg_terminate_backend({pid})" in snapshot.mend
        (vacuum,) = [each for each in found if each.check == "vacuum"]
        assert vacuum.level == Level.BAD
        assert vacuum.figure.startswith("idempotency_keys has ")
        assert "says what it cannot remove" in vacuum.mend
        idle = of(found, "idle in transaction")
        assert (idle.level, f"(reports, pid {pid})" in idle.figure) == (Level.WARN, True)


async def test_who_blocks_whom(connection: Any, dsn: str, other: Any) -> None:
    waiting: Any = await asyncpg.connect(dsn)
    async with other.transaction():
        await other.execute("LOCK TABLE merchants IN ACCESS EXCLUSIVE MODE")
        blocked = waiting.fetchval("SELECT count(*) FROM merchants")
        task = asyncio.create_task(blocked)
        await until_locked(dsn, what="a session waits")
        finding = of(await examine(connection, thresholds=AT_ONCE), "lock waits")
        pid = await other.fetchval("SELECT pg_backend_pid()")
    assert (finding.level, finding.figure.split(", ")[1]) == (Level.WARN, f"behind pid {pid}")
    await task
    await waiting.close()


async def test_a_session_that_locks_very_many_tables(connection: Any, other: Any) -> None:
    few = {**THRESHOLDS, "locks of one session": Limits(10, 1_000)}
    async with other.transaction():
        await other.execute("LOCK TABLE payments, operations, events IN SHARE MODE")
        finding = of(await examine(connection, thresholds=few), "many locks")
    assert finding.level == Level.WARN
    assert "name its month" in finding.mend


async def test_updates_that_touch_indexes(connection: Any) -> None:
    """An index on a column that every outcome changes ends heap-only updates."""
    await connection.execute("CREATE INDEX by_state ON operations (state)")
    await connection.execute(
        "INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,"
        " currency, reference, begun_at) SELECT $1, id, id, 'live', 'sale', 'in_flight', 1, 'USD',"
        " repeat('x', 20), now() FROM unnest($2::uuid[]) AS id",
        ids.new_id(),
        [ids.new_id() for _ in range(1_500)],
    )
    await connection.execute("UPDATE operations SET state = 'approved'")
    await counted(connection)
    finding = of(await examine(connection), "heap-only updates")
    assert (finding.level, finding.figure.split(": ")[1]) == (
        Level.BAD,
        "0.0% of 1,500 updates are heap-only",
    )


async def test_a_big_table_that_is_read_whole(connection: Any) -> None:
    await keys(connection, 11_000)
    for _ in range(50):
        await connection.fetchval("SELECT count(*) FROM idempotency_keys WHERE fingerprint = 'y'")
    await counted(connection)
    finding = of(await examine(connection), "missing index")
    assert finding.level == Level.WARN
    assert finding.figure.startswith("idempotency_keys was read whole 5")


async def test_whether_the_server_logs_plans(connection: Any, dsn: str) -> None:
    off = of(await examine(connection), "plans that ran")
    assert (off.level, "auto_explain is off" in off.figure) == (Level.OK, True)
    assert "SET session_preload_libraries = 'auto_explain'" in off.mend
    assert "SET auto_explain.log_min_duration = '1s'" in off.mend
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    for setting in (
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = '7s'",
    ):
        await connection.execute(f"ALTER DATABASE {name} SET {setting}")
    logging: Any = await asyncpg.connect(dsn)
    on = of(await examine(logging), "plans that ran")
    await logging.close()
    assert (on.level, "7s or longer" in on.figure) == (Level.WARN, True)
    assert "personal data" in on.why
    assert "RESET session_preload_libraries" in on.mend


async def test_a_feed_that_nobody_leads(connection: Any) -> None:
    await connection.execute("INSERT INTO feed_months (month) VALUES ($1)", f"{clock.now():%Y_%m}")
    await connection.execute(
        "INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,"
        " amount_minor, currency, created_at)"
        " VALUES ($1, $1, $1, $1, 'live', 'payment.captured', 'captured', 1, 'USD', now())",
        ids.new_id(),
    )
    finding = of(await examine(connection, thresholds=AT_ONCE), "feed")
    assert finding.level == Level.WARN
    assert finding.figure.startswith("1 events wait for their place")
    assert "no gateway leads" in finding.figure


async def test_a_user_who_may_not_see_everything_gets_warnings(connection: Any, dsn: str) -> None:
    name = f"u{ids.new_id().hex[-12:]}"
    await connection.execute(f"CREATE ROLE {name}")
    await connection.execute(f"SET ROLE {name}")
    found = await examine(connection)
    await connection.execute("RESET ROLE")
    await connection.execute(f"DROP ROLE {name}")
    refused = [each for each in found if "could not be checked" in each.figure]
    assert refused
    assert all(each.level == Level.WARN for each in refused)


async def test_old_transaction_ids_and_a_slot_that_nobody_reads(connection: Any) -> None:
    slot = f"gone_{ids.new_id().hex[-12:]}"
    await connection.execute("SELECT pg_create_physical_replication_slot($1, true)", slot)
    await connection.execute("SELECT pg_switch_wal()")
    await connection.execute("CREATE TABLE written AS SELECT 1")
    limits = {
        **THRESHOLDS,
        "age of transaction ids, share of what stops writes": Limits(0, 1),
        "log kept for an inactive slot, bytes": Limits(1, 1e12),
    }
    found = await examine(connection, thresholds=limits)
    await connection.execute("SELECT pg_drop_replication_slot($1)", slot)
    assert "VACUUM (FREEZE, VERBOSE)" in of(found, "transaction ids").mend
    (kept,) = [each for each in found if slot in each.figure]
    assert (kept.check, kept.level) == ("replication", Level.WARN)
    assert f"pg_drop_replication_slot('{slot}')" in kept.mend


async def test_a_check_that_takes_too_long_is_cut_short(connection: Any, other: Any) -> None:
    """It waits for no lock, and the others still run."""
    async with other.transaction():
        await other.execute("LOCK TABLE feed_months IN ACCESS EXCLUSIVE MODE")
        found = await examine(connection)
    feed = of(found, "feed")
    assert (feed.level, feed.figure.startswith("could not be checked")) == (Level.WARN, True)
    assert of(found, "settings").level == Level.OK


@pytest.fixture(scope="module")
async def ill_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run a server with everything set wrong, which counts statements."""
    settings = {
        "fsync": "off",
        "full_page_writes": "off",
        "autovacuum": "off",
        "synchronous_commit": "off",
        "shared_buffers": "64MB",
        "max_connections": "20",
        "shared_preload_libraries": "pg_stat_statements",
    }
    with embedded.running(tmp_path_factory.mktemp("ill"), settings=settings) as cluster:
        await migrated(cluster.dsn)
        yield cluster.dsn


async def test_a_server_that_can_lose_payments(ill_server: str) -> None:
    connection = await asyncpg.connect(ill_server)
    others = [await asyncpg.connect(ill_server) for _ in range(14)]
    await connection.execute("CREATE EXTENSION pg_stat_statements")
    slow = "SELECT count(*) FROM generate_series(1, 100000) AS n WHERE n % 7 = 1"
    for _ in range(3):
        await connection.fetchval(slow)
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'")
    await connection.execute("SELECT pg_reload_conf()")

    async def reloaded() -> bool:
        return bool(await connection.fetchval("SHOW synchronous_standby_names"))

    await until(reloaded, what="the setting is in force")
    limits = {
        **THRESHOLDS,
        "database that is big, bytes": Limits(0, 0),
        "simple statement, ms": Limits(1, 1_000),
        "calls before a statement counts": Limits(3, 3),
    }
    found = await examine(connection, thresholds=limits)
    wrong = {each.figure: each.level for each in found if each.check == "settings"}
    assert wrong["fsync is off"] == wrong["full_page_writes is off"] == Level.BAD
    assert wrong["autovacuum is off"] == Level.BAD
    assert wrong["synchronous_commit is off"] == Level.WARN
    assert wrong["shared_buffers is 67.1 MB"] == Level.WARN
    assert of(found, "replication").level == Level.BAD
    crowded = of(found, "connections")
    assert (crowded.level, crowded.figure) == (Level.WARN, "15 of 17 in use")
    (statement, *_) = [each for each in found if each.check == "slow statements"]
    assert statement.level == Level.WARN
    assert "the target of a simple statement is 1 ms" in statement.why
    for each in (*others, connection):
        await each.close()


def test_statements_have_the_targets_of_their_kind() -> None:
    assert kind_of("SELECT * FROM payments WHERE id = $1", 1) == "simple"
    assert kind_of("SELECT status, count(*) FROM payments GROUP BY status", 5) == "complex"
    assert kind_of("WITH input AS (…) INSERT INTO events SELECT …", 64) == "batch"
    assert kind_of("UPDATE payments SET status = $1 WHERE id = $2", 1) == "simple"
