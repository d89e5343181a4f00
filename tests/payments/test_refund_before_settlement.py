"""A full refund before settlement: one request, for which the gateway sends a void."""

import asyncio
from collections import Counter

import pytest

from harness import Shop, Stack, all_known, audit

pytestmark = pytest.mark.over("simulated", "recorded")


async def test_a_full_refund_of_an_unsettled_payment_is_a_void(
    shared_stack: Stack, shop: Shop
) -> None:
    payment = await shop.paid(2500)
    answer = await shop.refund(payment["id"], key="all of it")
    assert answer.status_code == 201, answer.text
    refund = answer.json()
    assert (refund["status"], refund["method"], refund["amount"]) == ("succeeded", "void", 2500)

    undone = await shop.payment(payment["id"])
    assert (undone["status"], undone["captured_amount"], undone["refunded_amount"]) == (
        "voided",
        0,
        0,
    )
    assert await shop.all(f"/payments/{payment['id']}/refunds") == [refund]
    operation = (await shop.all(f"/payments/{payment['id']}/operations"))[1]
    assert (operation["kind"], operation["state"]) == ("refund", "approved")
    events = await shop.all(f"/payments/{payment['id']}/events")
    assert [(event["type"], event["status"], event["amount"]) for event in events] == [
        ("payment.captured", "captured", 2500),
        ("refund.succeeded", "voided", 2500),
    ]
    sale, void = await shared_stack.simulator.truth(login=shop.login)
    assert (sale["status"], void["type"], void["amount"]) == ("voided", "voidTransaction", "25.00")
    assert void["invoice_number"] == operation["reference"]

    again = await shop.refund(payment["id"], key="all of it")
    assert (again.status_code, again.content) == (201, answer.content)
    assert again.headers["idempotency-replayed"] == "true"
    for other in (await shop.refund(payment["id"]), await shop.void(payment["id"])):
        assert (other.status_code, other.json()["code"]) == (409, "invalid_state")
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 2
    assert await audit(shared_stack, shop) == []


async def test_a_full_refund_of_a_partly_captured_hold_is_a_void(
    shared_stack: Stack, shop: Shop
) -> None:
    held = await shop.paid(5000, capture="manual")
    await shop.capture(held["id"], 3000)
    refund = await shop.refund(held["id"], 3000)
    assert (refund.status_code, refund.json()["method"]) == (201, "void"), refund.text
    assert (await shop.payment(held["id"]))["status"] == "voided"
    assert await audit(shared_stack, shop) == []


async def test_a_partial_refund_has_to_wait_for_settlement(shared_stack: Stack, shop: Shop) -> None:
    payment = await shop.paid(2500)
    early = await shop.refund(payment["id"], 900, key="a part")
    assert (early.status_code, early.json()["code"]) == (409, "not_settled")
    assert early.headers["content-type"] == "application/problem+json"
    assert early.json()["payment_id"] == payment["id"]
    assert "all of it now" in early.json()["detail"]
    assert (await shop.payment(payment["id"]))["status"] == "captured"
    (row,) = await shared_stack.fetch(
        "SELECT refund_reserved_minor FROM payments WHERE merchant_id = $1", shop.merchant_id
    )
    assert row[0] == 0, "no amount stays reserved for it"

    await shared_stack.simulator.post("/settle")
    again = await shop.refund(payment["id"], 900, key="a part")
    assert (again.status_code, again.content) == (409, early.content)
    assert again.headers["idempotency-replayed"] == "true"
    late = await shop.refund(payment["id"], 900)
    assert (late.status_code, late.json()["method"]) == (201, "refund"), late.text
    rest = await shop.refund(payment["id"])
    assert (rest.json()["method"], rest.json()["amount"]) == ("refund", 1600)
    refunds = await shop.all(f"/payments/{payment['id']}/refunds")
    assert [(each["status"], each["method"]) for each in refunds] == [
        ("failed", None),
        ("succeeded", "refund"),
        ("succeeded", "refund"),
    ]
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 2500
    assert await audit(shared_stack, shop) == []


