"""A process that does not learn whether its begin was committed: what was accepted is sent all the
same, once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cutting_proxy import CuttingProxy

from harness import QUICK, Shop, Stack, all_known, audit, queued_payment, until
from harness.forked import ForkedWorker, forked_workers
from harness.stored import stored_method
from harness.worker_inside import queue_worker_inside

SETTINGS = QUICK | {"database_patience_s": "0.5", "groups_in_flight": "1"}
PATIENT = {
    # As in production, nothing that was begun is proven absent within a minute.
    "processor_deadline_s": "10.0",
    "unknown_pass_gap_s": "60",
    "unknown_absent_after_s": "600",
}


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    made = await stack.shop(await stack.gateway(**QUICK | PATIENT))
    yield made
    await made.client.aclose()


@pytest.fixture
async def worker(stack: Stack, stack_proxy: CuttingProxy) -> AsyncIterator[ForkedWorker]:
    """Run a worker whose database is behind a proxy."""
    settings = SETTINGS | {"database_url": stack_proxy.dsn}
    async with forked_workers(stack, **settings) as workers:
        yield await workers.start()


async def judged(stack: Stack, shop: Shop) -> None:
    """Wait until all has ended, and judge it."""

    async def empty() -> bool:
        return bool(await stack.value("SELECT count(*) = 0 FROM queued_operations"))

    await until(empty, what="the queue is empty")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []


async def operation(shop: Shop, payment: str, kind: str) -> dict[str, Any]:
    found = await shop.all(f"/payments/{payment}/operations")
    (one,) = [each for each in found if each["kind"] == kind]
    return one


async def authorized(stack: Stack, shop: Shop) -> str:
    """Return an authorized payment. The worker has begun one like it and a capture before, so its
    connections are open."""
    first, second = [
        (await queued_payment(stack, shop, capture="manual")).json()["id"] for _ in range(2)
    ]
    assert (await shop.post(f"/payments/{first}/capture", queue=True)).status_code == 202
    await shop.becomes(first, "captured")
    await shop.becomes(second, "authorized")
    return str(second)


@pytest.mark.usefixtures("worker")
async def test_a_connection_that_is_cut_at_the_commit_loses_no_operation_of_a_payment(
    stack: Stack, stack_proxy: CuttingProxy, shop: Shop
) -> None:
    payment = await authorized(stack, shop)
    stack_proxy.swallow_next("begin-queued-follow-up")
    assert (await shop.post(f"/payments/{payment}/capture", queue=True)).status_code == 202
    await shop.becomes(payment, "captured")
    assert stack_proxy.swallowed == ["easypay begin-queued-follow-up 1"]
    captured = await operation(shop, payment, "capture")
    assert (captured["state"], captured["attempt"]) == ("approved", 2)
    await judged(stack, shop)


@pytest.mark.usefixtures("worker")
async def test_a_database_that_is_silent_at_the_commit_loses_nothing(
    stack: Stack, stack_proxy: CuttingProxy, shop: Shop
) -> None:
    """The begins of a payment and of a capture are committed. Their answers never arrive, and the
    database answers nothing for longer than callers wait for it."""
    held = await authorized(stack, shop)
    assert stack_proxy.vanish("begin-queued 1", after_commit=True) == 1
    sale = (await queued_payment(stack, shop)).json()["id"]
    stack_proxy.swallow_next("begin-queued-follow-up")
    assert (await shop.post(f"/payments/{held}/capture", queue=True)).status_code == 202
    for payment in (sale, held):
        await shop.becomes(payment, "captured")
    assert (await operation(shop, sale, "sale"))["state"] == "approved"
    assert len(await stack.simulator.truth(login=shop.login)) == 5
    await judged(stack, shop)


async def test_a_payment_with_a_stored_method_goes_on_after_its_begin(
    stack: Stack, stack_proxy: CuttingProxy
) -> None:
    """The begin is run again, finds the key used, and so the method is looked up first. The payment
    is the one that was begun."""
    shop = await stack.shop(await stack.gateway(**SETTINGS | {"database_url": stack_proxy.dsn}))
    method = await stored_method(stack, shop)
    body = {"amount": 2500, "currency": "USD", "payment_method": method.pays()}
    assert (await shop.post("/payments", body)).status_code == 201  # connections are open
    stack_proxy.swallow_next("begin-stored")
    paid = await shop.post("/payments", body)
    assert stack_proxy.swallowed == ["easypay begin-stored 1"]
    assert (paid.status_code, paid.json()["payment_method"]["id"]) == (201, method.id)
    assert len(await shop.all("/payments")) == 2
    assert len(await stack.simulator.truth(login=shop.login)) == 2
    assert await audit(stack, shop) == []
    await shop.client.aclose()


async def test_a_database_that_is_silent_for_longer_than_the_lease_loses_nothing(
    stack: Stack,
    stack_proxy: CuttingProxy,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No worker can send it under the claim that began it, so it is queued again."""
    monkeypatch.setattr("easypay.payments.queue_worker._LEAST_LEASE_S", 2.5)
    more = SETTINGS | {"processor_deadline_s": "1.0"}
    async with queue_worker_inside(stack, dsn=stack_proxy.dsn, **more):
        await authorized(stack, shop)
        assert stack_proxy.vanish("begin-queued 1", after_commit=True) == 1
        stack_proxy.silent = True
        sale = (await queued_payment(stack, shop)).json()["id"]
        sql = "SELECT due_at < db_now() FROM queued_operations"

        async def lease_is_over() -> bool:
            (row,) = await stack.fetch(sql)
            return bool(row[0]) and (await shop.payment(sale))["status"] == "processing"

        await until(lease_is_over, what="it is begun, and its lease is over")
        stack_proxy.silent = False
        await shop.becomes(sale, "captured", within_s=60)
        assert (await operation(shop, sale, "sale"))["attempt"] >= 2
        await judged(stack, shop)
    assert "was begun and not sent" in caplog.text
