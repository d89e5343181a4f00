"""GET /payments/stats over gateways that take payments meanwhile."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from statistics_oracle import expected, told

from easypay import clock
from easypay.api.statistics import rate
from easypay.db.partitions import Months
from easypay.payments import statistics, statistics_check
from easypay.payments.statistics import Question
from harness import MASTERCARD, QUICK, Shop, Stack, card, until


async def stats(shop: Shop, **query: str) -> Any:
    """GET /payments/stats, once the first events are counted."""

    async def answered() -> Any:
        answer = await shop.client.get("/payments/stats", params=query)
        return None if answer.status_code == 503 else answer

    answer = await until(answered, what="the statistics are ready")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_payments_of_a_moment_ago_are_counted(shop: Shop) -> None:
    await shop.paid(1000)
    await shop.paid(3000, payment_method=card(MASTERCARD))
    held = await shop.paid(700, capture="manual")
    await shop.capture(held["id"], 500)
    lost = await shop.paid(200, capture="manual")
    await shop.void(lost["id"])
    undone = await shop.paid(900)
    assert (await shop.refund(undone["id"])).status_code == 201
    declined = await shop.pay(400, billing_address={"postal_code": "46282"})
    code = declined.json()["decline_code"]

    found = await stats(shop, interval="day", by="currency")
    (total,) = found["totals"]
    assert (total["currency"], total["brand"]) == ("USD", None)
    assert total["flows"] == {
        "sold": {"count": 3, "amount": 4900},
        "authorized": {"count": 2, "amount": 900},
        "captured": {"count": 1, "amount": 500},
        "undone": {"count": 1, "amount": 900},
        "voided": {"count": 1, "amount": 200},
        "declined": {"count": 1, "amount": 400},
    }
    assert total["statuses"] == {
        "captured": {"count": 3, "amount": 4700},
        "declined": {"count": 1, "amount": 400},
        "voided": {"count": 2, "amount": 1100},
    }
    assert total["rates"] == {
        "approval": "0.8333",
        "decline": "0.1667",
        "refund": rate(900, 4900 + 500),
    }
    assert total["decline_codes"] == {code: 1}
    assert len(found["buckets"]) in (31, 32)
    assert [each["totals"] for each in found["buckets"] if each["totals"]] == [[total]]

    by_brand = (await stats(shop, by="brand"))["totals"]
    assert {each["brand"]: each["flows"]["sold"] for each in by_brand} == {
        "mastercard": {"count": 1, "amount": 3000},
        "visa": {"count": 2, "amount": 1900},
    }


async def test_bad_questions_say_what_to_send(shop: Shop) -> None:
    for query, name in (
        ({"interval": "year"}, "?interval"),
        ({"by": "colour"}, "?by"),
        ({"from": "yesterday"}, "?from"),
        ({"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "?from"),
        ({"interval": "hour", "from": "2026-01-01T00:00:00Z"}, "?interval"),
    ):
        answer = await shop.client.get("/payments/stats", params=query)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == name


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(0, 0, None), (0, 3, "0.0000"), (1, 3, "0.3333"), (2, 3, "0.6667"), (3, 3, "1.0000"),
     (1, 20_000, "0.0001"), (5, 2, "2.5000")],
)  # fmt: skip
def test_a_rate_has_four_digits(part: int, whole: int, shown: str | None) -> None:
    assert rate(part, whole) == shown


async def compared(stack: Stack, shop: Shop) -> None:
    """Compare an answer with the rows, in one snapshot."""
    connection = await asyncpg.connect(stack.dsn)
    try:
        months = Months()
        await months.load(connection)
        now = clock.now().replace(minute=0, second=0, microsecond=0)
        question = Question(
            shop.merchant_id,
            "test",
            now - timedelta(days=1),
            now + timedelta(hours=1),
            by_brand=True,
        )
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = await statistics.answer(connection, months, question)
            assert told(found) == await expected(connection, question, "UTC")
    finally:
        await connection.close()


async def test_statistics_are_exact_while_payments_run_and_leaders_die(stack: Stack) -> None:
    leader = await stack.gateway(**QUICK)
    other = await stack.gateway(**QUICK)
    first = await stack.shop(other)
    second = await stack.shop(other, currencies=("USD", "EUR"))
    await stats(first)
    await stats(second)
    done = False

    async def shops() -> None:
        async def buys(shop: Shop) -> None:
            while not done:
                payment = await shop.paid(2500, capture="manual")
                await shop.capture(payment["id"], 2000)
                await shop.pay(100, billing_address={"postal_code": "46282"})
                await shop.refund((await shop.paid(300))["id"])

        await asyncio.gather(*(buys(shop) for shop in (first, second) for _ in range(2)))

    running = asyncio.create_task(shops())
    for turn in range(6):
        if turn == 2:
            leader.kill()
        await compared(stack, first)
        await compared(stack, second)
    done = True
    await running
    connection = await asyncpg.connect(stack.dsn)
    assert await statistics_check.verify(connection) == []
    await connection.close()
    for shop in (first, second):
        await compared(stack, shop)