async def test_forty_concurrent_full_refunds_refund_once(shared_stack: Stack, shop: Shop) -> None:
    payment = await shop.paid(2500)
    await shared_stack.simulator.slow(shop.login, ms=50)
    answers = await asyncio.gather(*(shop.refund(payment["id"]) for _ in range(40)))
    (given,) = [answer for answer in answers if answer.status_code == 201]
    assert given.json()["method"] == "void"
    assert {answer.status_code for answer in answers} == {201, 409}
    truth = await shared_stack.simulator.truth(login=shop.login)
    assert [row["type"] for row in truth] == ["authCaptureTransaction", "voidTransaction"]
    assert await audit(shared_stack, shop) == []


async def test_forty_refunds_under_one_key_refund_once(shared_stack: Stack, shop: Shop) -> None:
    payment = await shop.paid(2500)
    await shared_stack.simulator.slow(shop.login, ms=50)
    answers = await asyncio.gather(*(shop.refund(payment["id"], key="once") for _ in range(40)))
    bodies = {answer.content for answer in answers if answer.status_code == 201}
    assert len(bodies) == 1
    assert all(
        answer.json()["code"] == "request_in_progress"
        for answer in answers
        if answer.status_code != 201
    )
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 2
    assert await audit(shared_stack, shop) == []


async def test_concurrent_partial_refunds_reserve_nothing(shared_stack: Stack, shop: Shop) -> None:
    """Each is refused. On a busy machine some are told so later (202), or asked to repeat (503)."""
    payment = await shop.paid(2500)
    answers = await asyncio.gather(*(shop.refund(payment["id"], 100) for _ in range(40)))
    assert {answer.status_code for answer in answers} - {202, 503} == {409}
    assert "not_settled" in {answer.json().get("code") for answer in answers}
    await all_known(shared_stack, shop)
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 1
    whole = await shop.refund(payment["id"])
    assert (whole.status_code, whole.json()["amount"]) == (201, 2500), whole.text
    assert await audit(shared_stack, shop) == []


async def test_concurrent_refund_void_and_capture_have_one_effect(
    shared_stack: Stack, shop: Shop
) -> None:
    """Three people act at once. Whoever comes first, the money is returned once. On a busy machine
    a call may need longer than the gateway's one second: then an answer is 202, or 503 if no time
    was left to begin the call. What happened is known later."""
    await shared_stack.simulator.slow(shop.login, ms=20)

    async def one(capture: str) -> tuple[str, int, int]:
        """Return the payment, how many were told that they gave it back, how many cannot know."""
        payment = await shop.paid(2500, capture=capture)
        requests = [shop.refund, shop.void, shop.capture] * 3
        answers = await asyncio.gather(*(ask(payment["id"]) for ask in requests))
        codes = Counter(
            answer.status_code
            for ask, answer in zip(requests, answers, strict=True)
            if ask != shop.capture or answer.status_code not in (201, 409)
        )
        assert codes.keys() <= {201, 202, 409, 503}, [answer.text for answer in answers]
        return payment["id"], codes[201], codes[202] + codes[503]

    asked = await asyncio.gather(
        *(one(kind) for kind in ("automatic", "manual") for _ in range(12))
    )
    await all_known(shared_stack, shop)
    voided = 0
    for payment_id, told, unsure in asked:
        operations = await shop.all(f"/payments/{payment_id}/operations")
        given_back = [each for each in operations if each["kind"] in ("refund", "void")]
        count = sum(each["state"] == "approved" for each in given_back)
        assert count == ((await shop.payment(payment_id))["status"] == "voided"), operations
        assert told <= count <= told + unsure, operations
        voided += count
    assert voided
    truth = await shared_stack.simulator.truth(login=shop.login)
    voids = [row["trans_id"] for row in truth if row["type"] == "voidTransaction"]
    assert len(voids) == len(set(voids)) == voided
    assert await audit(shared_stack, shop) == []
