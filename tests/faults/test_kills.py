"""kill -9 at every named point of the flow, and under load: each request still happens once."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from persistent_clients import Load

from easypay import failpoints
from easypay.db.embedded import Cluster
from harness import (
    QUICK,
    SHARED,
    WIRE_TYPE,
    Gateway,
    Shop,
    Simulator,
    Stack,
    all_known,
    audit,
    free_port,
    payment_uuid,
    simulating,
    stack_over,
    until,
)

BOUND_S = 15.0
"""F1: every outcome is known within this time after a restart."""
TYPES = WIRE_TYPE | {"undo": WIRE_TYPE["void"]}
BUSY = QUICK | {"processor_deadline_s": "30"}
"""A gateway that is to die sweeps nothing before 32 s, so it leaves the other requests alone."""
DOOMED = BUSY | {"groups_in_flight": "1", "database_pool_size": "2"}
"""A gateway that dies of one request needs few sessions, and starts in less time."""
ANSWERS = 40
"""How many payments are answered before each kill under load."""

LATE_S = 120
"""Delay of a late charge by the simulator's clock: longer than a test runs."""


@dataclass
class KilledRequest:
    """A request whose gateway was killed while it ran."""

    stack: Stack
    shop: Shop
    kind: str
    failpoint: str
    key: str
    payment_id: str | None

    def __str__(self) -> str:
        return f"{self.kind} killed {self.failpoint}"

    async def ask(self, gateway: Gateway) -> httpx.Response:
        shop = self.shop.at(gateway.url)
        try:
            return await shop.ask(self.kind, self.payment_id, key=self.key)
        finally:
            await shop.client.aclose()

    async def done(self) -> int:
        """Return how many times the processor did it."""
        truth = await self.stack.simulator.truth(login=self.shop.login)
        return sum(row["type"] == TYPES[self.kind] for row in truth)

    async def operation(self) -> dict[str, Any]:
        (row,) = await self.stack.fetch(
            "SELECT o.* FROM operations o JOIN idempotency_keys k"
            "    ON k.merchant_id = o.merchant_id AND k.operation_id = o.id"
            " WHERE k.merchant_id = $1 AND k.key = $2",
            self.shop.merchant_id,
            self.key,
        )
        return dict(row)


async def killed_requests(stack: Stack, failpoint_names: list[str]) -> list[KilledRequest]:
    """Return a request for each kind and failpoint, with the payment it needs; no gateway runs."""
    gateway = await stack.gateway(**BUSY)
    made = []
    for kind in ("refund", "sale", "capture", "undo"):
        for name in failpoint_names:
            shop = await stack.shop(gateway)
            payment_id = None
            if kind != "sale":
                capture = "manual" if kind == "capture" else "automatic"
                payment_id = (await shop.paid(capture=capture))["id"]
            made.append(KilledRequest(stack, shop, kind, name, f"{kind}-{name}", payment_id))
        if kind == "refund":
            await stack.simulator.post("/settle")
    gateway.kill()
    return made


async def test_killed_at_any_point_a_request_happens_once_and_is_answered(stack: Stack) -> None:
    requests = await killed_requests(stack, sorted(failpoints.NAMES))

    async def die(request: KilledRequest) -> None:
        gateway = await stack.gateway(failpoint=request.failpoint, **DOOMED)
        with pytest.raises(httpx.TransportError):
            await request.ask(gateway)
        assert gateway.process.wait(timeout=30) == -signal.SIGKILL, request

    for name in sorted(failpoints.NAMES):  # four at a time, because starting is slow
        await asyncio.gather(*(die(each) for each in requests if each.failpoint == name))

    gateway = await stack.gateway(**QUICK)
    restarted = time.monotonic()

    async def recover(request: KilledRequest) -> None:
        first = await request.ask(gateway)
        if request.failpoint == "after_record":
            assert first.status_code == 201, request
            assert first.headers["idempotency-replayed"] == "true"
        elif first.status_code == 409 and first.json()["code"] != "not_executed":
            assert first.json()["code"] == "request_in_progress"
            assert int(first.headers["retry-after"]) >= 1

        async def answered() -> httpx.Response | None:
            answer = await request.ask(gateway)
            return None if "request_in_progress" in answer.text else answer

        answer = await until(answered, within_s=BOUND_S, what=str(request))
        assert time.monotonic() - restarted < BOUND_S
        done = await request.done()
        operation = await request.operation()
        if request.failpoint in ("after_begin", "before_send"):
            assert done == 0, request
        elif request.failpoint != "mid_send":  # the processor may have read it
            assert done == 1, request
        assert operation["state"] == ("approved" if done else "absent"), request
        assert operation["attempt"] == 1
        if request.kind == "capture" and not done:
            assert (answer.status_code, answer.json()["code"]) == (409, "not_executed")
        else:
            assert answer.status_code == 201, answer.text
            wanted = "captured" if request.kind in ("sale", "capture") else "succeeded"
            wanted = wanted if done else "failed"
            assert answer.json()["status"] == wanted, request
        again = await request.ask(gateway)
        assert again.content == answer.content
        assert await request.done() == done

    await asyncio.gather(*map(recover, requests))
    for request in requests:
        await all_known(stack, request.shop)
        assert await audit(stack, request.shop) == []


