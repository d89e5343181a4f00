"""Two gateways without a shared cache hear of each other's changes from the feed."""

import time

from easypay.cache.caches import Caches
from easypay.cache.feed_follower import FeedFollower
from harness.processes import Gateway
from harness.sessions import connected
from harness.shop import Shop
from harness.stack import Stack
from harness.waiting import until

OLD = {"cache-control": "max-age=60"}


async def old(shop: Shop, payment_id: str) -> tuple[str, bool]:
    """Return a payment's status for a reader with leave, and whether it was in the cache."""
    answer = await shop.client.get(f"/payments/{payment_id}", headers=OLD)
    assert answer.status_code == 200, answer.text
    return answer.json()["status"], "age" in answer.headers


async def hears(shop: Shop) -> str:
    """Return an authorized payment that the gateway keeps for more than a second."""
    paid = await shop.paid(capture="manual")
    began = time.monotonic()

    async def kept() -> bool:
        nonlocal began
        _, cached = await old(shop, paid["id"])
        if not cached:
            began = time.monotonic()
        return time.monotonic() - began > 1.3

    await until(kept, what="an answer is kept for more than a second")
    return str(paid["id"])


async def test_a_change_is_heard_of_from_the_feed(shop: Shop, second_gateway: Gateway) -> None:
    there = shop.at(second_gateway.url)
    payment_id = await hears(there)
    assert (await shop.capture(payment_id)).status_code == 201

    async def is_new() -> bool:
        return (await old(there, payment_id))[0] == "captured"

    await until(is_new, promised_s=5, what="the other gateway has heard of it")
    assert (await there.payment(payment_id))["status"] == "captured"


async def test_nothing_is_heard_while_the_feed_stands_still(
    shop: Shop, shared_stack: Stack
) -> None:
    """A leader that numbers nothing more: the proof grows old."""
    await shop.paid()
    async with connected(shared_stack.dsn) as connection:
        follower = FeedFollower(connection, Caches(1024))

        async def heard() -> bool:
            await follower.look()
            return follower.hears()

        await until(heard, what="the feed is heard")
        async with connected(shared_stack.dsn) as other, other.transaction():
            await other.execute("SELECT FROM feed_months FOR UPDATE")  # the mark cannot move

            async def deaf() -> bool:
                await follower.look()
                return not follower.hears()

            await until(deaf, promised_s=5, what="the proof has grown old")
        await until(heard, what="the feed is heard again")
