"""Workers that are killed or stopped at every point: a queued payment is sent at most once, and
ends. The simulator's own records are the judge."""

import asyncio
import os
import signal
from functools import partial

from easypay import failpoints
from harness import (
    QUICK,
    Shop,
    Stack,
    Worker,
    all_known,
    audit,
    queued_payment,
    until,
)

PATIENT = QUICK | {"processor_deadline_s": "120"}
"""Of a gateway that sweeps nothing while a test runs."""


async def booted(stack: Stack, **over: str) -> Worker:
    """Start a worker and stop it as soon as it works, before there is anything to do."""
    worker = stack.worker(**(QUICK | over))
    await worker.logged("working on")
    worker.process.send_signal(signal.SIGSTOP)
    return worker


async def leases_end(stack: Stack) -> None:
    """Let every claim end now, as if its lease had passed."""
    await stack.fetch("UPDATE queued_operations SET due_at = db_now()")


def go_on(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGCONT)


async def is_stopped(worker: Worker) -> bool:
    """Whether the process is stopped by a signal."""
    with open(f"/proc/{worker.pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


async def in_the_queue(stack: Stack, shop: Shop) -> int:
    sql = "SELECT count(*) FROM queued_operations WHERE merchant_id = $1"
    return int(await stack.value(sql, shop.merchant_id))


async def judged(stack: Stack, shop: Shop) -> int:
    """Wait until all has ended and judge it. Return how often the processor took money."""

    async def empty() -> bool:
        return await in_the_queue(stack, shop) == 0

    await until(empty, what="the queue is empty")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []
    truth = await stack.simulator.truth(login=shop.login)
    return sum(row["type"] == "authCaptureTransaction" for row in truth)


async def dies(worker: Worker) -> None:
    async def dead() -> bool:
        return not worker.running

    await until(dead, what="the worker dies")
    assert worker.process.wait() == -signal.SIGKILL, worker.logs()


async def test_a_worker_killed_at_any_point_sends_a_payment_at_most_once(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    points = [*failpoints.QUEUE_NAMES, *sorted(failpoints.NAMES)]
    workers = await asyncio.gather(*(booted(stack, failpoint=point) for point in points))
    last = await booted(stack)
    shops = [await stack.shop(gateway) for _ in points]
    payments = []
    for shop, worker in zip(shops, workers, strict=True):
        payments.append((await queued_payment(stack, shop, key="order")).json()["id"])
        go_on(worker)
        await dies(worker)

    await leases_end(stack)
    go_on(last)
    for point, shop, payment in zip(points, shops, payments, strict=True):
        done = await judged(stack, shop)
        found = await shop.payment(payment)
        assert found["status"] == ("captured" if done else "failed"), point
        if point in ("after_begin", "before_send"):
            assert done == 0, point  # proven absent: it is not sent a second time
        elif point != "mid_send":  # the processor may have read it
            assert done == 1, point
        operations = await shop.all(f"/payments/{payment}/operations")
        assert [o["attempt"] for o in operations] == [1], point
        answer = await shop.post("/payments", await _body(stack, shop, payment), key="order")
        assert answer.status_code == 422  # another token is another request: the key is taken


async def _body(stack: Stack, shop: Shop, payment: str) -> dict[str, object]:
    found = await shop.payment(payment)
    token = {"data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "data_value": "another"}
    method = {"type": "accept_token", "accept_token": token}
    return {"amount": found["amount"], "currency": "USD", "payment_method": method}


async def test_a_worker_stopped_for_longer_than_its_lease_sends_nothing_afterwards(
    stack: Stack,
) -> None:
    """Another worker does its work. If it had begun, only it knows that nothing left: it says so
    when it goes on, and the payment is sent then."""
    gateway = await stack.gateway(**PATIENT)
    names = ("queue_claimed", "before_send")
    first, second, other = await asyncio.gather(
        *(booted(stack, failpoint=f"{name} stops") for name in names), booted(stack)
    )
    claimed, begun = await stack.shop(gateway), await stack.shop(gateway)
    payments = []
    for shop, worker in ((claimed, first), (begun, second)):
        payments.append((await queued_payment(stack, shop)).json()["id"])
        go_on(worker)
        await until(partial(is_stopped, worker), what="the worker is stopped")
    await leases_end(stack)
    go_on(other)
    await claimed.becomes(payments[0], "captured")
    await _claimed_again(stack, begun)
    assert (await begun.payment(payments[1]))["status"] == "processing"
    await asyncio.sleep(float(QUICK["processor_deadline_s"]))  # until its deadline has passed
    go_on(first)
    go_on(second)
    await begun.becomes(payments[1], "captured")
    assert await judged(stack, claimed) == await judged(stack, begun) == 1
    for worker in (first, second, other):
        assert worker.terminate() == 0, worker.logs()


async def _claimed_again(stack: Stack, shop: Shop) -> None:
    sql = "SELECT attempt FROM queued_operations WHERE merchant_id = $1"

    async def again() -> bool:
        return int(await stack.value(sql, shop.merchant_id)) >= 2

    await until(again, what="another worker has claimed it")


async def test_a_worker_stopped_during_its_call_overrules_no_outcome(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    await stack.simulator.fault("late_reply", shop.login, delay_ms=1500)
    worker = await booted(stack, processor_deadline_s="30")
    payment = (await queued_payment(stack, shop)).json()["id"]
    go_on(worker)
    await stack.charges(shop)
    os.kill(worker.pid, signal.SIGSTOP)
    await shop.becomes(payment, "captured")  # the resolver has found it
    go_on(worker)
    assert await judged(stack, shop) == 1


async def test_kills_of_workers_and_gateways_under_load_lose_and_double_nothing(
    stack: Stack,
) -> None:
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    await stack.simulator.post(
        "/faults", kind="latency", distribution="uniform", ms=30, login=shop.login
    )
    accepted: set[str] = set()
    stopped = asyncio.Event()

    async def client() -> None:
        while not stopped.is_set():
            answer = await queued_payment(stack, shop)
            assert answer.status_code == 202, answer.text
            accepted.add(answer.json()["id"])

    async def kill_workers() -> None:
        for _ in range(2):
            worker = stack.worker(**QUICK)
            taken = len(await stack.simulator.truth(login=shop.login))
            await stack.charges(shop, taken + 3)
            worker.kill()
            await leases_end(stack)
        stopped.set()

    await asyncio.gather(client(), client(), kill_workers())
    stack.worker(**QUICK)
    done = await judged(stack, shop)
    payments = {p["id"]: p["status"] for p in await shop.all("/payments")}
    assert payments.keys() == accepted
    assert done == list(payments.values()).count("captured")
    assert set(payments.values()) <= {"captured", "failed"}
