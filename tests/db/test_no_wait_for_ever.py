"""A database that vanishes without a word, hangs, refuses or only reads: every wait has a limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from cutting_proxy import CuttingProxy
from row_builders import BROKEN, approved, begun, committer, new_payment

from easypay import ids
from easypay.clock import monotonic
from easypay.db import pool
from easypay.db.connections import Connector, Lane, one_host_each
from easypay.db.failures import CannotConnect, Failure, failure_of
from easypay.db.readiness import Readiness
from easypay.errors import DatabaseUnavailable
from easypay.observability.call_metrics import MeasuredPool
from easypay.observability.metrics import Instruments
from easypay.payments import statements
from harness import until

SOON_S = 0.4
"""A lane's limit in these tests."""
SLACK_S = 3.0
"""For a machine that has other things to do: far below what waiting for ever would be."""


# A peer that vanished ----------------------------------------------------------------------------


@pytest.mark.parametrize("after_commit", [False, True], ids=["before it arrives", "after commit"])
async def test_a_statement_whose_peer_vanished_runs_over_a_new_connection(
    proxy: CuttingProxy, connection: Any, after_commit: bool
) -> None:
    """The connection was idle, or the commit's answer never came: the work is done once."""
    begin = committer(statements.BEGIN, proxy.dsn, lanes=1, limit_s=SOON_S)
    await begin.submit(new_payment(ids.new_id()))
    assert proxy.vanish("easypay begin", after_commit=after_commit) == 1
    started = monotonic()
    new = new_payment(ids.new_id())
    assert await begin.submit(new) is not after_commit, "the second time, the key is ours already"
    assert SOON_S <= monotonic() - started < SOON_S + SLACK_S
    written = await connection.fetch("SELECT operation_id FROM idempotency_keys")
    assert [row[0] for row in written].count(new.operation_id) == 1
    assert await connection.fetchval("SELECT count(*) FROM payments") == 2
    await begin.close()


async def test_a_statement_that_waits_inside_the_server_is_found_out_too(
    proxy: CuttingProxy, connection: Any
) -> None:
    """The peer vanishes in the middle of a statement that waits for a lock."""
    begin = committer(statements.BEGIN, proxy.dsn, lanes=1, limit_s=SOON_S)
    await begin.submit(new_payment(ids.new_id()))
    async with connection.transaction():
        await connection.execute("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(begin.submit(new_payment(ids.new_id())))

        async def waits() -> bool:
            return bool(await connection.fetchval(WAITING_LANES))

        await until(waits, within_s=2)
        proxy.vanish("easypay begin")
    await task
    assert await connection.fetchval("SELECT count(*) FROM payments") == 2
    await begin.close()


WAITING_LANES = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'easypay begin%' AND wait_event_type = 'Lock'"
)


async def test_a_server_that_takes_a_connection_and_says_nothing_is_left_again(
    proxy: CuttingProxy,
) -> None:
    proxy.silent = True
    started = monotonic()
    with pytest.raises(CannotConnect, match="TimeoutError"):
        await Connector(proxy.dsn).connect(timeout=SOON_S)
    assert monotonic() - started < SOON_S + SLACK_S


async def test_a_host_that_swallows_everything_does_not_use_up_the_time_of_the_next(
    proxy: CuttingProxy, tcp_database: str
) -> None:
    """A lane and a pool with two hosts, the first of which has vanished; then they remember."""
    proxy.silent = True
    here, there = urlsplit(proxy.dsn), urlsplit(tcp_database)
    both = urlunsplit(here._replace(netloc=f"{here.netloc},{there.netloc.rpartition('@')[2]}"))
    assert one_host_each(both) == [proxy.dsn, tcp_database]
    connector = Connector(both)
    first = await connector.connect(timeout=SOON_S)
    started = monotonic()
    second = await connector.connect(timeout=SOON_S)
    assert monotonic() - started < SOON_S, "the good one is asked first now"
    for opened in (first, second):
        assert await opened.fetchval("SELECT 1") == 1
        await opened.close()


def test_hosts_may_stand_in_the_query_of_a_dsn() -> None:
    dsn = "postgresql://u:p@/shop?host=/run/a,b.example&port=5433,5434&sslmode=require"
    split = one_host_each(dsn)
    assert len(split) == 2
    assert "host=%2Frun%2Fa&port=5433" in split[0]
    assert "host=b.example&port=5434" in split[1]
    assert all("sslmode=require" in each for each in split)
    single = "postgresql://u:p%2C@[::1]:5432/shop?sslmode=require"
    assert one_host_each(single) == [single]


