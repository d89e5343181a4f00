"""A database that vanishes, refuses or cannot write: clients get 503 or 202 in time, no outcome
is lost, and an intent that no client waits for is withdrawn."""

import asyncio
import os
import re
import signal
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
from cutting_proxy import CuttingProxy
from row_builders import BROKEN

from easypay.db.embedded import Cluster
from harness import (
    QUICK,
    SHARED,
    Gateway,
    Shop,
    Stack,
    all_known,
    audit,
    connected,
    held,
    http_client,
    payment_uuid,
    until,
    until_locked,
    with_database,
)

HASTY = (
    QUICK
    | SHARED
    | {
        "database_patience_s": "1.0",
        "record_patience_s": "0.6",
        "processor_deadline_s": "2.5",  # a busy machine must not make an answer late
    }
)
PATIENCE_S = 1.0
SLACK_S = 4.0
"""Tolerance for a busy machine."""


def refused(answer: httpx.Response) -> bool:
    """Return whether this is the 503 for an unavailable database, with a Retry-After."""
    return (
        answer.status_code == 503
        and answer.json()["code"] == "database_unavailable"
        and int(answer.headers["retry-after"]) >= 1
    )


async def gateway_over(stack: Stack, dsn: str, **settings: str) -> Gateway:
    """Start a gateway that reaches the stack's database under this DSN."""
    return await stack.gateway(dsn=dsn, **HASTY | settings)


async def in_flight(stack: Stack, shop: Shop, key: str) -> "asyncio.Task[httpx.Response]":
    """Start a charge; return once the processor has made it, with its reply still on its way."""
    before = len(await stack.simulator.truth(login=shop.login))
    await stack.simulator.slow(shop.login, ms=300)
    task = asyncio.create_task(shop.pay(key=key))
    await stack.charges(shop, before + 1)
    return task


async def test_a_vanished_database_delays_nobody_and_shutdown_logs_unrecorded_outcomes(
    stack: Stack, stack_proxy: CuttingProxy
) -> None:
    """Connections stay open and silent, and new ones are never answered."""
    proxy = stack_proxy
    gateway = await gateway_over(stack, proxy.dsn, shutdown_grace_s="1.0")
    shop = await stack.shop(gateway)
    known = await shop.paid()
    charged = await in_flight(stack, shop, "charged")
    proxy.vanish()
    proxy.silent = True
    started = time.monotonic()
    async with http_client() as client:
        begin, read, page, refund, response = await asyncio.gather(
            shop.pay(key="meanwhile"),
            shop.client.get(f"/payments/{known['id']}"),
            shop.client.get("/payments"),
            shop.refund(known["id"]),
            charged,
        )
        ready = await client.get(f"{gateway.url}/readyz")
    assert time.monotonic() - started < PATIENCE_S + SLACK_S
    assert all(map(refused, (begin, read, page, refund))), (begin.text, read.text, page.text)
    assert (ready.status_code, response.status_code) == (503, 202)
    assert response.json()["status"] == "processing"

    started = time.monotonic()
    assert await asyncio.to_thread(gateway.terminate) == 0
    assert time.monotonic() - started < 1.3 + SLACK_S
    (operation,) = await stack.fetch(
        "SELECT reference, state FROM operations WHERE payment_id = $1",
        payment_uuid(response.json()["id"]),
    )
    (row,) = await stack.simulator.truth(login=shop.login, invoice_number=operation["reference"])
    assert operation["state"] == "in_flight"
    (logged,) = [line for line in gateway.logs().splitlines() if '"unrecorded: ' in line]
    assert operation["reference"] in logged
    assert row["trans_id"] in logged

    again = await stack.gateway(**HASTY)
    shop = shop.at(again.url)
    await all_known(stack, shop, within_s=30)
    assert (await shop.payment(response.json()["id"]))["status"] == "captured"
    assert await audit(stack, shop) == []


