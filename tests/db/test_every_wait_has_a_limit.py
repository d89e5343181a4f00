"""A database that vanishes, hangs, refuses or is read-only: every wait has a limit."""

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
from easypay.db import connections, pool
from easypay.db.connections import Connector, Lane, one_host_each
from easypay.db.failures import CannotConnect, ConnectionLost, Failure, failure_of
from easypay.db.readiness import Readiness
from easypay.errors import DatabaseUnavailable
from easypay.observability.call_metrics import MeasuredPool
from easypay.observability.metrics import Instruments
from easypay.payments import statements
from harness import connected, held, until, until_locked

SOON_S = 0.4
"""The time limit of a lane in these tests."""
SLACK_S = 3.0
"""Tolerance for a busy machine, far below an endless wait."""


# A peer that vanished ----------------------------------------------------------------------------


@pytest.mark.parametrize("after_commit", [False, True], ids=["before it arrives", "after commit"])
async def test_a_statement_whose_peer_vanished_is_retried_on_a_new_connection(
    proxy: CuttingProxy, connection: Any, after_commit: bool
) -> None:
    """The connection was idle, or the commit's answer was lost: the work is done once."""
    begin = committer(statements.BEGIN, proxy.dsn, lanes=1, limit_s=SOON_S)
    await begin.submit(new_payment(ids.new_id()))
    assert proxy.vanish("easypay begin", after_commit=after_commit) == 1
    started = monotonic()
    new = new_payment(ids.new_id())
    assert await begin.submit(new) is not after_commit, "once committed, our key is found"
    assert SOON_S <= monotonic() - started < SOON_S + SLACK_S
    written = await connection.fetch("SELECT operation_id FROM idempotency_keys")
    assert [row[0] for row in written].count(new.operation_id) == 1
    assert await connection.fetchval("SELECT count(*) FROM payments") == 2
    await begin.close()


async def test_a_lost_peer_is_noticed_while_a_statement_waits_for_a_lock(
    proxy: CuttingProxy, connection: Any
) -> None:
    begin = committer(statements.BEGIN, proxy.dsn, lanes=1, limit_s=SOON_S)
    await begin.submit(new_payment(ids.new_id()))
    async with held(proxy.server_dsn, "LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"):
        task = asyncio.create_task(begin.submit(new_payment(ids.new_id())))
        await until_locked(proxy.server_dsn, "easypay begin")
        proxy.vanish("easypay begin")
    await task
    assert await connection.fetchval("SELECT count(*) FROM payments") == 2
    await begin.close()