async def test_a_pool_drops_connections_that_do_not_answer(proxy: CuttingProxy) -> None:
    """Reads, transactions and their commits, and the goodbye."""
    opened = await pool.open_pool(proxy.dsn, size=2, answer_within_s=SOON_S)
    assert await opened.fetchval("SELECT 1") == 1
    proxy.vanish("easypay pool")
    started = monotonic()
    with pytest.raises(TimeoutError):
        await opened.fetchval("SELECT 2")
    assert monotonic() - started < SOON_S + SLACK_S
    assert await opened.fetchval("SELECT 3") == 3, "over a new connection"
    with pytest.raises((TimeoutError, asyncpg.InterfaceError)):  # noqa: PT012
        async with opened.acquire() as connection, connection.transaction():
            await connection.execute("SELECT 4")
            proxy.vanish("easypay pool")  # mid-transaction: its commit is never answered
    assert await opened.fetchval("SELECT 5") == 5
    proxy.vanish("easypay pool")
    started = monotonic()
    await opened.close()
    assert monotonic() - started < SLACK_S


async def test_a_client_does_not_wait_longer_for_the_pool_than_clients_wait(
    proxy: CuttingProxy,
) -> None:
    opened = await pool.open_pool(proxy.dsn, size=1)
    theirs = MeasuredPool(opened, Instruments()).for_clients(SOON_S)
    proxy.vanish("easypay pool")
    proxy.silent = True
    started = monotonic()
    answers = await asyncio.gather(
        *(theirs.fetchval("SELECT 1") for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, TimeoutError) for answer in answers), answers
    assert monotonic() - started < SOON_S + SLACK_S
    await opened.close()


async def test_callers_wait_no_longer_than_their_patience_and_what_queues_is_taken_out(
    proxy: CuttingProxy, connection: Any
) -> None:
    """One group is under way when the peer vanishes, the others stand in the queue."""
    left: list[Any] = []
    begin = committer(
        statements.BEGIN, proxy.dsn, lanes=1, size=2, limit_s=2 * SOON_S, patience_s=SOON_S
    )
    begin.on_left = left.append
    await begin.submit(new_payment(ids.new_id()))
    proxy.vanish("easypay begin", after_commit=True)
    new = [new_payment(ids.new_id()) for _ in range(6)]
    started = monotonic()
    answers = await asyncio.gather(*map(begin.submit, new), return_exceptions=True)
    assert SOON_S <= monotonic() - started < SOON_S + SLACK_S
    assert all(isinstance(answer, DatabaseUnavailable) for answer in answers), answers
    assert begin.waiting == 0
    told = ["nothing was written" in str(answer) for answer in answers]
    unsure = {item.operation_id for item, no in zip(new, told, strict=True) if not no}
    assert len(unsure) == 2, "only what had left may be written"

    async def ended() -> bool:
        return {item.operation_id for item in left} == unsure

    await until(ended, within_s=3, what="somebody is told of the intents that nobody waits for")
    keys = await connection.fetch("SELECT operation_id FROM idempotency_keys")
    assert {row[0] for row in keys} & {item.operation_id for item in new} == unsure
    assert await begin.submit(new_payment(ids.new_id())), "and the work goes on"
    await begin.close()


async def test_one_locked_row_holds_up_no_other_outcome(database: str, connection: Any) -> None:
    """Groups fall apart; what met the lock is tried again alone, and recorded in the end."""
    begin = committer(statements.BEGIN, database)
    record = committer(statements.RECORD_CHANGES, database, patience_s=60, limit_s=SOON_S)
    new = [new_payment(ids.new_id()) for _ in range(20)]
    await asyncio.gather(*map(begin.submit, new))
    changes = [approved(*await begun(connection, each)) for each in new]
    async with connection.transaction():
        await connection.execute(
            "SELECT 1 FROM payments WHERE id = ANY ($1) FOR UPDATE",
            [new[3].payment_id, new[4].payment_id],
        )
        locked = [asyncio.create_task(record.submit(changes[n])) for n in (3, 4)]
        rest = [record.submit(change) for n, change in enumerate(changes) if n not in (3, 4)]
        async with asyncio.timeout(6):
            assert all(await asyncio.gather(*rest))
        assert not any(task.done() for task in locked)
        # Both have met the lock by now, and are tried again: what comes now waits for neither.
        later = [new_payment(ids.new_id()) for _ in range(5)]
        await asyncio.gather(*map(begin.submit, later))
        async with asyncpg.create_pool(database, min_size=1, max_size=1) as other:
            more = [approved(*await begun(other, each)) for each in later]
        async with asyncio.timeout(3):
            assert all([await record.submit(change) for change in more])
    assert all(await asyncio.gather(*locked))
    await begin.close()
    await record.close()


