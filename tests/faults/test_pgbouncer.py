"""PgBouncer in transaction mode stands between: everything works as without it, and survives it.

It is the real PgBouncer with the configuration of docs/pgbouncer.ini. It has fewer connections to
the server than one gateway makes to it.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from persistent_clients import Load, assert_nothing_lost

from easypay.compaction import run as compaction
from easypay.db import embedded, migrate, partitions
from easypay.db.connections import Connector, Lane
from easypay.db.embedded import Cluster
from easypay.db.failures import CannotConnect
from easypay.db.lease import Lease, hold
from easypay.db.pool import open_pool
from easypay.db.pooler import PooledConnection, through_pooler
from easypay.ids import new_id
from harness import (
    QUICK,
    Gateway,
    Shop,
    Simulator,
    Stack,
    all_known,
    audit,
    connected,
    migrated,
    new_database,
    old_month,
    queued_payment,
    run_easypay,
    until,
)
from harness.pooler import PgBouncer

SERVER_CONNECTIONS = 3
SWALLOWED = "jit, synchronous_commit, idle_in_transaction_session_timeout, statement_timeout"


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a PostgreSQL for these tests only, so that they may stop it."""
    folder = tmp_path_factory.mktemp("behind")
    with embedded.running(folder, settings={"fsync": "off"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def bouncer(own_cluster: Cluster) -> AsyncIterator[PgBouncer]:
    running = PgBouncer(own_cluster, pool_size=SERVER_CONNECTIONS)
    yield await running.start()
    running.kill()


@pytest.fixture(scope="module")
async def stack(
    own_cluster: Cluster,
    bouncer: PgBouncer,
    simulator: Simulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stack]:
    await migrated(own_cluster.dsn)
    folder: Path = tmp_path_factory.mktemp("bounced")
    with Stack(own_cluster.dsn, simulator, folder) as stack:
        for _ in range(2):
            await stack.gateway(dsn=bouncer.dsn(own_cluster.dsn), **QUICK)
        yield stack
    await simulator.clear_faults()


@pytest.fixture
async def shops(stack: Stack) -> AsyncIterator[tuple[Shop, Shop]]:
    """Yield one shop as a client of each of the two gateways."""
    first, second = (each for each in stack.processes if isinstance(each, Gateway))
    shop = await stack.shop(first)
    other = shop.at(second.url)
    yield shop, other
    await stack.simulator.clear_faults()
    for each in (shop, other):
        await each.client.aclose()


async def test_two_gateways_do_all_that_they_do_without_it(
    stack: Stack, shops: tuple[Shop, Shop], own_cluster: Cluster
) -> None:
    one, other = shops
    payments = await asyncio.gather(
        *(shop.paid(capture="manual") for shop in shops for _ in range(20))
    )
    captured = await asyncio.gather(*(other.capture(each["id"]) for each in payments[:20]))
    voided = await asyncio.gather(*(one.void(each["id"]) for each in payments[20:]))
    assert {answer.status_code for answer in captured + voided} == {201}
    undone = await asyncio.gather(*(one.refund(each["id"]) for each in payments[:5]))
    assert {answer.json()["method"] for answer in undone} == {"void"}
    await stack.simulator.fault("drop_reply", one.login)
    lost = await one.pay(key="its reply is lost")
    assert (lost.status_code, lost.json()["status"]) == (202, "processing")
    await other.becomes(lost.json()["id"], "captured")
    again = await other.pay(key="its reply is lost")
    assert again.json()["id"] == lost.json()["id"]
    sessions = await stack.fetch(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'easypay%'"
    )
    assert 0 < sessions[0][0] <= SERVER_CONNECTIONS
    await all_known(stack, one)
    assert await audit(stack, one) == []
    numbered = "SELECT FROM feed_head WHERE last_seq >= $1"
    await until(lambda: stack.fetch(numbered, len(payments)), what="the feed has the events")
    await everything_is_read(stack, other, payments=len(payments) + 1)
    for gateway in stack.processes:
        assert "Traceback" not in gateway.logs()


async def everything_is_read(stack: Stack, shop: Shop, payments: int) -> None:
    """Lists of every kind, statistics, duplicates and exports, each with its own connections."""
    reader = await stack.with_key(shop, scopes=["payments:read", "payments:export"])

    async def got(path: str) -> Any:
        answer = await reader.client.get(path, headers={"accept": "*/*"})
        assert answer.status_code == 200, answer.text
        return answer

    assert len((await got("/payments?limit=100")).json()["data"]) == payments
    numbered = (await got("/payments?page=1&size=5")).json()["pagination"]
    assert (numbered["total"], numbered["total_is_estimate"]) == (payments, False)
    (total,) = (await got("/payments/stats")).json()["totals"]
    assert sum(each["count"] for each in total["statuses"].values()) == payments
    assert (await got("/payments/export")).text.splitlines()[-1].startswith(f"rows,{payments},")

    async def is_filtered() -> bool:
        found = (await got("/payments?status=voided&limit=100")).json()["data"]
        return len(found) == total["statuses"]["voided"]["count"]

    await until(is_filtered, what="the search table has every voided payment")
    await reader.client.aclose()


async def test_an_old_month_is_compacted_through_it(
    stack: Stack, bouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease, its settings and its locks hold for transactions, not for sessions. And whenever
    the process might be stopped, it holds no lock for which payments would wait."""
    plain = PooledConnection._plain
    waited: list[bool] = []

    async def stops(self: Any, method: str, query: str, *args: Any, **options: Any) -> Any:
        if query == "COMMIT":
            async with connected(stack.dsn) as payer:
                await payer.execute("SET lock_timeout = '1s'")
                try:
                    await payer.execute("INSERT INTO operations SELECT FROM operations WHERE false")
                    waited.append(False)
                except asyncpg.LockNotAvailableError:
                    waited.append(True)
        return await plain(self, method, query, *args, **options)

    monkeypatch.setattr(PooledConnection, "_plain", stops)
    month = old_month.start()
    async with connected(stack.dsn) as connection:
        await old_month.make_tables(connection, month)
        await old_month.fill(connection, month)
    dsn = bouncer.dsn(stack.dsn)
    async with compaction.connected(dsn) as working, compaction.connected(dsn) as lease:
        report = await compaction.run(
            working, lease, month=month, key_days=30, progress=lambda *_: None
        )
    assert (report.stay, report.compacted[0].operations) == ([], 60)
    assert (len(waited) > 5, any(waited)) == (True, False)
    table = partitions.tables_of(month)["operations"]
    assert await stack.value(f"SELECT count(*) FROM {table} WHERE reply_body IS NULL") == 60


async def test_an_archive_command_is_refused_and_leaves_nothing_behind(
    stack: Stack, bouncer: PgBouncer, tmp_path: Path
) -> None:
    """Its lock would stay with PgBouncer's connection, and stop all later ones and compactions."""
    to = str(tmp_path / "archive")
    environment = {**stack.env, "EASYPAY_DATABASE_URL": bouncer.dsn(stack.dsn)}
    month = f"{old_month.start(1):%Y-%m}"
    found = await asyncio.to_thread(
        run_easypay, "db", "archive", month, "--to", to, "--label", "x", **environment
    )
    takes_it = "SELECT pg_try_advisory_xact_lock(hashtext('easypay archive'))"
    assert await stack.value(takes_it), "another command can take the lock"
    assert (found.code, "connect to PostgreSQL itself" in found.err) == (1, True), found


async def test_a_killed_pgbouncer_and_a_restarted_server_lose_nothing(
    stack: Stack, shops: tuple[Shop, Shop], bouncer: PgBouncer, own_cluster: Cluster
) -> None:
    one = shops[0]
    await stack.simulator.post(
        "/faults", kind="latency", distribution="uniform", ms=20, login=one.login
    )
    load, stopped = Load(), asyncio.Event()
    running = [
        asyncio.create_task(load.run(shop, clients=8, until_stopped=stopped)) for shop in shops
    ]
    await load.reaches(40)
    bouncer.kill()
    await bouncer.start()
    await load.reaches(40)
    own_cluster.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(own_cluster.process.wait)
    own_cluster.restart()
    await load.reaches(40)
    stopped.set()
    await asyncio.gather(*running)
    await assert_nothing_lost(stack, one, load)


async def test_queued_payments_are_sent_through_it_and_survive_its_end(
    stack: Stack, shops: tuple[Shop, Shop], bouncer: PgBouncer
) -> None:
    """What a worker has claimed or begun when the connections break goes on when they are back."""
    one = shops[0]
    await stack.simulator.post(
        "/faults", kind="latency", distribution="uniform", ms=20, login=one.login
    )
    worker = stack.worker(dsn=bouncer.dsn(stack.dsn), **QUICK)
    answers = await asyncio.gather(
        *(queued_payment(stack, shop) for shop in shops for _ in range(30))
    )
    assert {answer.status_code for answer in answers} == {202}
    await stack.charges(one, 5)
    bouncer.kill()
    await bouncer.start()
    held = (await queued_payment(stack, one, capture="manual")).json()["id"]
    captured = await one.post(f"/payments/{held}/capture", {"amount": 1000}, queue=True)
    assert captured.status_code == 202, captured.text
    await stack.fetch("UPDATE queued_operations SET due_at = db_now() WHERE due_at > db_now()")
    await one.becomes(held, "captured")
    left = "SELECT NOT EXISTS (SELECT FROM queued_operations)"
    await until(lambda: stack.value(left), what="the queue is empty")
    await all_known(stack, one)
    assert await audit(stack, one) == []
    assert worker.terminate() == 0, worker.logs()
    assert "Traceback" not in worker.logs()


async def settings_of(runner: Any, *names: str) -> list[str]:
    """Return the settings that a statement of this pool, connection or lane finds."""
    return list((await runner.fetch(f"SELECT {', '.join(map(shown, names))}"))[0])


def shown(name: str) -> str:
    return f"current_setting('{name}')"


async def test_every_transaction_brings_its_settings_whatever_the_session_has(
    own_cluster: Cluster, bouncer: PgBouncer
) -> None:
    """A session that somebody else changed does not answer before the payment is on disk."""
    dsn = bouncer.dsn(await new_database(own_cluster.dsn, None))
    names = ("synchronous_commit", "jit", "statement_timeout", "lock_timeout", "plan_cache_mode")
    careless = await asyncpg.connect(dsn, statement_cache_size=0)
    await careless.execute("SET synchronous_commit = off; SET statement_timeout = '1h'")
    pool = await open_pool(dsn, size=2)
    lane = Lane(dsn, "begin 1", lambda _: f"SELECT {', '.join(map(shown, names))}", lookups=True)
    for _ in range(3):  # first a new statement, then a known one
        assert list((await lane.fetch([]))[0]) == [
            "on",
            "off",
            "3s",
            "1500ms",
            "force_generic_plan",
        ]
        assert await settings_of(pool, *names) == ["on", "off", "10s", "0", "auto"]
    async with pool.acquire() as connection, connection.transaction():
        assert await settings_of(connection, "synchronous_commit") == ["on"]
    assert await careless.fetchval("SHOW synchronous_commit") == "off", "the same session"
    assert await careless.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
    await lane.close()
    await pool.close()
    await careless.close()


async def test_a_pooler_that_swallows_settings_is_noticed_all_the_same(
    own_cluster: Cluster,
) -> None:
    lenient = PgBouncer(own_cluster, pool_size=2, ignore_startup_parameters=SWALLOWED)
    await lenient.start()
    try:
        connector = Connector(lenient.dsn(own_cluster.dsn))
        for _ in range(2):
            connection = await connector.connect(server_settings={"synchronous_commit": "on"})
            assert type(connection) is PooledConnection
            await connection.close()
    finally:
        lenient.kill()
    direct = await Connector(own_cluster.tcp_dsn).connect()
    assert not through_pooler(direct)
    await direct.close()


async def test_a_server_that_only_reads_is_refused(
    own_cluster: Cluster, bouncer: PgBouncer
) -> None:
    dsn = await new_database(own_cluster.dsn, None)
    connection = await Connector(bouncer.dsn(dsn)).connect()
    assert await connection.fetchval("SELECT 1") == 1
    admin = await asyncpg.connect(own_cluster.dsn)
    name = urlsplit(dsn).path[1:]
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
    )
    await admin.close()
    with pytest.raises(CannotConnect, match="only reads"):
        await Connector(bouncer.dsn(dsn)).connect()
    await connection.close()


async def test_a_failed_statement_leaves_the_connection_usable(
    own_cluster: Cluster, bouncer: PgBouncer
) -> None:
    dsn = bouncer.dsn(await new_database(own_cluster.dsn, None))
    pool = await open_pool(dsn, size=1)
    await pool.execute("CREATE TABLE kept (n int PRIMARY KEY)")
    for number in (1, 1, 2):
        try:
            await pool.execute("INSERT INTO kept VALUES ($1)", number)
        except asyncpg.UniqueViolationError:
            assert number == 1
    waiting = asyncio.create_task(pool.fetchval("SELECT pg_sleep(30)"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [row[0] for row in await pool.fetch("SELECT n FROM kept ORDER BY n")] == [1, 2]
    await pool.close()


async def test_migrations_and_leases_work_through_it(
    own_cluster: Cluster, bouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = "-- no-transaction\nCREATE INDEX CONCURRENTLY by_day ON merchants (created_at);\n"
    files = [*migrate.files(), ("9999_index.sql", index)]
    monkeypatch.setattr(migrate, "files", lambda: files)
    dsn = bouncer.dsn(await new_database(own_cluster.dsn, None))
    applied = await asyncio.gather(migrate.migrate(dsn), migrate.migrate(dsn))
    assert sorted(name for names in applied for name in names) == [name for name, _ in files]
    pool = await open_pool(dsn, size=4)
    mine, other = Lease("it", new_id(), 60), Lease("it", new_id(), 60)
    assert [await mine.take(pool), await other.take(pool), await mine.take(pool)] == [1, None, 1]
    async with pool.acquire() as connection, connection.transaction():
        assert await hold(connection, "it", 1)
        assert not await hold(connection, "it", 2)
    await pool.close()
