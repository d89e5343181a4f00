"""A client that follows GET /events over gateways that are killed gets each event once."""

import asyncio
import itertools

import httpx

from events.follower import Follower
from harness import QUICK, Gateway, Shop, Stack, until

KEY = {"scopes": ["events:read", "payments:read", "payments:write", "refunds:write"]}
PAYERS = 4


async def pay_once(shops: list[Shop], number: int) -> None:
    """Make a payment and refund part of it, at whichever gateway answers. An outcome that is not
    known yet, or a payment that was never sent, is left as it is."""
    key = f"order-{number}"
    for turn in range(100):
        shop = shops[(number + turn) % 2]
        try:
            paid = await shop.pay(1000 + number, key=key)
            if paid.status_code == 201 and paid.json()["status"] == "captured":
                refunded = await shop.refund(paid.json()["id"], 100, key=f"{key}-refund")
                if refunded.status_code < 500:
                    return
            elif paid.status_code < 500 and paid.json().get("code") != "request_in_progress":
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError(f"payment {number} was never answered")


async def pay_on(shops: list[Shop], nth: int, until_set: asyncio.Event) -> None:
    for number in itertools.count(nth, PAYERS):
        await pay_once(shops, number)
        if until_set.is_set():
            return
        await asyncio.sleep(0.05)


async def restart(gateway: Gateway) -> None:
    gateway.kill()
    gateway.start()
    await gateway.ready()


async def test_no_event_is_missed_or_told_twice_while_gateways_are_killed(stack: Stack) -> None:
    gateways = [await stack.gateway(**QUICK), await stack.gateway(**QUICK)]
    first = await stack.with_key(await stack.shop(gateways[0]), **KEY)
    shops = [first, first.at(gateways[1].url)]
    follower = Follower(shops)
    following = asyncio.create_task(follower.run())
    killed = asyncio.Event()
    paying = [asyncio.create_task(pay_on(shops, n, killed)) for n in range(PAYERS)]
    for gateway in gateways:
        have = len(follower.got)

        async def more(than: int = have) -> bool:
            return len(follower.got) > than or following.done()

        await until(more)
        await restart(gateway)
    killed.set()
    await asyncio.gather(*paying)
    written = {
        row["id"]: row
        for row in await stack.fetch(
            "SELECT 'evt_' || replace(id::text, '-', '') AS id, payment_id FROM events"
            " WHERE merchant_id = $1",
            first.merchant_id,
        )
    }

    async def all_there() -> bool:
        return {event["id"] for event in follower.got} >= set(written)

    try:
        await until(all_there)
    finally:
        following.cancel()
    ids = [event["id"] for event in follower.got]
    assert len(ids) == len(set(ids)) >= len(written)
    versions: dict[str, list[int]] = {}
    for event in follower.got:
        versions.setdefault(event["payment_id"], []).append(event["data"]["version"])
    assert all(each == sorted(set(each)) for each in versions.values()), "in order, per payment"
    for shop in shops:
        await shop.client.aclose()
