"""Gateways and workers that are killed while they take a payment with a stored method: it is
charged at most once, and ends. The simulator's own records are the judge."""

import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from easypay import failpoints
from harness import (
    QUICK,
    Shop,
    Stack,
    all_known,
    audit,
    own_stack,
    until,
)
from harness.forked import ForkedWorkers, forked_workers
from harness.stored import Stored, stored_method

stack = own_stack(**QUICK)
BUSY = QUICK | {"processor_deadline_s": "30"}
"""A gateway that is to die sweeps nothing meanwhile."""


@pytest.fixture
async def workers(stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(stack, **QUICK) as workers:
        yield workers
    await stack.simulator.clear_faults()


async def killed(stack: Stack, shop: Shop, failpoint: str, method: Stored, **over: str) -> None:
    """Pay at a gateway that dies at this point."""
    doomed = await stack.gateway(failpoint=failpoint, **(BUSY | over))
    at_doomed = shop.at(doomed.url)
    with pytest.raises(httpx.TransportError):
        await pay(at_doomed, method)
    await at_doomed.client.aclose()
    assert doomed.process.wait(timeout=30) == -signal.SIGKILL


async def pay(shop: Shop, method: Stored, *, queue: bool = False) -> httpx.Response:
    body = {"amount": 2500, "currency": "USD", "payment_method": method.pays()}
    return await shop.post("/payments", body, key="order", queue=queue)


async def ended(stack: Stack, shop: Shop, method: Stored) -> tuple[dict[str, Any], int]:
    """Repeat the request until it has its answer; return it, and how often money was taken."""

    async def answered() -> httpx.Response | None:
        answer = await pay(shop, method)
        return None if answer.status_code in (202, 409) else answer

    answer = await until(answered, what="the request has its answer")
    assert answer.status_code == 201, answer.text
    again = await pay(shop, method)
    assert (again.content, again.headers["idempotency-replayed"]) == (answer.content, "true")
    queued = "SELECT count(*) FROM queued_operations WHERE merchant_id = $1"

    async def empty() -> bool:
        return await stack.value(queued, shop.merchant_id) == 0

    await until(empty, what="the queue is empty")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []
    found: dict[str, Any] = answer.json()
    assert (found["customer"], found["payment_method"]["id"]) == (method.customer, method.id)
    return found, len(await stack.simulator.truth(login=shop.login))


@pytest.mark.parametrize("failpoint", sorted(failpoints.NAMES))
async def test_a_gateway_killed_at_any_point_charges_a_stored_method_at_most_once(
    stack: Stack, failpoint: str
) -> None:
    shop = await stack.shop(stack.only_gateway)
    method = await stored_method(stack, shop)
    await killed(stack, shop, failpoint, method)
    found, done = await ended(stack, shop, method)
    assert found["status"] == ("captured" if done else "failed")
    if failpoint in ("after_begin", "before_send"):
        assert done == 0
    elif failpoint != "mid_send":  # the processor may have read it
        assert done == 1
    await shop.client.aclose()


async def test_a_gateway_killed_before_it_leaves_a_payment_to_the_queue_loses_nothing(
    stack: Stack,
) -> None:
    """The processor has said that it does not know the new method, and the process dies with that
    knowledge: the resolver proves that nothing was charged."""
    shop = await stack.shop(stack.only_gateway)
    method = await stored_method(stack, shop, age_s=1)
    await stack.simulator.fault(
        "code_before", shop.login, code="E00040", method="createTransactionRequest", count=100
    )
    await killed(stack, shop, "after_reply", method, processor_deadline_s="1")
    found, done = await ended(stack, shop, method)
    assert (found["status"], done) == ("failed", 0)
    await shop.client.aclose()


async def test_a_worker_killed_at_any_point_charges_a_stored_method_at_most_once(
    stack: Stack, workers: ForkedWorkers
) -> None:
    points = [*failpoints.QUEUE_NAMES, *sorted(failpoints.NAMES)]
    shops = [await stack.shop(stack.only_gateway) for _ in points]
    methods = [await stored_method(stack, shop) for shop in shops]
    for point, shop, method in zip(points, shops, methods, strict=True):
        assert (await pay(shop, method, queue=True)).status_code == 202
        worker = await workers.start(failpoint=point)
        assert await worker.ends() == -signal.SIGKILL, worker.logs()
    await stack.fetch("UPDATE queued_operations SET due_at = db_now()")
    await stack.fetch(
        "UPDATE operations SET begun_at = begun_at - interval '2 minutes' WHERE state = 'in_flight'"
    )
    await workers.start()
    for point, shop, method in zip(points, shops, methods, strict=True):
        found, done = await ended(stack, shop, method)
        assert found["status"] == ("captured" if done else "failed"), point
        if point in ("after_begin", "before_send"):
            assert done == 0, point
        elif point != "mid_send":
            assert done == 1, point
        await shop.client.aclose()
