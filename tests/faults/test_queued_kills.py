"""Workers that are killed or stopped at every point: a queued payment is sent at most once, and
ends. The simulator's own records are the judge."""

import asyncio
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from easypay import failpoints
from harness import (
    QUICK,
    Gateway,
    Shop,
    Stack,
    all_known,
    audit,
    own_stack,
    payment_uuid,
    queued_payment,
    until,
)
from harness.forked import ForkedWorkers, forked_workers

DEADLINE_S = 2.0
"""Three quarters of it are for the begin. A worker that takes longer sends nothing, and begins
again: that is another attempt, which these tests do not expect."""
OF_WORKERS = QUICK | {"processor_deadline_s": str(DEADLINE_S)}
POINTS = [*failpoints.QUEUE_NAMES, *sorted(failpoints.NAMES)]

stack = own_stack(**OF_WORKERS)


@pytest.fixture
async def workers(stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(stack, **OF_WORKERS) as workers:
        yield workers
    await stack.simulator.clear_faults()


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    return stack.only_gateway


async def leases_end(stack: Stack) -> None:
    """Let every claim end now, as if its lease had passed."""
    await stack.fetch("UPDATE queued_operations SET due_at = db_now()")


async def time_passes(stack: Stack) -> None:
    """Let every claim and every call that has begun be over, as if minutes had passed."""
    await leases_end(stack)
    await stack.fetch(
        "UPDATE operations SET begun_at = begun_at - interval '2 minutes' WHERE state = 'in_flight'"
    )


async def judged(stack: Stack, shop: Shop) -> int:
    """Wait until all has ended and judge it. Return how often the processor took money."""
    sql = "SELECT count(*) FROM queued_operations WHERE merchant_id = $1"

    async def empty() -> bool:
        return await stack.value(sql, shop.merchant_id) == 0

    await until(empty, what="the queue is empty")
    await all_known(stack, shop)
    assert await audit(stack, shop) == []
    truth = await stack.simulator.truth(login=shop.login)
    return sum(row["type"] == "authCaptureTransaction" for row in truth)


async def test_a_worker_killed_at_any_point_sends_a_payment_at_most_once(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
    shops = [await stack.shop(gateway) for _ in POINTS]
    payments = []
    for point, shop in zip(POINTS, shops, strict=True):
        payments.append((await queued_payment(stack, shop, key="order")).json()["id"])
        worker = await workers.start(failpoint=point)
        assert await worker.ends() == -signal.SIGKILL, worker.logs()

    await time_passes(stack)
    await workers.start()
    for point, shop, payment in zip(POINTS, shops, payments, strict=True):
        done = await judged(stack, shop)
        found = await shop.payment(payment)
        assert found["status"] == ("captured" if done else "failed"), point
        if point in ("after_begin", "before_send"):
            assert done == 0, point  # proven absent: it is not sent a second time
        elif point != "mid_send":  # the processor may have read it
            assert done == 1, point
        operations = await shop.all(f"/payments/{payment}/operations")
        assert [o["attempt"] for o in operations] == [1], point
        answer = await shop.post("/payments", await _body(shop, payment), key="order")
        assert answer.status_code == 422  # another token is another request: the key is taken


async def _body(shop: Shop, payment: str) -> dict[str, object]:
    found = await shop.payment(payment)
    token = {"data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "data_value": "another"}
    method = {"type": "accept_token", "accept_token": token}
    return {"amount": found["amount"], "currency": "USD", "payment_method": method}


async def test_a_worker_stopped_for_longer_than_its_lease_sends_nothing_afterwards(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
    """Another worker does its work. If it had begun, only it knows that nothing left: it says so
    when it goes on, and the payment is sent then. No gateway sweeps meanwhile."""
    claimed, begun = await stack.shop(gateway), await stack.shop(gateway)
    stopped = []
    for shop, point in ((claimed, "queue_claimed"), (begun, "before_send")):
        assert (await queued_payment(stack, shop)).status_code == 202
        stopped.append(await workers.start(failpoint=f"{point} stops"))
        await until(stopped[-1].is_stopped, what="the worker is stopped")
        gateway.process.send_signal(signal.SIGSTOP if shop is begun else signal.SIGCONT)
    await leases_end(stack)
    other = await workers.start()
    status = "SELECT status FROM payments WHERE merchant_id = $1"

    async def is_captured(shop: Shop) -> bool:
        return await stack.value(status, shop.merchant_id) == "captured"

    await until(partial(is_captured, claimed), what="the other worker has sent it")
    sql = "SELECT attempt >= 2 FROM queued_operations WHERE merchant_id = $1"
    await until(partial(stack.value, sql, begun.merchant_id), what="it is claimed again")
    assert await stack.value(status, begun.merchant_id) == "processing"
    late = "SELECT begun_at < db_now() - $2 * interval '1 s' FROM operations WHERE merchant_id = $1"
    passed = partial(stack.value, late, begun.merchant_id, DEADLINE_S)
    await until(passed, what="the deadline of its call has passed")
    for worker in stopped:
        worker.send(signal.SIGCONT)
    await until(partial(is_captured, begun), what="it is sent")
    gateway.process.send_signal(signal.SIGCONT)
    assert await judged(stack, claimed) == await judged(stack, begun) == 1
    for worker in (*stopped, other):
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0, worker.logs()


async def test_a_worker_whose_claim_another_has_now_ends_nothing(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
    """It may not begin, and the payment is not the reason: the operation waits for the other."""
    shops, stopped = [], []
    for capture, path in (("manual", "capture"), ("automatic", "refunds")):
        shop = await stack.shop(gateway)
        payment = await shop.paid(capture=capture)
        asked = await shop.post(f"/payments/{payment['id']}/{path}", queue=True)
        assert asked.status_code == 202, asked.text
        stopped.append(await workers.start(failpoint="queue_claimed stops"))
        await until(stopped[-1].is_stopped, what="the worker is stopped")
        shops.append(shop)
    await stack.fetch("UPDATE queued_operations SET attempt = attempt + 1")  # another claim
    for worker in stopped:
        worker.send(signal.SIGCONT)
        worker.send(signal.SIGTERM)  # it ends what it has, first
        assert await worker.ends() == 0, worker.logs()
    state = "SELECT state FROM operations WHERE merchant_id = $1 ORDER BY id DESC LIMIT 1"
    for shop in shops:
        assert await stack.value(state, shop.merchant_id) == "queued"
    await leases_end(stack)
    await workers.start()
    for shop in shops:
        await judged(stack, shop)
        assert await stack.value(state, shop.merchant_id) == "approved"


async def test_a_worker_stopped_during_its_call_overrules_no_outcome(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
    shop = await stack.shop(gateway)
    await stack.simulator.fault("late_reply", shop.login, delay_ms=800)
    payment = (await queued_payment(stack, shop)).json()["id"]
    worker = await workers.start(processor_deadline_s="30")
    await stack.charges(shop)
    worker.send(signal.SIGSTOP)
    await time_passes(stack)
    await shop.becomes(payment, "captured")  # the resolver has found it
    worker.send(signal.SIGCONT)
    assert await judged(stack, shop) == 1


async def test_a_worker_that_has_to_stop_gives_back_what_it_has_not_done(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
    shop = await stack.shop(gateway)
    await stack.simulator.slow(shop.login, ms=1000)
    payment = (await queued_payment(stack, shop)).json()["id"]
    worker = await workers.start(shutdown_grace_s="0.1", processor_deadline_s="20")
    await shop.becomes(payment, "processing")
    worker.send(signal.SIGTERM)
    assert await worker.ends() == 0, worker.logs()
    due = "SELECT due_at <= db_now() FROM queued_operations WHERE merchant_id = $1"
    assert await stack.value(due, shop.merchant_id), "its lease would last for 40 seconds"
    await stack.simulator.clear_faults()
    await time_passes(stack)
    await workers.start()
    done = await judged(stack, shop)
    assert (await shop.payment(payment))["status"] == ("captured" if done else "failed")


async def test_what_was_sent_and_a_standby_does_not_know_is_not_charged_again(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
    """The worker dies with the reply; the database fails over to a standby that has the acceptance
    and not the begin. So another worker sends again. The token was used: that tells nothing."""
    shop = await stack.shop(gateway)
    payment = (await queued_payment(stack, shop)).json()["id"]
    worker = await workers.start(failpoint="after_reply")
    assert await worker.ends() == -signal.SIGKILL, worker.logs()
    payment_id = payment_uuid(payment)
    await stack.fetch("ALTER TABLE payments DISABLE TRIGGER USER")
    await stack.fetch(
        "WITH o AS (UPDATE operations SET state = 'queued' WHERE payment_id = $1),"
        " e AS (DELETE FROM events WHERE payment_id = $1 AND type = 'payment.processing'"
        "       RETURNING id),"
        " f AS (DELETE FROM feed USING e WHERE event_id = e.id)"
        " UPDATE payments SET status = 'pending', version = 1 WHERE id = $1",
        payment_id,
    )
    await stack.fetch("ALTER TABLE payments ENABLE TRIGGER USER")
    await leases_end(stack)
    await workers.start()
    paid = await shop.becomes(payment, "captured", "failed")
    assert paid["status"] == "captured"
    assert await judged(stack, shop) == 1


async def test_kills_of_workers_and_gateways_under_load_lose_and_double_nothing(
    stack: Stack, gateway: Gateway, workers: ForkedWorkers
) -> None:
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
            worker = await workers.start()
            taken = len(await stack.simulator.truth(login=shop.login))
            await stack.charges(shop, taken + 3)
            worker.send(signal.SIGKILL)
            await worker.ends()
            await time_passes(stack)
        stopped.set()

    await asyncio.gather(client(), client(), kill_workers())
    await workers.start()
    done = await judged(stack, shop)
    payments = {p["id"]: p["status"] for p in await shop.all("/payments")}
    assert payments.keys() == accepted
    assert done == list(payments.values()).count("captured")
    assert set(payments.values()) <= {"captured", "failed"}