async def test_letting_go_of_a_statement_whose_peer_vanished_is_not_waited_for(
    proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg tells the server to close a statement, and sets no limit to the answer."""
    monkeypatch.setattr(connections, "_MOST_SQL", 20)
    close = asyncpg.Connection._cleanup_stmts

    async def vanishing(connection: Any) -> None:
        assert proxy.vanish("easypay kept") == 1
        await close(connection)

    monkeypatch.setattr(asyncpg.Connection, "_cleanup_stmts", vanishing)
    lane = Lane(proxy.dsn, "kept", lambda sql: sql, lookups=True, limit_s=SOON_S)
    await lane.fetch([], "SELECT 1 AS the_first")
    async with asyncio.timeout(SOON_S + SLACK_S):
        with pytest.raises(ConnectionLost):
            await lane.fetch([], "SELECT 2 AS the_second")
    assert [row[0] for row in await lane.fetch([], "SELECT 3 AS the_third")] == [3]
    await lane.close()


async def test_connecting_to_a_silent_server_times_out(proxy: CuttingProxy) -> None:
    proxy.silent = True
    started = monotonic()
    with pytest.raises(CannotConnect, match="TimeoutError"):
        await Connector(proxy.dsn).connect(timeout=SOON_S)
    assert monotonic() - started < SOON_S + SLACK_S


async def test_a_silent_host_does_not_use_up_the_time_of_the_next(
    proxy: CuttingProxy, tcp_database: str
) -> None:
    """Two hosts, the first of which has vanished: the connector then remembers the good one."""
    proxy.silent = True
    here, there = urlsplit(proxy.dsn), urlsplit(tcp_database)
    both = urlunsplit(here._replace(netloc=f"{here.netloc},{there.netloc.rpartition('@')[2]}"))
    assert one_host_each(both) == [proxy.dsn, tcp_database]
    connector = Connector(both)
    first = await connector.connect(timeout=SOON_S)
    asked = proxy.connections
    second = await connector.connect(timeout=SOON_S)
    assert proxy.connections == asked > 0, "the good host is now tried first"
    for opened in (first, second):
        assert await opened.fetchval("SELECT 1") == 1
        await opened.close()


def test_a_dsn_may_list_hosts_in_its_query() -> None:
    dsn = "postgresql://u:p@/shop?host=/run/a,b.example&port=5433,5434&sslmode=require"
    split = one_host_each(dsn)
    assert len(split) == 2
    assert "host=%2Frun%2Fa&port=5433" in split[0]
    assert "host=b.example&port=5434" in split[1]
    assert all("sslmode=require" in each for each in split)
    single = "postgresql://u:p%2C@[::1]:5432/shop?sslmode=require"
    assert one_host_each(single) == [single]


async def test_a_pool_drops_connections_that_do_not_answer(proxy: CuttingProxy) -> None:
    """In reads, in transactions and their commits, and when closing."""
    opened = await pool.open_pool(proxy.dsn, size=2, answer_within_s=SOON_S)
    assert await opened.fetchval("SELECT 1") == 1
    proxy.vanish("easypay pool")
    started = monotonic()
    with pytest.raises(TimeoutError):
        await opened.fetchval("SELECT 2")
    assert monotonic() - started < SOON_S + SLACK_S
    assert await opened.fetchval("SELECT 3") == 3, "on a new connection"
    with pytest.raises((TimeoutError, asyncpg.InterfaceError)):  # noqa: PT012
        async with opened.acquire() as connection, connection.transaction():
            await connection.execute("SELECT 4")
            proxy.vanish("easypay pool")  # in mid-transaction: its commit gets no answer
    assert await opened.fetchval("SELECT 5") == 5
    proxy.vanish("easypay pool")
    started = monotonic()
    await opened.close()
    assert monotonic() - started < SLACK_S


async def test_the_pool_refuses_waiting_clients_after_their_patience(proxy: CuttingProxy) -> None:
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


async def test_callers_wait_no_longer_than_their_patience_and_their_queued_items_are_removed(
    proxy: CuttingProxy, connection: Any
) -> None:
    """One group is running when the peer vanishes; the other items are queued."""
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
    unwritten = ["nothing was written" in str(answer) for answer in answers]
    unsure = {item.operation_id for item, no in zip(new, unwritten, strict=True) if not no}
    assert len(unsure) == 2, "only items already sent may have been written"

    async def ended() -> bool:
        return {item.operation_id for item in left} == unsure

    await until(ended, what="on_left is called for each intent without a caller")
    keys = await connection.fetch("SELECT operation_id FROM idempotency_keys")
    assert {row[0] for row in keys} & {item.operation_id for item in new} == unsure
    assert await begin.submit(new_payment(ids.new_id())), "the committer still works"
    await begin.close()


async def test_a_locked_row_delays_no_other_outcome(database: str, connection: Any) -> None:
    """Its group is split; the item that met the lock is retried alone, and finally recorded."""
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
        # Both have met the lock by now and are retried; later items wait for neither.
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
def test_an_error_is_gone_temporary_or_ours(error: type[Exception], meaning: Failure) -> None:
    assert failure_of(error("a message")) is meaning


async def test_a_row_without_a_partition_may_find_one_later(database: str) -> None:
    async with connected(database) as connection:
        await connection.execute("CREATE TABLE months (n int) PARTITION BY RANGE (n)")
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await connection.execute("INSERT INTO months VALUES (1)")
        assert failure_of(caught.value) is Failure.TEMPORARY


# Sessions ----------------------------------------------------------------------------------------


async def test_every_session_waits_for_its_commits_whatever_the_server_s_default(
    database: str,
) -> None:
    name = urlsplit(database).path.lstrip("/")
    async with connected(database) as admin:
        await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with connected(database) as usual:
        assert await usual.fetchval("SHOW synchronous_commit") == "off"
    opened = await pool.open_pool(database, size=1)
    assert await opened.fetchval("SHOW synchronous_commit") == "on"
    lane = Lane(database, "begin 1", lambda _: "SHOW synchronous_commit", lookups=False)
    assert (await lane.fetch([]))[0][0] == "on"
    await lane.close()
    await opened.close()


@asynccontextmanager
async def only_reading(database: str) -> AsyncIterator[None]:
    """Make new sessions on this database read-only, for the length of a block."""
    name = urlsplit(database).path.lstrip("/")
    admin = await asyncpg.connect(database)
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        yield
    finally:
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await admin.close()


async def test_a_pool_connects_only_to_a_writable_server(database: str) -> None:
    opened = await pool.open_pool(database, size=1)
    async with only_reading(database):
        with pytest.raises(DatabaseUnavailable):
            await pool.open_pool(database, size=1)
        # A connection that was writable before is refused and dropped, not handed out again.
        async with opened.acquire() as connection:
            dropped = connection.get_server_pid()
            await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(CannotConnect):
            await opened.fetchval("SELECT 1")
    assert await opened.fetchval("SELECT pg_backend_pid()") != dropped
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


async def test_readiness_requires_a_writable_database(database: str, connection: Any) -> None:
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
    """Yield a readiness check whose existing connection stays when the server turns read-only."""
    bare = await asyncpg.create_pool(dsn, min_size=1, max_size=1)
    ready = Readiness(bare, [])
    try:
        yield ready
    finally:
        ready.close()
        await bare.close()


async def test_an_empty_group_writes_nothing_and_fails_on_a_read_only_server(
    database: str, connection: Any
) -> None:
    """So an idle lane can check its own server over its own connection."""
    begin = committer(statements.BEGIN, database, lanes=1)
    assert await begin.why_not() is None
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    await begin.close()
    async with only_reading(database), connected(database) as reading:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reading.fetch(statements.BEGIN_PAYMENTS, *statements.begin_payments_arguments([]))


async def test_a_full_disk_is_reported_until_a_write_succeeds(
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


async def test_concurrent_probes_share_one_check(database: str) -> None:
    counting = await asyncpg.connect(database)
    checks = 0

    class Counting(pool.Pool):
        def acquire(self) -> Any:
            nonlocal checks
            checks += 1
            return super().acquire()

    opened = await asyncpg.create_pool(database, min_size=1, max_size=2)
    ready = Readiness(Counting(opened), [])
    assert await asyncio.gather(*(ready.why_not() for _ in range(200))) == [None] * 200
    assert checks == 1

    async def written_by_another_check() -> int:
        before = await counting.fetchval("SELECT pg_current_wal_insert_lsn()")
        ready._good_until = 0.0
        assert await asyncio.gather(*(ready.why_not() for _ in range(200))) == [None] * 200
        return int(
            await counting.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)
        )

    # Other databases of the server write to the log too, so the least of a few counts.
    written = [await written_by_another_check() for _ in range(3)]
    assert checks == 4
    assert min(written) < 10_000, "only the first check writes"
    await opened.close()
    await counting.close()


async def test_a_probe_waits_at_most_a_second(proxy: CuttingProxy) -> None:
    async with readiness(proxy.dsn) as ready:
        assert await ready.why_not() is None
        proxy.vanish()
        proxy.silent = True
        ready._good_until = 0.0
        started = monotonic()
        assert await ready.why_not() == "the database does not answer"
        assert monotonic() - started < SLACK_S
