"""Payments of a real gateway, and workers that are killed between sending and recording."""

import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easypay import ids
from harness import QUICK, Shop, Stack, payment_uuid, until
from harness.commands import run_easypay
from harness.forks import Program, start_logged
from webhooks.receiver import Receiver, receiving


@pytest.fixture
def start(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start workers; kill those that are left after the test."""
    started: list[Program] = []

    def begin(**settings: str) -> Program:
        environment = {
            **os.environ,
            **stack.env,
            "EASYPAY_WEBHOOK_PRIVATE_NETWORKS": "127.0.0.0/8",
            **settings,
        }
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(start_logged(["easypay", "worker"], environment, log))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    gateway = await stack.gateway(**QUICK)
    made = await stack.shop(gateway)
    yield made
    await made.client.aclose()


async def none_left(stack: Stack) -> None:
    async def so() -> bool:
        return bool(
            await stack.value(
                "SELECT NOT EXISTS (SELECT FROM webhook_deliveries) AND last_seq = ("
                " SELECT last_seq FROM feed_readers WHERE name = 'webhooks')"
                " AND last_seq = (SELECT count(*) FROM events) FROM feed_head"
            )
        )

    await until(so, what="everything is delivered")


async def events_of(shop: Shop, payments: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the ids of each payment's events, in their order."""
    return {
        payment["id"]: [e["id"] for e in await shop.all(f"/payments/{payment['id']}/events")]
        for payment in payments
    }


async def test_a_killed_worker_loses_no_event_and_keeps_the_order(
    stack: Stack, shop: Shop, receiver: Receiver, start: Callable[..., Any]
) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    made = run_easypay("webhook", "create", merchant, receiver.url, "--json", **stack.env).data
    payments = [await shop.paid(capture="manual") for _ in range(4)]
    for payment in payments:
        await shop.capture(payment["id"])
    killed = start(EASYPAY_FAILPOINT="webhook_sent")
    assert await until(lambda: gone(killed)) == -signal.SIGKILL
    assert receiver.got
    await stack.fetch("UPDATE webhook_deliveries SET due_at = now()")  # its leases end
    worker = start()
    await none_left(stack)
    expected = await events_of(shop, payments)
    for payment, events in expected.items():
        arrived = [got for got in receiver.got if got.json["payment_id"] == payment]
        assert list(dict.fromkeys(got.id for got in arrived)) == events
        assert [got.json["data"]["status"] for got in arrived[-2:]] == ["authorized", "captured"]
    endpoint = made["endpoint"]["id"]
    listed = run_easypay("webhook", "deliveries", endpoint, "--json", **stack.env).data["data"]
    one = run_easypay("webhook", "delivery", endpoint, listed[0]["id"], "--json", **stack.env).data
    assert one["delivery"] == listed[0]
    assert one["request"]["body"].encode() in [got.body for got in receiver.got]
    assert sorted(row["event_id"] for row in listed) == sorted(
        event for events in expected.values() for event in events
    )
    worker.send_signal(signal.SIGTERM)
    assert await until(lambda: gone(worker), what="the worker drains") == 0


async def gone(process: Program) -> int | None:
    """Return the exit status once the process has ended (0 is told as "0")."""
    status = process.poll()
    return Status(status) if status is not None else None


class Status(int):
    """An exit status; also 0 is a true value."""

    def __bool__(self) -> bool:
        return True


async def test_a_worker_that_sleeps_for_longer_than_its_lease_records_nothing(
    stack: Stack, shop: Shop, receiver: Receiver, start: Callable[..., Any]
) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    run_easypay("webhook", "create", merchant, receiver.url, "--json", **stack.env)
    sleeper = start()

    def stop(_: Any) -> int:
        if len(receiver.got) == 1:
            sleeper.send_signal(signal.SIGSTOP)
        return 200

    receiver.answer = stop
    await shop.paid()
    await until(lambda: arrived(receiver, 1))
    await stack.fetch("UPDATE webhook_deliveries SET due_at = now()")
    start()
    await none_left(stack)
    assert len({got.id for got in receiver.got}) == 1
    sleeper.send_signal(signal.SIGCONT)
    sleeper.send_signal(signal.SIGTERM)
    assert await until(lambda: gone(sleeper)) == 0
    assert await stack.value("SELECT count(*) FROM webhook_attempts") == 1


async def arrived(receiver: Receiver, count: int) -> bool:
    return len(receiver.got) >= count


async def test_an_event_that_cannot_be_read_holds_up_no_other_payment(
    stack: Stack, shop: Shop, receiver: Receiver, start: Callable[..., Any]
) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    run_easypay("webhook", "create", merchant, receiver.url, "--json", **stack.env)
    payments = [await shop.paid(capture="manual") for _ in range(4)]
    broken = payments[1]
    for payment in payments:
        await shop.capture(payment["id"])
    sql = "UPDATE payments SET metadata = $2 WHERE id = $1"
    await stack.fetch(sql, payment_uuid(broken["id"]), "[1]")
    start()
    await until(lambda: arrived(receiver, 6), what="all others have arrived")
    expected = await events_of(shop, payments[:1] + payments[2:])
    for payment, events in expected.items():
        assert [g.id for g in receiver.got if g.json["payment_id"] == payment] == events

    async def failed() -> bool:
        rows = await stack.fetch("SELECT reason FROM webhook_deliveries WHERE failures = 1")
        return [row["reason"] for row in rows] == ["EasyPay could not send it: ValidationError"]

    await until(failed, what="the failure is recorded")
    await stack.fetch(sql, payment_uuid(broken["id"]), None)
    await stack.fetch("UPDATE webhook_deliveries SET due_at = now()")
    await none_left(stack)
    statuses = [g.json["status"] for g in receiver.got if g.json["payment_id"] == broken["id"]]
    assert statuses == ["authorized", "captured"]


async def test_the_commands_look_after_an_endpoint(
    stack: Stack, shop: Shop, receiver: Receiver, start: Callable[..., Any]
) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)

    def webhook(*words: str) -> Any:
        return run_easypay("webhook", *words, "--json", **stack.env).data

    endpoint = webhook("create", merchant, receiver.url, "--type", "refund.failed")["endpoint"][
        "id"
    ]
    start()
    event = webhook("test", endpoint)["event_id"]
    await until(lambda: arrived(receiver, 1))
    assert receiver.got[0].json["type"] == "webhook.test"
    assert receiver.got[0].id == event
    assert webhook("pause", endpoint)["state"] == "paused"
    assert webhook("resume", endpoint)["state"] == "enabled"
    assert webhook("rotate-secret", endpoint)["secret"].startswith("whsec_")
    assert webhook("update", endpoint, "--type", "payment.captured")["types"] == [
        "payment.captured"
    ]
    assert [row["id"] for row in webhook("list")["data"]] == [endpoint]
    await shop.paid()
    await until(lambda: arrived(receiver, 2))
    first = receiver.got[1].id
    assert webhook("redeliver", endpoint, "--event", first) == {"events": 1}
    await until(lambda: arrived(receiver, 3))
    assert receiver.got[2].id == first
    webhook("delete", endpoint)
    refused = run_easypay("webhook", "test", endpoint, **stack.env)
    assert refused.code == 1
    assert "there is no webhook endpoint" in refused.err


async def test_a_worker_raises_its_limit_of_open_files(
    stack: Stack, start: Callable[..., Any]
) -> None:
    """Each message in flight and each idle connection needs one; a shell often allows 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        worker = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    async def raised() -> bool:
        return resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)

    await until(raised, what="the limit is raised")
