"""PostgreSQL goes away under load: what was acknowledged is there, and nothing happens twice."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from persistent_clients import ENDS, WAITS, Storm, all_known

from easypay.db import embedded
from easypay.db.embedded import Cluster
from harness import (
    ADMIN_KEY,
    QUICK,
    Gateway,
    Shop,
    Simulator,
    Stack,
    audit,
    migrated,
    until,
)

CLIENTS = 32
OUR_SESSIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name LIKE 'easypay%'"
)


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL that only these tests use, so that they may stop it. fsync is on."""
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


async def unrecorded(gateway: Gateway) -> int:
    """How many outcomes the gateway says it keeps in memory."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
        text = (await client.get(f"{gateway.url}/metrics")).text
    (line,) = (line for line in text.splitlines() if line.startswith("easypay_outcomes_unrec"))
    return int(float(line.split()[1]))


async def assert_nothing_lost(stack: Stack, shop: Shop, storm: Storm) -> None:
    """Every acknowledged payment is as it was acknowledged; every key has one; the books agree."""
    assert set(storm.met) <= {str(status) for status in ENDS | WAITS}, "a connection was lost"
    await all_known(stack, shop)
    said = {key: answer.json() for key, answer in storm.answered.items()}
    paid = {body["id"] for body in said.values()}
    assert len(paid) == len(said)
    listed = {payment["id"]: payment for payment in await shop.all("/payments")}
    for key, body in said.items():
        if storm.answered[key].status_code == 201:
            assert listed[body["id"]] == body
        else:
            assert listed[body["id"]]["status"] in ("captured", "failed")
    assert set(listed) == paid
    truth = await stack.simulator.truth(login=shop.login)
    assert len(truth) == sum(each["status"] == "captured" for each in listed.values())
    assert await audit(stack, shop) == []


async def test_restarts_under_load_lose_nothing(
    stack: Stack, own_cluster: Cluster, shop: Shop
) -> None:
    """Once with a polite shutdown, once as a crash: sessions cut, recovery from the log."""
    storm, calm = Storm(), asyncio.Event()
    blowing = asyncio.create_task(storm.blow(shop, clients=CLIENTS, until_stopped=calm))
    for farewell in (signal.SIGINT, signal.SIGQUIT):
        await storm.reaches(200)
        own_cluster.process.send_signal(farewell)
        await asyncio.to_thread(own_cluster.process.wait)
        own_cluster.restart()  # from this thread, which PostgreSQL is not to outlive
    await storm.reaches(200)
    calm.set()
    await blowing
    await assert_nothing_lost(stack, shop, storm)


async def test_sessions_cut_again_and_again_lose_nothing(stack: Stack, shop: Shop) -> None:
    """`pg_terminate_backend` on every session of the gateway, in the midst of its commits."""
    storm, calm = Storm(), asyncio.Event()
    blowing = asyncio.create_task(storm.blow(shop, clients=CLIENTS, until_stopped=calm))
    cut = 0
    for _ in range(8):
        await storm.reaches(50)
        cut += (await stack.fetch(OUR_SESSIONS))[0][0]
    await storm.reaches(50)
    calm.set()
    await blowing
    assert cut >= 8, "sessions were cut each time"
    await assert_nothing_lost(stack, shop, storm)


async def test_a_charge_made_while_the_database_is_away_is_recorded_when_it_is_back(
    stack: Stack, own_cluster: Cluster, gateway: Gateway, shop: Shop
) -> None:
    """Its client is told 202 in good time and the outcome is kept; new requests are told to come
    again."""
    await stack.simulator.clear_faults()
    await stack.simulator.slow(shop.login, ms=500)
    sent = asyncio.create_task(shop.pay(key="sent"))

    async def charged() -> bool:
        return bool(await stack.simulator.truth(login=shop.login))

    await until(charged)
    own_cluster.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(own_cluster.process.wait)
    try:
        asked = time.monotonic()
        refused, ready = await asyncio.gather(
            shop.pay(key="refused"), httpx.AsyncClient().get(f"{gateway.url}/readyz")
        )
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert ready.status_code == 503
        told = await sent
        assert (told.status_code, told.json()["status"]) == (202, "processing")
        assert int(told.headers["retry-after"]) >= 1
        assert time.monotonic() - asked < 10
        assert await unrecorded(gateway) == 1
    finally:
        own_cluster.restart()

    async def recorded() -> bool:
        return (await shop.pay(key="sent")).status_code == 201

    await until(recorded, what="the key's reply is the outcome's own")
    answer = await shop.pay(key="sent")
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.json()["status"] == "captured"
    assert await shop.payment(answer.json()["id"]) == answer.json()
    again = await Storm().insist("refused", lambda key: shop.pay(key=key))
    assert (again.status_code, again.json()["status"]) == (201, "captured")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []
    assert await unrecorded(gateway) == 0


async def test_a_database_that_only_reads_is_as_good_as_away(
    stack: Stack, own_cluster: Cluster, shop: Shop
) -> None:
    """After a failover to a standby: every begin is refused with 503, and none is half done."""
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
    storm = Storm()
    await asyncio.gather(
        *(storm.insist(f"stale-{n}", lambda key: shop.pay(key=key)) for n in range(5))
    )
    await assert_nothing_lost(stack, shop, storm)
