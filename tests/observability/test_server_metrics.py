"""One process reads the figures of PostgreSQL and Valkey for all, and shows them while it leads."""

import asyncio

import asyncpg

from easypay import ids
from easypay.cache.figures import numbers
from easypay.cache.url import parse
from easypay.db.pool import open_pool
from easypay.observability.metrics import Instruments
from easypay.observability.server_metrics import ServerMetrics, read_postgres
from harness import until


def shown(metrics: Instruments) -> dict[tuple[str, ...], float]:
    own = metrics.registry.cells.own()
    return {(name.removeprefix("easypay_"), *labels): cells[0]
            for (name, labels), cells in own.items()
            if name.startswith(("easypay_postgres", "easypay_valkey"))}  # fmt: skip


async def test_every_figure_is_read_by_one_and_the_next_takes_over(
    database: str, valkey_url: str
) -> None:
    pool = await open_pool(database, size=2)
    other = await asyncpg.connect(database)
    waiting = other.transaction()
    await waiting.start()
    await other.execute("LOCK TABLE merchants IN SHARE MODE")
    first, second = Instruments(), Instruments()
    leads, follows = (
        ServerMetrics(pool, metrics, every_s=60, cache=parse(valkey_url))
        for metrics in (first, second)
    )
    try:
        await leads.turn()
        await follows.turn()
        found = shown(first)
        assert {key[0] for key in found} == {
            name.removeprefix("easypay_")
            for name in first.registry.families
            if name.startswith(("easypay_postgres", "easypay_valkey"))
        }
        assert found["postgres_sessions", "idle_in_transaction"] == 1
        assert found["postgres_oldest_transaction_seconds",] > 0
        assert found["postgres_locks", "held"] >= 1
        assert found["postgres_wal_bytes_total",] > 0
        assert found["postgres_database_bytes",] > 1e6
        assert found["valkey_memory_bytes", "used"] > 0
        assert found["valkey_clients",] >= 1
        assert shown(second) == {}
        await pool.execute(
            "UPDATE leases SET leased_until = db_now() WHERE name = 'server metrics'"
        )
        await follows.turn()
        await leads.turn()
        assert shown(second)["postgres_sessions", "idle_in_transaction"] == 1
        assert shown(first)["postgres_sessions", "idle_in_transaction"] == 0, "no stale gauge"
        assert shown(first)["postgres_wal_bytes_total",] > 0, "a counter stays"
    finally:
        await waiting.rollback()
        await other.close()
        await pool.close()


async def test_a_worker_that_stops_leaves_the_figures_to_the_next_at_once(database: str) -> None:
    pool = await open_pool(database, size=2)
    first, second = Instruments(), Instruments()
    leads, follows = (
        ServerMetrics(pool, metrics, every_s=60, cache=None) for metrics in (first, second)
    )
    running = asyncio.create_task(leads.run())

    async def are_shown() -> bool:
        return bool(shown(first))

    try:
        await until(are_shown, within_s=30)
        running.cancel()
        await asyncio.wait([running])
        await follows.turn()
        assert shown(second)
    finally:
        await pool.close()


async def test_what_a_user_may_not_see_is_left_out_and_not_called_zero(database: str) -> None:
    """Without pg_monitor PostgreSQL shows no state of any replica: that is not "no replica"."""
    role = f"u{ids.new_id().hex[-12:]}"
    everything = await asyncpg.connect(database)
    await everything.execute(f"CREATE ROLE {role}")
    pool = await asyncpg.create_pool(database, min_size=1, server_settings={"role": role})
    families = Instruments().postgres
    try:
        found = {each.family.name for each in await read_postgres(pool, families)}
        assert families["wal_bytes_total"].name in found
        assert families["database_bytes"].name in found
        assert not found & {families["replicas"].name, families["replication_lag_bytes"].name}
    finally:
        await pool.close()
        await everything.execute(f"DROP ROLE {role}")
        await everything.close()


def test_keys_and_the_lag_of_replicas_are_added_up() -> None:
    found = numbers({
        "used_memory": "1024", "role": "master", "master_repl_offset": "500",
        "slave0": "ip=10.0.0.1,port=6379,state=online,offset=480,lag=0",
        "slave1": "ip=10.0.0.2,port=6379,state=online,offset=420,lag=1",
        "db0": "keys=3,expires=3,avg_ttl=0", "db1": "keys=4,expires=0,avg_ttl=0",
    })  # fmt: skip
    assert found == {
        "used_memory": 1024.0, "master_repl_offset": 500.0, "keys": 7.0, "replication_lag": 80.0,
    }  # fmt: skip
