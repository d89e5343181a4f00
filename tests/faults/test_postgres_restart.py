"""PostgreSQL restarts under load: acknowledged payments are kept, and nothing happens twice."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from persistent_clients import Load, assert_nothing_lost

from easypay.db import embedded
from easypay.db.embedded import Cluster
from harness import (
    QUICK,
    Gateway,
    Shop,
    Simulator,
    Stack,
    all_known,
    audit,
    counted,
    http_client,
    migrated,
    until,
)

CLIENTS = 32
CUTS = 5
ANSWERS = 40
"""How many payments are answered before each restart; half as many before each cut."""
UNRECORDED = "easypay_outcomes_unrecorded"
OUR_SESSIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name LIKE 'easypay%'"
)


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a PostgreSQL for these tests only, so that they may stop it. fsync is on."""
    with embedded.running(tmp_path_factory.mktemp("own")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def stack(
    own_cluster: Cluster, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    await migrated(own_cluster.dsn)
    folder: Path = tmp_path_factory.mktemp("restarted")
    with Stack(own_cluster.dsn, simulator, folder) as stack:
        yield stack
    await simulator.clear_faults()


@pytest.fixture(scope="module")
async def gateway(stack: Stack) -> Gateway:
    return await stack.gateway(**QUICK)


@pytest.fixture
async def shop(stack: Stack, gateway: Gateway) -> AsyncIterator[Shop]:
    shop = await stack.shop(gateway)
    await stack.simulator.post(
        "/faults", kind="latency", distribution="uniform", ms=20, login=shop.login
    )
    yield shop
    await stack.simulator.clear_faults()
    await shop.client.aclose()


async def test_restarts_under_load_lose_nothing(
    stack: Stack, own_cluster: Cluster, shop: Shop
) -> None:
    """Once as a fast shutdown, once as a crash: sessions are cut, and the log is recovered."""
    load, stopped = Load(), asyncio.Event()
    running = asyncio.create_task(load.run(shop, clients=CLIENTS, until_stopped=stopped))
    for farewell in (signal.SIGINT, signal.SIGQUIT):
        await load.reaches(ANSWERS)
        own_cluster.process.send_signal(farewell)
        await asyncio.to_thread(own_cluster.process.wait)
        own_cluster.restart()  # from this thread, because PostgreSQL ends with it
    await load.reaches(ANSWERS)
    stopped.set()
    await running
    await assert_nothing_lost(stack, shop, load)


async def test_sessions_cut_again_and_again_lose_nothing(stack: Stack, shop: Shop) -> None:
    """Terminates every session of the gateway, repeatedly, amid its commits."""
    load, stopped = Load(), asyncio.Event()
    running = asyncio.create_task(load.run(shop, clients=CLIENTS, until_stopped=stopped))
    cut = 0
    for _ in range(CUTS):
        await load.reaches(ANSWERS // 2)
        cut += (await stack.fetch(OUR_SESSIONS))[0][0]
    await load.reaches(ANSWERS // 2)
    stopped.set()
    await running
    assert cut >= CUTS, "sessions were cut each time"
    await assert_nothing_lost(stack, shop, load)


async def test_a_charge_made_while_the_database_is_away_is_recorded_when_it_is_back(
    stack: Stack, own_cluster: Cluster, gateway: Gateway, shop: Shop
) -> None:
    """The client gets 202 in time and the outcome is kept; new requests get 503."""
    await stack.simulator.clear_faults()
    await stack.simulator.slow(shop.login, ms=500)
    sent = asyncio.create_task(shop.pay(key="sent"))

    await stack.charges(shop)
    own_cluster.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(own_cluster.process.wait)
    try:
        asked = time.monotonic()
        refused, ready = await asyncio.gather(
            shop.pay(key="refused"), http_client().get(f"{gateway.url}/readyz")
        )
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert ready.status_code == 503
        response = await sent
        assert (response.status_code, response.json()["status"]) == (202, "processing")
        assert int(response.headers["retry-after"]) >= 1
        assert time.monotonic() - asked < 10
        assert await counted(gateway.url, UNRECORDED) == 1
    finally:
        own_cluster.restart()

    async def recorded() -> bool:
        return (await shop.pay(key="sent")).status_code == 201

    await until(recorded, what="the key's reply is the recorded outcome")
    answer = await shop.pay(key="sent")
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.json()["status"] == "captured"
    assert await shop.payment(answer.json()["id"]) == answer.json()
    again = await Load().insist("refused", lambda key: shop.pay(key=key))
    assert (again.status_code, again.json()["status"]) == (201, "captured")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []
    assert await counted(gateway.url, UNRECORDED) == 0


async def test_a_read_only_database_counts_as_unavailable(
    stack: Stack, own_cluster: Cluster, shop: Shop
) -> None:
    """After a failover to a standby, every begin gets 503, and none is half done."""
    admin = await asyncpg.connect(own_cluster.dsn)
    try:
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        answers = await asyncio.gather(*(shop.pay(key=f"stale-{n}") for n in range(5)))
    finally:
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
    for answer in answers:
        assert answer.status_code in (201, 503), answer.text
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
    load = Load()
    await asyncio.gather(
        *(load.insist(f"stale-{n}", lambda key: shop.pay(key=key)) for n in range(5))
    )
    await assert_nothing_lost(stack, shop, load)