async def test_a_kill_before_the_processor_s_reply_loses_nothing(stack: Stack) -> None:
    requests = await killed_requests(stack, ["while it waits"])
    for request in requests:
        kind = TYPES[request.kind]
        await stack.simulator.fault(
            "late_reply", request.shop.login, delay_ms=20_000, transaction_type=kind
        )
    doomed = await stack.gateway(**BUSY)
    waiting = [asyncio.create_task(request.ask(doomed)) for request in requests]

    async def committed() -> bool:
        return all([await request.done() for request in requests])

    await until(committed, what="the processor has done all of them")
    doomed.kill()
    lost = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, httpx.TransportError) for each in lost), lost

    gateway = await stack.gateway(**QUICK)
    for request in requests:
        await all_known(stack, request.shop, within_s=BOUND_S)
        answer = await request.ask(gateway)
        assert answer.status_code == 201, answer.text
        assert answer.headers["idempotency-replayed"] == "true"
        operation = await request.operation()
        assert operation["state"] == "approved"
        assert '"source": "inquiry"' in operation["evidence"]
        assert await request.done() == 1
        assert await audit(stack, request.shop) == []


async def test_a_suspended_process_that_resumes_overrules_no_outcome(
    cluster: Cluster, template: str, tmp_path: Path
) -> None:
    """A process is stopped while it waits for a reply, and resumes after another ended its work.

    If the other called the call absent and the processor then did it, the shop was told that the
    payment failed: it stays failed, and the money is given back. The simulator is the test's own,
    so that its clock says when the late charge comes.
    """
    async with simulating(tmp_path) as simulator:
        async with stack_over(cluster, template, simulator, tmp_path) as stack:
            await _suspended(stack, simulator)


async def _suspended(stack: Stack, simulator: Simulator) -> None:
    zombie = await stack.gateway(**BUSY)
    found, absent = await stack.shop(zombie), await stack.shop(zombie)
    await stack.simulator.fault("late_reply", found.login, delay_ms=1500)
    await stack.simulator.fault(  # for the charge alone: an inquiry must not wait for the clock
        *("late_charge", absent.login),
        delay_ms=LATE_S * 1000,
        by_clock=True,
        transaction_type=WIRE_TYPE["sale"],
    )
    waiting = [
        asyncio.create_task(found.pay(key="found")),
        asyncio.create_task(absent.pay(key="absent")),
    ]

    await stack.charges(found)
    await stack.simulator.all_faults_met(absent.login)  # the charge has left the process
    os.kill(zombie.pid, signal.SIGSTOP)
    try:
        gateway = await stack.gateway(**QUICK)
        await all_known(stack, found)
        await all_known(stack, absent)
        adopted = await found.at(gateway.url).pay(key="found")
        given_up = await absent.at(gateway.url).pay(key="absent")
        assert (adopted.status_code, adopted.json()["status"]) == (201, "captured")
        assert (given_up.status_code, given_up.json()["status"]) == (201, "failed")
        early = await stack.simulator.truth(login=absent.login)
        assert early == [], "not charged yet, so rightly called absent"
        await simulator.post("/clock", advance_s=LATE_S)
        await stack.charges(absent)
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    late, refused = await asyncio.gather(*waiting)

    assert (late.status_code, late.content) == (adopted.status_code, adopted.content)
    assert (refused.status_code, refused.json()["status"]) == (201, "failed")
    payment_id = given_up.json()["id"]

    async def returned() -> bool:
        events = await absent.at(gateway.url).all(f"/payments/{payment_id}/events")
        return [event["type"] for event in events] == [
            "payment.failed",
            "late_charge.found",
            "late_charge.returned",
        ]

    await until(returned, what="the late charge is given back")
    assert (await absent.at(gateway.url).payment(payment_id))["status"] == "failed"
    truth = await stack.simulator.truth(login=absent.login)
    assert [row["status"] for row in truth if row["type"] == WIRE_TYPE["sale"]] == ["voided"]
    assert await audit(stack, found) == []


async def test_repeated_kills_under_load_lose_and_double_no_payment(stack: Stack) -> None:
    port = free_port()
    gateway = await stack.gateway(port=port, **QUICK | SHARED)
    shop = await stack.shop(gateway)
    await stack.simulator.post(
        "/faults", kind="latency", distribution="uniform", ms=30, login=shop.login
    )
    load, stopped = Load(), asyncio.Event()
    running = asyncio.create_task(load.run(shop, clients=32, until_stopped=stopped))
    for _ in range(3):
        await load.reaches(ANSWERS)
        gateway.kill()
        gateway = await stack.gateway(port=port, **QUICK | SHARED)
    await load.reaches(ANSWERS)
    stopped.set()
    await running

    lost = sum(count for met, count in load.met.items() if not met.isdigit())
    assert lost >= 3, load.met
    await all_known(stack, shop, within_s=BOUND_S)
    assert await audit(stack, shop) == []
    # Every key has one payment, whose status agrees with the response.
    rows = await stack.fetch(
        "SELECT k.key, p.id, p.status FROM idempotency_keys k JOIN payments p"
        "    ON p.merchant_id = k.merchant_id AND p.id = k.payment_id"
        " WHERE k.merchant_id = $1",
        shop.merchant_id,
    )
    assert {row["key"] for row in rows} == set(load.answered)
    status = {row["id"]: row["status"] for row in rows}
    for answer in load.answered.values():
        body = answer.json()
        now = status[payment_uuid(body["id"])]
        assert now == body["status"] or body["status"] == "processing", body
    captured = [row for row in rows if row["status"] == "captured"]
    assert len(await stack.simulator.truth(login=shop.login)) == len(captured)
