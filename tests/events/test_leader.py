"""Gateways keep the search table beside the payments, whichever of them leads, and whoever dies."""

import asyncio
from typing import Any

from harness import QUICK, Shop, Stack, until

# What the search table should say, from the payments themselves. Payments whose outcome is unknown
# have no event yet.
DIFFERENT = """
    SELECT p.id FROM payments p
      FULL JOIN (SELECT * FROM payment_search JOIN streams USING (stream)) s
        ON s.merchant_id = p.merchant_id AND s.mode = p.mode AND s.payment_id = p.id
     WHERE (p.status, p.version, p.amount_minor, p.currency, p.refunded_minor > 0, p.card_brand,
            p.card_last4, p.decline_code, p.transaction_id, p.order_reference, p.customer_reference)
        IS DISTINCT FROM
           (s.status, s.version, s.amount_minor, s.currency, s.refunded, s.card_brand,
            s.card_last4, s.decline_code, s.transaction_id, s.order_reference,
            s.customer_reference)
"""
UNNUMBERED = """
    SELECT (SELECT count(*) FROM events) - (SELECT count(*) FROM feed)
"""


async def agree(stack: Stack) -> None:
    """Wait until every event is in the feed, and the search table says what the payments say."""

    async def agreed() -> bool:
        ((missing,),) = await stack.fetch(UNNUMBERED)
        return missing == 0 and not await stack.fetch(DIFFERENT)

    await until(agreed, what="the feed and the search table are up to date")
    twice = "SELECT event_id FROM feed GROUP BY event_id HAVING count(*) > 1"
    assert await stack.fetch(twice) == []


async def lives(shop: Shop, name: str) -> list[Any]:
    """Make payments with every kind of life, side by side."""

    async def undone() -> None:
        payment = await shop.paid(2500, order_reference=f"{name}-undone")
        answer = await shop.refund(payment["id"])
        assert answer.status_code == 201, answer.text

    async def voided() -> None:
        payment = await shop.paid(700, capture="manual", customer_reference=name)
        assert (await shop.void(payment["id"])).status_code == 201

    async def declined() -> None:
        assert (await shop.pay(200, billing_address={"postal_code": "46282"})).status_code == 201

    return await asyncio.gather(*(life() for life in (undone, voided, declined) for _ in range(5)))


async def test_the_search_table_follows_the_payments(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    await lives(shop, "first")
    await agree(stack)
    ((found,),) = await stack.fetch("SELECT count(*) FROM payment_search")
    assert found == 15


async def test_another_gateway_leads_when_the_leader_is_killed(stack: Stack) -> None:
    leader = await stack.gateway(**QUICK)
    shop = await stack.shop(leader)
    await lives(shop, "before")
    await agree(stack)
    second = await stack.gateway(**QUICK)
    leader.kill()
    await lives(shop.at(second.url), "after")
    await agree(stack)


async def test_a_transaction_with_very_many_events_is_numbered_too(stack: Stack) -> None:
    """A bulk load writes more events at once than one statement numbers."""
    await stack.fetch(
        "INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,"
        " amount_minor, currency, created_at)"
        " SELECT md5((n % 100)::text)::uuid, lowest_id_at(now() + n * interval '1 ms'),"
        " gen_random_uuid(), gen_random_uuid(), 'test', 'payment.captured', 'captured', 1, 'USD',"
        " now()"
        " FROM generate_series(1, 12000) AS n"
    )
    await stack.gateway(**QUICK)
    await agree(stack)
    ((numbered,),) = await stack.fetch("SELECT count(*) FROM feed")
    assert numbered == 12_000
