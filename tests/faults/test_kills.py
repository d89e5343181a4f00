"""kill -9 at every named point of the flow, and under load: each request still happens once."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from persistent_clients import Storm, all_known

from easypay import failpoints
from harness import QUICK, Gateway, Shop, Stack, audit, free_port, payment_uuid, until

BOUND_S = 15.0
"""F1: within this time of a restart every outcome is known."""
WIRE_TYPE = {
    "sale": "authCaptureTransaction",
    "capture": "priorAuthCaptureTransaction",
    "refund": "refundTransaction",
    "undo": "voidTransaction",
}
BUSY = QUICK | {"processor_deadline_s": "30"}
"""A gateway that is to die leaves the other casualties alone: it sweeps none before 32 s."""


@dataclass
class Casualty:
    """A request whose gateway died over it."""

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
        """How many times the processor did it."""
        truth = await self.stack.simulator.truth(login=self.shop.login)
        return sum(row["type"] == WIRE_TYPE[self.kind] for row in truth)

    async def operation(self) -> dict[str, Any]:
        (row,) = await self.stack.fetch(
            "SELECT o.* FROM operations o JOIN idempotency_keys k"
            "    ON k.merchant_id = o.merchant_id AND k.operation_id = o.id"
            " WHERE k.merchant_id = $1 AND k.key = $2",
            self.shop.merchant_id,
            self.key,
        )
        return dict(row)


async def casualties(stack: Stack, failpoint_names: list[str]) -> list[Casualty]:
    """A shop for each kind and name, with the payment it needs; its gateway is gone again."""
    gateway = await stack.gateway(**BUSY)
    made = []
    for kind in ("refund", "sale", "capture", "undo"):
        for name in failpoint_names:
            shop = await stack.shop(gateway)
            payment_id = None
            if kind != "sale":
                capture = "manual" if kind == "capture" else "automatic"
                payment_id = (await shop.paid(capture=capture))["id"]
            made.append(Casualty(stack, shop, kind, name, f"{kind}-{name}", payment_id))
        if kind == "refund":
            await stack.simulator.post("/settle")
    gateway.kill()
    return made


async def test_killed_at_any_point_a_request_happens_once_and_is_answered(stack: Stack) -> None:
    fallen = await casualties(stack, sorted(failpoints.NAMES))

    async def falls(casualty: Casualty) -> None:
        gateway = await stack.gateway(failpoint=casualty.failpoint, **BUSY)
        with pytest.raises(httpx.TransportError):
            await casualty.ask(gateway)
        assert gateway.process.wait(timeout=10) == -signal.SIGKILL, casualty

    for name in sorted(failpoints.NAMES):  # four at a time: starting costs more than falling
        await asyncio.gather(*(falls(each) for each in fallen if each.failpoint == name))

    gateway = await stack.gateway(**QUICK)
    restarted = time.monotonic()

    async def recovers(casualty: Casualty) -> None:
        first = await casualty.ask(gateway)
        if casualty.failpoint == "after_record":
            assert first.status_code == 201, casualty
            assert first.headers["idempotency-replayed"] == "true"
        elif first.status_code == 409 and first.json()["code"] != "not_executed":
            assert first.json()["code"] == "request_in_progress"
            assert int(first.headers["retry-after"]) >= 1

        async def answered() -> httpx.Response | None:
            answer = await casualty.ask(gateway)
            return None if "request_in_progress" in answer.text else answer

        answer = await until(answered, within_s=BOUND_S, what=str(casualty))
        assert time.monotonic() - restarted < BOUND_S
        done = await casualty.done()
        operation = await casualty.operation()
        if casualty.failpoint in ("after_begin", "before_send"):
            assert done == 0, casualty
        elif casualty.failpoint != "mid_send":  # it may have been read, or not
            assert done == 1, casualty
        assert operation["state"] == ("approved" if done else "absent"), casualty
        assert operation["attempt"] == 1
        if casualty.kind == "capture" and not done:
            assert (answer.status_code, answer.json()["code"]) == (409, "not_executed")
        else:
            assert answer.status_code == 201, answer.text
            wanted = "captured" if casualty.kind in ("sale", "capture") else "succeeded"
            wanted = wanted if done else "failed"
            assert answer.json()["status"] == wanted, casualty
        again = await casualty.ask(gateway)
        assert again.content == answer.content
        assert await casualty.done() == done

    await asyncio.gather(*map(recovers, fallen))
    for casualty in fallen:
        await all_known(stack, casualty.shop)
        assert await audit(stack, casualty.shop) == []


async def test_killed_between_the_processors_commit_and_its_reply(stack: Stack) -> None:
    fallen = await casualties(stack, ["while it waits"])
    for casualty in fallen:
        await stack.simulator.post(
            "/faults",
            kind="late_reply",
            delay_ms=20_000,
            count=1,
            login=casualty.shop.login,
            transaction_type=WIRE_TYPE[casualty.kind],
        )
    doomed = await stack.gateway(**BUSY)
    waiting = [asyncio.create_task(casualty.ask(doomed)) for casualty in fallen]

    async def committed() -> bool:
        return all([await casualty.done() for casualty in fallen])

    await until(committed, what="the processor has done all of it")
    doomed.kill()
    lost = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, httpx.TransportError) for each in lost), lost

    gateway = await stack.gateway(**QUICK)
    for casualty in fallen:
        await all_known(stack, casualty.shop, within_s=BOUND_S)
        answer = await casualty.ask(gateway)
        assert answer.status_code == 201, answer.text
        assert answer.headers["idempotency-replayed"] == "true"
        operation = await casualty.operation()
        assert operation["state"] == "approved"
        assert '"source": "inquiry"' in operation["evidence"]
        assert await casualty.done() == 1
        assert await audit(stack, casualty.shop) == []


async def test_a_process_that_comes_back_from_the_dead_overrules_nobody(stack: Stack) -> None:
    """One stands still while it waits for its reply, and wakes when another has ended its work.

    Where the other believed the call absent, and the processor then did it, the shop was told that
    the payment failed: it stays failed, and the money goes back.
    """
    zombie = await stack.gateway(**BUSY)
    found, absent = await stack.shop(zombie), await stack.shop(zombie)
    await stack.simulator.post(
        "/faults", kind="late_reply", delay_ms=1500, count=1, login=found.login
    )
    await stack.simulator.post(
        "/faults", kind="late_charge", delay_ms=8000, count=1, login=absent.login
    )
    waiting = [
        asyncio.create_task(found.pay(key="found")),
        asyncio.create_task(absent.pay(key="absent")),
    ]

    async def charged(shop: Shop) -> bool:
        return len(await stack.simulator.truth(login=shop.login)) == 1

    await until(lambda: charged(found))
    os.kill(zombie.pid, signal.SIGSTOP)
    try:
        gateway = await stack.gateway(**QUICK)
        await all_known(stack, found)
        await all_known(stack, absent)
        adopted = await found.at(gateway.url).pay(key="found")
        given_up = await absent.at(gateway.url).pay(key="absent")
        assert (adopted.status_code, adopted.json()["status"]) == (201, "captured")
        assert (given_up.status_code, given_up.json()["status"]) == (201, "failed")
        assert not await charged(absent), "believed absent, as it was"
        await until(lambda: charged(absent))
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


async def test_killed_again_and_again_under_load_no_payment_is_lost_or_doubled(
    stack: Stack,
) -> None:
    port = free_port()
    gateway = await stack.gateway(port=port, **QUICK)
    shop = await stack.shop(gateway)
    await stack.simulator.post(
        "/faults", kind="latency", distribution="uniform", ms=30, login=shop.login
    )
    storm, calm = Storm(), asyncio.Event()
    blowing = asyncio.create_task(storm.blow(shop, clients=32, until_stopped=calm))
    for _ in range(3):
        await storm.reaches(100)
        gateway.kill()
        gateway = await stack.gateway(port=port, **QUICK)
    await storm.reaches(100)
    calm.set()
    await blowing

    lost = sum(count for met, count in storm.met.items() if not met.isdigit())
    assert lost >= 3, storm.met
    await all_known(stack, shop, within_s=BOUND_S)
    assert await audit(stack, shop) == []
    # Every key, whatever it lived through, has one payment; and what was said of it is so.
    rows = await stack.fetch(
        "SELECT k.key, p.id, p.status FROM idempotency_keys k JOIN payments p"
        "    ON p.merchant_id = k.merchant_id AND p.id = k.payment_id"
        " WHERE k.merchant_id = $1",
        shop.merchant_id,
    )
    assert {row["key"] for row in rows} == set(storm.answered)
    status = {row["id"]: row["status"] for row in rows}
    for answer in storm.answered.values():
        body = answer.json()
        now = status[payment_uuid(body["id"])]
        assert now == body["status"] or body["status"] == "processing", body
    captured = [row for row in rows if row["status"] == "captured"]
    assert len(await stack.simulator.truth(login=shop.login)) == len(captured)
