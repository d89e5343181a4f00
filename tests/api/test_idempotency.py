"""A repeated request is done once, however often and from wherever it comes."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest

from harness import Gateway, Shop, Stack, audit, card, until

pytestmark = pytest.mark.over("simulated", "recorded")


async def test_a_replay_is_identical_byte_for_byte(shared_stack: Stack, shop: Shop) -> None:
    first = await shop.pay(key="order-1")
    again = await shop.pay(key='"order-1"')  # the structured form of the same key
    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 1


async def test_every_money_request_is_replayed(shared_stack: Stack, shop: Shop) -> None:
    held = await shop.paid(capture="manual")
    first = await shop.capture(held["id"], 900, key="capture-1")
    assert (await shop.capture(held["id"], 900, key="capture-1")).content == first.content
    await shared_stack.simulator.post("/settle")
    refund = await shop.refund(held["id"], 500, key="refund-1")
    assert refund.status_code == 201
    assert (await shop.refund(held["id"], 500, key="refund-1")).content == refund.content
    other = await shop.paid()
    void = await shop.void(other["id"], key="void-1")
    assert (await shop.void(other["id"], key="void-1")).content == void.content
    assert await audit(shared_stack, shop) == []


async def test_a_key_used_for_another_request_is_refused(shop: Shop) -> None:
    payment = await shop.paid(100, key="one", capture="manual")
    for answer in (
        await shop.pay(101, key="one", capture="manual"),
        await shop.pay(100, key="one"),
        await shop.capture(payment["id"], key="one"),
        await shop.pay(100, key="one", capture="manual", payment_method=card(exp_month=1)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert (await shop.payment(payment["id"]))["status"] == "authorized"


async def test_two_merchants_may_use_the_same_key(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    other = await shared_stack.shop(gateway)
    mine, theirs = await shop.paid(key="same"), await other.paid(key="same")
    assert mine["id"] != theirs["id"]
    assert await audit(shared_stack, shop) == await audit(shared_stack, other) == []


async def test_simultaneous_requests_with_one_key_pay_once(shared_stack: Stack, shop: Shop) -> None:
    """Of 64 at once, one pays; the others get the same bytes or are use to wait."""
    await shared_stack.simulator.slow(shop.login, ms=50)
    answers = await asyncio.gather(*(shop.pay(key="crowd") for _ in range(64)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}
    assert statuses[201] >= 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "request_in_progress"
            assert int(answer.headers["retry-after"]) >= 1
    later = [await shop.pay(key="crowd") for _ in range(3)]
    bodies = {answer.content for answer in [*answers, *later] if answer.status_code == 201}
    assert len(bodies) == 1
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 1
    assert await audit(shared_stack, shop) == []


async def test_simultaneous_refunds_with_one_key_refund_once(
    shared_stack: Stack, shop: Shop
) -> None:
    payment = await shop.paid(5000)
    await shared_stack.simulator.post("/settle")
    answers = await asyncio.gather(
        *(shop.refund(payment["id"], 1000, key="refund") for _ in range(32))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 1000
    assert await audit(shared_stack, shop) == []


async def test_one_key_at_two_processes_pays_once(
    shared_stack: Stack, second_gateway: Gateway, shop: Shop
) -> None:
    second = shop.at(second_gateway.url)
    for round_ in range(5):
        key = str(uuid.uuid4())
        answers = await asyncio.gather(
            *(asker.pay(100 + round_, key=key) for asker in (shop, second) for _ in range(8))
        )
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 5
    assert await audit(shared_stack, shop) == []


async def test_a_key_can_be_looked_up(shop: Shop) -> None:
    payment = await shop.paid(key="order/17")
    answer = await shop.client.get("/idempotency-keys/order/17")
    use: dict[str, Any] = answer.json()
    assert answer.status_code == 200
    assert use["payment_id"] == payment["id"]
    assert (use["kind"], use["state"], use["reply_status"]) == ("sale", "approved", 201)
    assert use["expires_at"][:10] > use["created_at"][:10]
    unknown = await shop.client.get("/idempotency-keys/never-used")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_a_client_that_hangs_up_changes_nothing(shared_stack: Stack, shop: Shop) -> None:
    """It hangs up while the processor works: the payment is taken, and the retry returns it."""
    await shared_stack.simulator.slow(shop.login, ms=300)
    hasty = asyncio.create_task(shop.pay(key="hasty"))

    await shop.begins("hasty")
    hasty.cancel()
    await asyncio.gather(hasty, return_exceptions=True)

    async def answered() -> Any:
        answer = await shop.pay(key="hasty")
        return answer if answer.status_code == 201 else None

    answer = await until(answered)
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.json()["status"] == "captured"
    assert len(await shared_stack.simulator.truth(login=shop.login)) == 1
    assert await audit(shared_stack, shop) == []


async def test_spelling_does_not_make_a_new_request(shop: Shop) -> None:
    """White space, key order at any depth, escapes, a default and the content type's charset."""
    first = await shop.pay(key="order", metadata={"a": "1", "b": "ä", "c": "/"})
    body = (
        '{"metadata" : {"c":"\\/","a":"1",\n"b":"\\u00e4"}, "payment_method":{"card":'
        '{"exp_year":2035,"exp_month":12,"cvc":"907","number":"4111111111111111"},"type":"card"},\r\n'
        '\t"currency":"USD","amount":2500, "capture": "automatic" }'
    )
    again = await shop.send("/payments", body, key="order", kind="application/json; charset=utf-8")
    assert again.content == first.content, again.text
    other = await shop.pay(key="order", metadata={"a": "1", "b": "ä", "c": "?"})
    assert other.json()["code"] == "idempotency_key_reused"