async def test_an_idle_gateway_without_its_database_stops_before_its_grace_ends(
    stack: Stack, stack_proxy: CuttingProxy
) -> None:
    proxy = stack_proxy
    gateway = await gateway_over(stack, proxy.dsn, shutdown_grace_s="15.0")
    await stack.shop(gateway)
    proxy.vanish()
    proxy.silent = True
    started = time.monotonic()
    assert await asyncio.to_thread(gateway.terminate) == 0
    assert time.monotonic() - started < 1.3 + SLACK_S


async def test_an_intent_that_no_client_waits_for_is_withdrawn_and_its_key_can_pay(
    stack: Stack, stack_proxy: CuttingProxy
) -> None:
    """The commit's answer is lost, no new connection succeeds, and the client gets 503."""
    proxy = stack_proxy
    gateway = await gateway_over(stack, proxy.dsn, unknown_absent_after_s="600")
    shop = await stack.shop(gateway)
    await shop.paid()
    assert proxy.vanish("easypay begin", after_commit=True) == 2
    proxy.silent = True
    assert refused(await shop.pay(key="again"))
    (written,) = await stack.fetch(
        "SELECT o.state FROM operations o JOIN idempotency_keys k ON k.operation_id = o.id"
        " WHERE k.key = 'again'"
    )
    assert written["state"] == "in_flight"
    proxy.silent = False

    async def paid() -> bool:
        answer = await shop.pay(key="again")
        assert answer.status_code in (201, 409, 503), answer.text
        return answer.status_code == 201

    await until(paid, what="the same key pays, long before an inquiry would end it")
    assert len(await stack.simulator.truth(login=shop.login)) == 2
    assert await audit(stack, shop) == []


async def test_refused_connections_are_not_logged_as_a_bug(stack: Stack, cluster: Cluster) -> None:
    """The database refuses all connections; then the password changes. It recovers from both."""
    admin = await asyncpg.connect(cluster.dsn)
    name = urlsplit(stack.dsn).path.lstrip("/")
    role = f"shop_{name}"
    await admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'sesame'")
    parts = urlsplit(with_database(cluster.tcp_dsn, name))
    at = parts.netloc.rpartition("@")[2]
    dsn = urlunsplit(parts._replace(netloc=f"{role}:sesame@{at}"))
    gateway = await gateway_over(stack, dsn)
    shop = await stack.shop(gateway)
    known = await shop.paid()

    async def end_sessions() -> None:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
        )

    async def refuses(key: str) -> None:
        charged = await in_flight(stack, shop, f"charged {key}")
        await end_sessions()
        answers = await asyncio.gather(
            shop.pay(key=key),
            shop.client.get(f"/payments/{known['id']}"),
            shop.client.get("/payments"),
            shop.client.get("/idempotency-keys/none"),
        )
        assert all(map(refused, answers)), [answer.text for answer in answers]
        for answer in answers:  # those that read have no Idempotency-Key
            assert "with the same Idempotency-Key if it has one" in answer.json()["detail"]
        assert (await charged).status_code == 202, "the outcome is kept in memory"

    async def pays(key: str) -> None:
        async def paid() -> bool:
            answers = [await shop.pay(key=each) for each in (key, f"charged {key}")]
            return [answer.status_code for answer in answers] == [201, 201]

        await until(paid, what="each key has its outcome once the database is back")

    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await refuses("locked out")
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await pays("locked out")
        await admin.execute(f"ALTER ROLE {role} PASSWORD 'second'")
        await refuses("password")
        await admin.execute(f"ALTER ROLE {role} PASSWORD 'sesame'")
        await pays("password")
        assert await audit(stack, shop) == []
        assert not re.search(r"request \w+ failed", gateway.logs())
        assert "sesame" not in gateway.logs()
    finally:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        gateway.kill()
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()