# What an error means -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.DiskFullError, Failure.TEMPORARY),
        (asyncpg.OutOfMemoryError, Failure.TEMPORARY),
        (asyncpg.LockNotAvailableError, Failure.TEMPORARY),
        (asyncpg.QueryCanceledError, Failure.TEMPORARY),
        (asyncpg.DeadlockDetectedError, Failure.TEMPORARY),
        (asyncpg.SerializationError, Failure.TEMPORARY),
        (asyncpg.InsufficientPrivilegeError, Failure.TEMPORARY),
        (asyncpg.PostgresIOError, Failure.TEMPORARY),
        (asyncpg.InternalServerError, Failure.TEMPORARY),
        (asyncpg.InvalidPasswordError, Failure.GONE),
        (asyncpg.InvalidAuthorizationSpecificationError, Failure.GONE),
        (asyncpg.InvalidCatalogNameError, Failure.GONE),
        (asyncpg.TooManyConnectionsError, Failure.GONE),
        (asyncpg.AdminShutdownError, Failure.GONE),
        (asyncpg.CannotConnectNowError, Failure.GONE),
        (asyncpg.ReadOnlySQLTransactionError, Failure.GONE),
        (asyncpg.IdleInTransactionSessionTimeoutError, Failure.GONE),
        (asyncpg.InvalidCachedStatementError, Failure.GONE),
        (asyncpg.ConnectionDoesNotExistError, Failure.GONE),
        (asyncpg.InterfaceError, Failure.GONE),
        (CannotConnect, Failure.GONE),
        (TimeoutError, Failure.GONE),
        (DatabaseUnavailable, Failure.TEMPORARY),
        (asyncpg.CheckViolationError, Failure.OURS),
        (asyncpg.UniqueViolationError, Failure.OURS),
        (asyncpg.DataError, Failure.OURS),
        (asyncpg.UndefinedColumnError, Failure.OURS),
        (ValueError, Failure.OURS),
    ],
)
def test_an_error_means_gone_temporary_or_ours(error: type[Exception], meaning: Failure) -> None:
    assert failure_of(error("a message")) is meaning