REFUSED_SINCE = {
    "currency": (
        "UPDATE merchants SET currencies = '{CAD}' WHERE merchant_id = $1",
        "currency_not_accepted",
    ),
    "raw cards": (
        "UPDATE merchants SET allow_raw_cards = false WHERE merchant_id = $1",
        "raw_cards_not_allowed",
    ),
    "account": ("DELETE FROM processor_accounts WHERE merchant_id = $1", None),
}


@pytest.mark.parametrize(("change", "code"), REFUSED_SINCE.values(), ids=REFUSED_SINCE)
async def test_a_repeat_gets_the_first_answer_even_if_it_would_be_refused_now(
    shared_stack: Stack, shop: Shop, change: str, code: str | None
) -> None:
    """The money was taken; after a refusal the shop would charge it in another way. A request that
    was never sent is refused like a new one, and one that still runs is in progress."""
    first = await shop.pay(key="first")
    held = await shop.paid(capture="manual")
    captured = await shop.capture(held["id"], 900, key="capture")
    paid = await shop.paid()
    refunded = await shop.refund(paid["id"], key="refund")
    await shared_stack.simulator.slow(shop.login, ms=600)
    running = asyncio.create_task(shop.pay(key="running"))

    await shop.begins("running")
    await shared_stack.fetch(change, shop.merchant_id)

    async def is_refused() -> bool:
        answer = await shop.pay()
        if answer.status_code != 422:
            return False
        assert code in (None, answer.json().get("errors", [{"code": None}])[0]["code"])
        return True

    await until(is_refused)
    repeat = await shop.pay(key="running")
    assert repeat.status_code == 201 or repeat.json()["code"] == "request_in_progress"
    assert (await running).status_code == 201
    for again, before in (
        (await shop.pay(key="first"), first),
        (await shop.pay(key="running"), await running),
        (await shop.capture(held["id"], 900, key="capture"), captured),
        (await shop.refund(paid["id"], key="refund"), refunded),
    ):
        assert (again.status_code, again.content) == (before.status_code, before.content)
        assert again.headers["idempotency-replayed"] == "true"
    other = await shop.pay(101, key="first")
    assert (other.status_code, other.json()["code"]) == (422, "validation_failed")