async def test_a_decline_that_cannot_be_written_is_kept_until_it_can(stack: Stack) -> None:
    """First the disk is full, then the row is locked: the decline stays a decline."""
    gateway = await stack.gateway(**HASTY)
    shop = await stack.shop(gateway)
    declines: dict[str, Any] = {"billing_address": {"postal_code": "46282"}}

    async def declined(key: str) -> bool:
        answer = await shop.pay(key=key, **declines)
        assert answer.status_code in (201, 409), answer.text
        if answer.status_code == 409:
            return False
        assert answer.json()["status"] == "declined"
        return True

    async with connected(stack.dsn) as admin:
        await admin.execute(BROKEN.format(table="operations", event="UPDATE"))
    response = await shop.pay(key="full", **declines)
    assert (response.status_code, response.json()["status"]) == (202, "processing")
    # If the process had died before recording it, the sweep would find it and call it absent.
    await stack.fetch("DROP TRIGGER full_disk ON operations")
    await until(lambda: declined("full"), what="the key's reply is the decline")

    await stack.simulator.slow(shop.login, ms=400)
    paying = asyncio.create_task(shop.pay(key="locked", **declines))

    async def begun() -> Any:
        return await stack.fetch("SELECT id FROM operations WHERE state = 'in_flight'")

    ((operation,),) = await until(begun)
    async with held(stack.dsn, "SELECT 1 FROM operations WHERE id = $1 FOR UPDATE", operation):
        assert (await paying).status_code == 202
        assert (await shop.pay(key="other")).status_code == 201, "other payments do not wait"
    await until(lambda: declined("locked"))
    assert await audit(stack, shop) == []


async def logs_in_full(stack: Stack, shop: Shop, gateway: Gateway) -> None:
    """The shop's only charge is in the gateway's only critical line."""
    (row,) = await stack.simulator.truth(login=shop.login)
    (logged,) = [line for line in gateway.logs().splitlines() if '"critical"' in line]
    assert row["invoice_number"] in logged
    assert row["trans_id"] in logged


async def test_an_outcome_that_can_never_be_recorded_is_logged_in_full(stack: Stack) -> None:
    """A violated constraint is final: an inquiry ends the payment; a critical line is logged."""
    gateway = await stack.gateway(**HASTY)
    shop = await stack.shop(gateway)
    await stack.fetch(
        "ALTER TABLE payments ADD CONSTRAINT never CHECK (status <> 'captured') NOT VALID"
    )
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    await logs_in_full(stack, shop, gateway)
    await stack.fetch("ALTER TABLE payments DROP CONSTRAINT never")
    await all_known(stack, shop, within_s=30)
    assert (await shop.payment(answer.json()["id"]))["status"] == "captured"
    assert await audit(stack, shop) == []


async def test_an_intent_lost_in_a_failover_is_logged_and_written_again(stack: Stack) -> None:
    """The promoted standby never had it. If the charge or its key were forgotten, the shop's repeat
    would charge again."""
    gateway = await stack.gateway(**HASTY)
    shop = await stack.shop(gateway)
    charged = await in_flight(stack, shop, "lost")
    for table in ("operations", "payments", "idempotency_keys"):
        await stack.fetch(f"DELETE FROM {table}")
    answer = await charged
    assert (answer.status_code, answer.json()["status"]) == (201, "captured")
    again = await shop.pay(key="lost")
    assert (again.status_code, again.content) == (201, answer.content)
    await logs_in_full(stack, shop, gateway)
    assert await audit(stack, shop) == []


async def test_a_process_that_slept_through_its_deadline_sends_nothing(stack: Stack) -> None:
    """It is stopped between begin and call, for longer than a call may take."""
    gateway = await stack.gateway(**QUICK | {"unknown_absent_after_s": "600"})
    shop = await stack.shop(gateway)
    await shop.paid()
    async with held(stack.dsn, "LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"):
        paying = asyncio.create_task(shop.pay(key="late"))
        await until_locked(stack.dsn, "easypay begin ")
        os.kill(gateway.pid, signal.SIGSTOP)
    await asyncio.sleep(float(QUICK["processor_deadline_s"]))  # the process sleeps for so long
    os.kill(gateway.pid, signal.SIGCONT)
    answer = await paying
    assert (answer.status_code, answer.json()["code"]) == (503, "processor_unavailable")
    assert len(await stack.simulator.truth(login=shop.login)) == 1
    assert (await shop.pay(key="late")).status_code == 201
    assert len(await stack.simulator.truth(login=shop.login)) == 2
    assert await audit(stack, shop) == []
