"""GET /events: everything once, in order, with each payment as it was after each event."""

import asyncio
from typing import Any

import pytest

from easypay.api.events import MOST_WAITING_OF_MERCHANT
from easypay.clock import monotonic
from harness import Gateway, Shop, Stack, until

SCOPES = ["events:read", "payments:read", "payments:write", "refunds:write"]


@pytest.fixture
async def feed_shop(shared_stack: Stack, shop: Shop) -> Any:
    made = await shared_stack.with_key(shop, scopes=SCOPES)
    yield made
    await made.client.aclose()


async def page(shop: Shop, *, prefer: str | None = None, **query: Any) -> dict[str, Any]:
    headers = {} if prefer is None else {"prefer": prefer}
    answer = await shop.client.get("/events", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found | {"headers": answer.headers}


async def read_all(shop: Shop, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        got = await page(shop, **query, **after)
        found += got["data"]
        if not got["has_more"]:
            return found
        after = {"after": got["next_cursor"]}


async def all_events(shop: Shop, count: int) -> list[dict[str, Any]]:
    """Wait until the feed has so many events, and return them."""

    async def there() -> list[dict[str, Any]] | None:
        found = await read_all(shop, limit=100)
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = await until(there)
    return found


async def make_every_change(stack: Stack, shop: Shop) -> dict[tuple[str, int], Any]:
    """Let everything happen to payments that can; return what GET said after each change."""
    seen: dict[tuple[str, int], Any] = {}

    async def note(payment_id: str) -> dict[str, Any]:
        now = await shop.payment(payment_id)
        seen[payment_id, now["version"]] = now
        return now

    async def made(amount: int = 2500, **over: Any) -> str:
        answer = (await shop.pay(amount, **over)).json()
        payment_id: str = answer.get("payment_id") or answer["id"]
        await note(payment_id)
        return payment_id

    async def after(payment_id: str, *steps: Any) -> None:
        for step in steps:
            await step
            await note(payment_id)

    held = await made(capture="manual", metadata={"order": "7"}, order_reference="order-7")
    await after(held, shop.capture(held, 2000), shop.void(held))
    released = await made(capture="manual")
    await after(released, shop.void(released))
    undone = await made()
    await after(undone, shop.refund(undone))
    await made(billing_address={"postal_code": "46282"})  # the simulator declines it
    await stack.simulator.post(
        "/settings", login=shop.login, held_above="50.00", held_action="authAndHold"
    )
    for kind in ("approve", "decline", "void"):
        reviewed = await made(6000)
        await after(reviewed, shop.post(f"/payments/{reviewed}/{kind}"))
    return seen


async def test_each_event_has_the_payment_as_get_showed_it_right_after(
    shared_stack: Stack, feed_shop: Shop
) -> None:
    seen = await make_every_change(shared_stack, feed_shop)
    events = await all_events(feed_shop, len(seen))
    assert {(e["payment_id"], e["data"]["version"]): e["data"] for e in events} == seen
    assert len(events) == len(seen), "each change has one event"
    for event in events:
        own = await feed_shop.all(f"/payments/{event['payment_id']}/events")
        (same,) = [each for each in own if each["id"] == event["id"]]
        assert same.items() <= event.items()
        assert (event["api_version"], event["mode"]) == ("v1", "test")
        assert event["data"]["status"] == event["status"]


async def test_pages_of_any_size_have_the_same_events_and_types_choose_some(
    feed_shop: Shop,
) -> None:
    payments = [(await feed_shop.paid(100 + n))["id"] for n in range(5)]
    await feed_shop.pay(billing_address={"postal_code": "46282"})
    events = await all_events(feed_shop, 6)
    for limit in (1, 2, 100):
        assert await read_all(feed_shop, limit=limit) == events
    assert [event["payment_id"] for event in events[:5]] == payments
    declined = await read_all(feed_shop, limit=1, types="payment.declined,refund.failed")
    assert declined == [event for event in events if event["type"] == "payment.declined"]
    assert await read_all(feed_shop, types="refund.succeeded") == []


async def test_nobody_sees_the_events_of_another_merchant_or_mode(
    shared_stack: Stack, gateway: Gateway, feed_shop: Shop
) -> None:
    await feed_shop.paid()
    await all_events(feed_shop, 1)
    cursor = (await page(feed_shop))["next_cursor"]
    other = await shared_stack.with_key(await shared_stack.shop(gateway), scopes=SCOPES)
    live = await shared_stack.with_key(feed_shop, mode="live", scopes=SCOPES)
    usual = await shared_stack.with_key(feed_shop)
    for stranger in (other, live):
        assert (await page(stranger))["data"] == []
        refused = await stranger.client.get("/events", params={"after": cursor})
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert (await usual.client.get("/events")).status_code == 403
    for each in (other, live, usual):
        await each.client.aclose()


@pytest.mark.parametrize(
    "query",
    [
        {"after": "x"},
        {"types": "payment"},
        {"types": "a.b," * 20 + "a.b"},
        {"limit": "0"},
        {"x": "1"},
    ],
)
async def test_a_bad_query_is_refused(feed_shop: Shop, query: dict[str, str]) -> None:
    answer = await feed_shop.client.get("/events", params=query)
    assert answer.status_code == 422, answer.text


async def test_a_reader_can_wait_for_the_next_event(feed_shop: Shop) -> None:
    await feed_shop.paid()
    await all_events(feed_shop, 1)
    latest = (await page(feed_shop, after="latest"))["next_cursor"]
    waiting = [
        asyncio.create_task(page(feed_shop, after=latest, prefer="wait=30")) for _ in range(3)
    ]
    chooses = asyncio.create_task(
        page(feed_shop, after=latest, types="refund.succeeded", prefer="respond-async, wait=1")
    )
    begun = monotonic()
    paid = await feed_shop.paid()
    for each in await asyncio.gather(*waiting):
        assert [event["payment_id"] for event in each["data"]] == [paid["id"]]
        assert each["headers"]["preference-applied"] == "wait=30"
    assert monotonic() - begun < 15
    nothing = await chooses
    assert nothing["data"] == []
    assert monotonic() - begun >= 0.5
    assert (await page(feed_shop, after=nothing["next_cursor"]))["data"] == [], "it looked at it"


async def test_the_feed_may_go_back_while_a_client_waits(
    shared_stack: Stack, feed_shop: Shop
) -> None:
    """As after a failover to a standby that lagged: new events get the places of lost ones."""
    for _ in range(5):
        await feed_shop.paid()
    await all_events(feed_shop, 5)
    latest = (await page(feed_shop, after="latest"))["next_cursor"]
    waiting = asyncio.create_task(page(feed_shop, after=latest, prefer="wait=30"))
    await asyncio.sleep(0.3)
    await shared_stack.fetch(
        "DELETE FROM feed WHERE position > 2"
        " AND stream = (SELECT stream FROM streams WHERE merchant_id = $1)",
        feed_shop.merchant_id,
    )
    new = {each.json()["id"] for each in await asyncio.gather(*(feed_shop.pay() for _ in range(4)))}
    told: set[str] = set()
    got = await waiting

    async def all_told() -> bool:
        nonlocal got
        told.update(event["payment_id"] for event in got["data"])
        got = await page(feed_shop, after=got["next_cursor"])
        return new <= told

    await until(all_told, what="the client has all new events")


async def test_a_stream_may_get_another_number(shared_stack: Stack, feed_shop: Shop) -> None:
    """As after a failover to a standby that lacked a new merchant's first event."""
    await feed_shop.paid()
    await all_events(feed_shop, 1)
    latest = (await page(feed_shop, after="latest"))["next_cursor"]
    whose = feed_shop.merchant_id
    await shared_stack.fetch(
        "DELETE FROM feed WHERE stream = (SELECT stream FROM streams WHERE merchant_id = $1)", whose
    )
    await shared_stack.fetch("DELETE FROM streams WHERE merchant_id = $1", whose)
    new = [(await feed_shop.paid())["id"] for _ in range(2)]
    assert [event["payment_id"] for event in await all_events(feed_shop, 2)] == new
    assert [event["payment_id"] for event in (await page(feed_shop, after=latest))["data"]] == new


async def test_those_who_wait_are_all_answered_and_take_no_turn_from_others(stack: Stack) -> None:
    """Eight wait, and only two reading requests may wait for their turn."""
    few = {"reading_queue": "2", "database_reading_connections": "1"}
    gateway = await stack.gateway(**few)
    shop = await stack.with_key(await stack.shop(gateway), scopes=SCOPES)
    await shop.paid()
    await all_events(shop, 1)
    latest = (await page(shop, after="latest"))["next_cursor"]

    async def come_to_wait(wait_s: int) -> "list[asyncio.Task[Any]]":
        tasks = []
        for _ in range(8):  # one by one: each reads once before it waits
            waits = asyncio.create_task(page(shop, after=latest, prefer=f"wait={wait_s}"))
            tasks.append(waits)
            await asyncio.sleep(0.1)
        return tasks

    for got in await asyncio.gather(*await come_to_wait(1)):
        assert got["data"] == []
        assert got["headers"]["preference-applied"] == "wait=1"
    waiting = await come_to_wait(20)
    paid = await shop.paid()
    for got in await asyncio.gather(*waiting):
        assert [event["payment_id"] for event in got["data"]] == [paid["id"]]
    latest = (await page(shop, after="latest"))["next_cursor"]
    waiting = await come_to_wait(20)
    stopping = asyncio.create_task(asyncio.to_thread(gateway.terminate))
    for got in await asyncio.gather(*waiting):
        assert got["data"] == []
    assert await stopping == 0
    await shop.client.aclose()


async def test_whoever_left_takes_no_place_among_those_who_wait(feed_shop: Shop) -> None:
    await feed_shop.paid()
    await all_events(feed_shop, 1)
    latest = (await page(feed_shop, after="latest"))["next_cursor"]
    leaving: list[asyncio.Task[Any]] = []
    while not any(each.done() for each in leaving):  # then nobody else may wait
        waits = page(feed_shop, after=latest, prefer="wait=30")
        leaving.append(asyncio.create_task(waits))
        await asyncio.sleep(0.05)
    assert len(leaving) > MOST_WAITING_OF_MERCHANT
    for each in leaving:
        each.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)

    async def may_wait() -> bool:
        got = await page(feed_shop, after=latest, prefer="wait=1")
        return "preference-applied" in got["headers"]

    await until(may_wait, what="their places are free")


async def test_whoever_waits_is_answered_when_the_gateway_drains(stack: Stack) -> None:
    gateway = await stack.gateway()
    shop = await stack.with_key(await stack.shop(gateway), scopes=SCOPES)
    await shop.paid()
    await all_events(shop, 1)
    latest = (await page(shop, after="latest"))["next_cursor"]
    waiting = asyncio.create_task(page(shop, after=latest, prefer="wait=30"))
    begun = monotonic()
    stopping = asyncio.create_task(asyncio.to_thread(gateway.terminate))
    assert (await waiting)["data"] == []
    assert monotonic() - begun < 15
    assert await stopping == 0
    await shop.client.aclose()