async def test_a_row_that_finds_no_partition_may_find_one_later(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE months (n int) PARTITION BY RANGE (n)")
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await connection.execute("INSERT INTO months VALUES (1)")
    assert failure_of(caught.value) is Failure.TEMPORARY
    await connection.close()


# Sessions ----------------------------------------------------------------------------------------


async def test_every_session_waits_for_its_commits_whatever_the_server_would_have(
    database: str,
) -> None:
    admin = await asyncpg.connect(database)
    name = urlsplit(database).path.lstrip("/")
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert await (await asyncpg.connect(database)).fetchval("SHOW synchronous_commit") == "off"
    opened = await pool.open_pool(database, size=1)
    assert await opened.fetchval("SHOW synchronous_commit") == "on"
    lane = Lane(database, "begin 1", lambda _: "SHOW synchronous_commit", lookups=False)
    assert (await lane.fetch([]))[0][0] == "on"
    await lane.close()
    await opened.close()
    await admin.close()


@asynccontextmanager
async def only_reading(database: str) -> AsyncIterator[None]:
    """The database takes no writes in sessions that begin now."""
    name = urlsplit(database).path.lstrip("/")
    admin = await asyncpg.connect(database)
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        yield
    finally:
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await admin.close()


async def test_a_pool_connects_only_to_a_server_that_takes_writes(database: str) -> None:
    opened = await pool.open_pool(database, size=1)
    async with only_reading(database):
        with pytest.raises(DatabaseUnavailable):
            await pool.open_pool(database, size=1)
        # One that was good before, and is told: it is not handed out again.
        async with opened.acquire() as connection:
            told = connection.get_server_pid()
            await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(CannotConnect):
            await opened.fetchval("SELECT 1")
    assert await opened.fetchval("SELECT pg_backend_pid()") != told
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await opened.execute("BEGIN READ ONLY; CREATE TABLE never (n int)")
    assert await opened.execute("CREATE TABLE written (n int)") == "CREATE TABLE"
    await opened.close()


# Readiness ---------------------------------------------------------------------------------------


@asynccontextmanager
async def readiness(dsn: str) -> AsyncIterator[Readiness]:
    begin, record = committer(statements.BEGIN, dsn), committer(statements.RECORD_CHANGES, dsn)
    opened = await pool.open_pool(dsn, size=2)
    looking = Readiness(opened, [begin, record])
    try:
        yield looking
    finally:
        looking.close()
        await asyncio.gather(begin.close(), record.close(), opened.close())


async def test_readiness_is_about_writing(database: str, connection: Any) -> None:
    async with readiness(database) as ready:
        assert await ready.why_not() is None
    async with only_reading(database), readiness_of_sessions_there(database) as ready:
        assert "ReadOnly" in str(await ready.why_not())
    month = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    await connection.execute(f"ALTER TABLE events DETACH PARTITION events_{month}")
    async with readiness(database) as ready:
        assert "present month" in str(await ready.why_not())


@asynccontextmanager
async def readiness_of_sessions_there(dsn: str) -> AsyncIterator[Readiness]:
    """As where a server turns read only under connections that were good: no new one is made."""
    bare = await asyncpg.create_pool(dsn, min_size=1, max_size=1)
    ready = Readiness(bare, [])
    try:
        yield ready
    finally:
        ready.close()
        await bare.close()


async def test_an_empty_group_writes_nothing_and_is_refused_where_nothing_can_be_written(
    database: str, connection: Any
) -> None:
    """So an idle lane finds out about its own server, over its own connection."""
    begin = committer(statements.BEGIN, database, lanes=1)
    assert await begin.why_not() is None
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    await begin.close()
    reading = await asyncpg.connect(
        database, server_settings={"default_transaction_read_only": "on"}
    )
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reading.fetch(statements.BEGIN_PAYMENTS, *statements.begin_payments_arguments([]))
    await reading.close()


async def test_a_disk_that_was_full_counts_until_something_is_written(
    database: str, connection: Any
) -> None:
    begin = committer(statements.BEGIN, database, patience_s=SOON_S)
    await connection.execute(BROKEN.format(table="payments", event="INSERT"))
    with pytest.raises(DatabaseUnavailable):
        await begin.submit(new_payment(ids.new_id()))
    assert await begin.why_not() == "begin: DiskFullError"
    await connection.execute("DROP TRIGGER full_disk ON payments")
    assert await begin.submit(new_payment(ids.new_id()))
    assert await begin.why_not() is None
    await begin.close()


async def test_many_probes_are_one_look_and_one_write_at_most(database: str) -> None:
    counting = await asyncpg.connect(database)
    looks = 0

    class Counting(pool.Pool):
        def acquire(self) -> Any:
            nonlocal looks
            looks += 1
            return super().acquire()

    opened = await asyncpg.create_pool(database, min_size=1, max_size=2)
    ready = Readiness(Counting(opened), [])
    assert await asyncio.gather(*(ready.why_not() for _ in range(200))) == [None] * 200
    assert looks == 1
    written = await counting.fetchval("SELECT pg_current_wal_insert_lsn()")
    ready._good_until = 0.0
    assert await asyncio.gather(*(ready.why_not() for _ in range(200))) == [None] * 200
    assert looks == 2
    more = await counting.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", written)
    assert more < 10_000, "the second look writes nothing"
    await opened.close()
    await counting.close()


async def test_a_probe_waits_a_second_at_most(proxy: CuttingProxy) -> None:
    async with readiness(proxy.dsn) as ready:
        assert await ready.why_not() is None
        proxy.vanish()
        proxy.silent = True
        ready._good_until = 0.0
        started = monotonic()
        assert await ready.why_not() == "the database does not answer"
        assert monotonic() - started < SLACK_S
