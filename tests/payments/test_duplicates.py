"""The same purchase under two idempotency keys: told, or refused before anything is sent."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from easypay.merchants import admin
from easypay.merchants.vault import Vault
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from harness import (
    ADMIN_KEY,
    ENCRYPTION_KEY,
    MASTERCARD,
    QUICK,
    Gateway,
    Shop,
    Stack,
    audit,
    card,
    http_client,
    mint_token,
    payment_uuid,
    until,
)

DECLINES = {"billing_address": {"postal_code": "46282"}}
ALLOW = {"allow-duplicate": "true"}
Checking = Callable[..., Awaitable[Shop]]


@pytest.fixture(scope="module")
async def other_gateway(simulated: Stack) -> AsyncIterator[Gateway]:
    """Run another gateway on the shared database."""
    started = await simulated.gateway(**QUICK)
    yield started
    started.kill()


@pytest.fixture
def checking(shared_stack: Stack, shop: Shop) -> Checking:
    """Return a function that switches the check on for the shop, before its first request."""

    async def switch_on(action: str, window_s: int | None = None) -> Shop:
        connection = await asyncpg.connect(shared_stack.dsn)
        await admin.update_merchant(
            connection, shop.merchant_id, duplicates=action, duplicate_window_s=window_s
        )
        await connection.close()
        return shop

    return switch_on


async def pay(shop: Shop, key: str | None = None, **over: Any) -> httpx.Response:
    """Send the payment of one order, by default under a new key."""
    headers = over.pop("headers", {})
    body = {
        "amount": 2500,
        "currency": "USD",
        "payment_method": card(),
        "order_reference": "order-7",
        **over,
    }
    headers = {"idempotency-key": key or uuid.uuid4().hex, **headers}
    return await shop.client.post("/payments", json=body, headers=headers)


def refused_for(answer: httpx.Response) -> str:
    """Return the payment for which another was refused as its duplicate."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "duplicate_payment"), answer.text
    assert problem["payment_id"] in problem["detail"]
    first: str = problem["payment_id"]
    return first


async def charges(stack: Stack, shop: Shop) -> int:
    return len(await stack.simulator.truth(login=shop.login))


async def test_two_gateways_at_once_take_one_order_once(
    shared_stack: Stack, checking: Checking, other_gateway: Gateway
) -> None:
    """The race: each gateway begins before it can see the other's payment, at the same moment or
    5 ms later. Without the guard both charge."""
    shop = await checking("reject")
    other = shop.at(other_gateway.url)
    rounds = [0.005 if number % 4 == 0 else 0.0 for number in range(20)]
    for number, apart_s in enumerate(rounds):
        order = f"order-{number}"
        first = asyncio.create_task(pay(shop, order_reference=order))
        await asyncio.sleep(apart_s)
        turns = (other, shop, other)
        answers = await asyncio.gather(first, *(pay(at, order_reference=order) for at in turns))
        taken = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        assert len(taken) == 1, [answer.text for answer in answers]
        assert {refused_for(each) for each in answers if each.status_code != 201} == set(taken)
    assert await charges(shared_stack, shop) == len(rounds)
    assert await audit(shared_stack, shop) == []
    await other.client.aclose()


async def test_the_same_key_at_two_gateways_is_a_repeat_and_no_duplicate(
    shared_stack: Stack, checking: Checking, other_gateway: Gateway
) -> None:
    shop = await checking("reject")
    other = shop.at(other_gateway.url)
    for number in range(5):
        key = uuid.uuid4().hex
        order = {"key": key, "order_reference": f"order-{number}"}
        at_once = await asyncio.gather(*(pay(at, **order) for at in (shop, other, shop, other)))
        codes = {answer.json().get("code") for answer in at_once if answer.status_code != 201}
        assert codes <= {"request_in_progress"}
        again = await pay(other, **order)
        assert again.headers["idempotency-replayed"] == "true"
        assert {a.content for a in at_once if a.status_code == 201} == {again.content}
    assert await charges(shared_stack, shop) == 5
    await other.client.aclose()


async def test_a_flagged_payment_names_the_first_one_in_every_reply(
    shared_stack: Stack, checking: Checking
) -> None:
    shop = await checking("flag")
    first = (await pay(shop)).json()
    assert "possible_duplicate_of" not in first
    second = await pay(shop, "second")
    third = await pay(shop)
    for answer in (second, third):
        assert answer.status_code == 201
        assert answer.json()["possible_duplicate_of"] == first["id"]
        shown = await shop.payment(answer.json()["id"])
        assert shown == answer.json()
    again = await pay(shop, "second")
    assert (again.content, again.headers["idempotency-replayed"]) == (second.content, "true")
    voided = await shop.void(second.json()["id"])
    assert voided.json()["possible_duplicate_of"] == first["id"]
    listed = {each["id"]: each.get("possible_duplicate_of") for each in await shop.all("/payments")}
    assert listed == {
        first["id"]: None, second.json()["id"]: first["id"], third.json()["id"]: first["id"],
    }  # fmt: skip
    assert await audit(shared_stack, shop) == []


async def test_a_refusal_uses_up_no_key_and_ends_with_the_first_payment(
    shared_stack: Stack, checking: Checking
) -> None:
    """The key that was refused goes through once the first payment is undone."""
    shop = await checking("reject")
    first = (await pay(shop)).json()
    for _ in range(2):
        assert refused_for(await pay(shop, "mine")) == first["id"]
    assert (await shop.client.get("/idempotency-keys/mine")).status_code == 404
    assert await charges(shared_stack, shop) == 1
    await shop.void(first["id"])
    second = await pay(shop, "mine")
    assert second.status_code == 201
    assert "possible_duplicate_of" not in second.json()
    assert await audit(shared_stack, shop) == []


async def test_what_was_declined_is_no_duplicate(checking: Checking) -> None:
    """The customer types the card code again: that must work, in either order of payments."""
    shop = await checking("reject")
    for _ in range(2):
        declined = await pay(shop, **DECLINES)
        assert declined.json()["status"] == "declined"
    taken = await pay(shop)
    assert (taken.status_code, taken.json()["status"]) == (201, "captured")
    assert refused_for(await pay(shop, **DECLINES)) == taken.json()["id"]


async def test_a_declined_duplicate_hides_no_earlier_payment(checking: Checking) -> None:
    """Captured, then a duplicate that is declined, then another one: the captured one counts."""
    shop = await checking("flag")
    first = (await pay(shop)).json()["id"]
    declined = (await pay(shop, **DECLINES)).json()
    assert (declined["status"], declined["possible_duplicate_of"]) == ("declined", first)
    assert (await pay(shop)).json()["possible_duplicate_of"] == first


async def test_a_payment_counts_while_its_outcome_is_open(
    shared_stack: Stack, checking: Checking
) -> None:
    """The first is still at the processor, so the second is refused. Then the first is declined,
    and the shop may do what the refusal says: repeat the same request."""
    shop = await checking("reject")
    await shared_stack.simulator.slow(shop.login, ms=300)
    first = asyncio.create_task(pay(shop, **DECLINES))

    async def begun() -> list[Any]:
        sql = "SELECT FROM payments WHERE merchant_id = $1"
        return await shared_stack.fetch(sql, shop.merchant_id)

    await until(begun)
    refused = await pay(shop, "second")
    assert "you may repeat this request" in refused.json()["detail"]
    assert (await first).json()["id"] == refused_for(refused)
    assert (await pay(shop, "second")).json()["status"] == "captured"


async def told(gateway: Gateway) -> dict[str, int]:
    """Return the gateway's count of possible duplicates, by what became of them."""
    async with http_client(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as operator:
        text = (await operator.get(f"{gateway.url}/metrics")).text
    found = re.findall(r'^easypay_possible_duplicates_total{result="(\w+)"} (\d+)', text, re.M)
    return {"allowed": 0, "flagged": 0, "rejected": 0} | {name: int(n) for name, n in found}


async def test_the_shop_can_ask_for_a_second_payment(
    shared_stack: Stack, gateway: Gateway, checking: Checking
) -> None:
    shop = await checking("reject")
    before = await told(gateway)
    first = (await pay(shop)).json()["id"]
    refused_for(await pay(shop, "two"))
    second = await pay(shop, "two", headers=ALLOW)
    assert second.status_code == 201
    assert second.json()["possible_duplicate_of"] == first
    # The header is not part of the request: a repeat without it replays, and charges nothing.
    again = await pay(shop, "two")
    assert (again.content, again.headers["idempotency-replayed"]) == (second.content, "true")
    for value in ("yes", "TRUE", "false", ""):
        wrong = await pay(shop, headers={"allow-duplicate": value})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
        assert wrong.json()["errors"][0]["pointer"] == "Allow-Duplicate"
    assert await charges(shared_stack, shop) == 2
    before["rejected"] += 1
    before["allowed"] += 1
    assert await told(gateway) == before


async def test_merchants_modes_cards_amounts_and_orders_are_kept_apart(
    shared_stack: Stack, gateway: Gateway, checking: Checking
) -> None:
    shop = await checking("reject")
    login = {"login_id": shop.login, "transaction_key": "simulated-key-1"}
    neighbour = await shared_stack.shop(gateway)
    connection = await asyncpg.connect(shared_stack.dsn)
    await admin.update_merchant(connection, neighbour.merchant_id, duplicates="reject")
    await admin.set_processor_account(
        connection, Vault(ENCRYPTION_KEY), AUTHORIZE_NET, shop.merchant_id, "live", login
    )
    _, secret = await admin.create_key(connection, shop.merchant_id, mode="live")
    await connection.close()
    live = Shop(shop.merchant_id, secret, shop.login, gateway.url)
    bank = {
        "account_type": "checking", "routing_number": "121042882",
        "account_number": "123456789", "name_on_account": "Ada Byron",
    }  # fmt: skip
    purchases: list[tuple[Shop, dict[str, Any]]] = [
        (shop, {}),
        (neighbour, {}),
        (live, {}),
        (shop, {"payment_method": card(MASTERCARD)}),
        (shop, {"payment_method": {"type": "bank_account", "bank_account": bank}}),
        (shop, {"amount": 2501}),
        (shop, {"order_reference": "order-8"}),
        (shop, {"order_reference": None}),
    ]
    first = [await pay(at, **over) for at, over in purchases]
    assert [answer.status_code for answer in first] == [201] * len(purchases)
    for taken, (at, over) in zip(first, purchases, strict=True):
        assert refused_for(await pay(at, **over, description="again")) == taken.json()["id"]
    for _ in range(2):  # a token has no number that could be compared
        token = await mint_token(shared_stack.simulator, shop.login)
        by_token = {"type": "accept_token", "accept_token": token}
        assert (await pay(shop, payment_method=by_token)).status_code == 201
    for each in (neighbour, live):
        await each.client.aclose()


async def test_the_setting_is_changed_and_shown_by_the_admin_api(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    """It is off at first: then nothing is written or compared. Gateways follow within a second."""
    path = f"{gateway.url}/api/v1/admin/merchants/mer_{shop.merchant_id.hex}"
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    first = (await pay(shop)).json()
    assert "possible_duplicate_of" not in (await pay(shop)).json()
    guards = "SELECT FROM duplicate_guards WHERE merchant_id = $1"
    assert await shared_stack.fetch(guards, shop.merchant_id) == []
    async with http_client(headers=headers) as operator:
        before = (await operator.get(path)).json()
        assert (before["duplicates"], before["duplicate_window_seconds"]) == ("off", 120)
        for bad in ({"duplicates": "warn"}, {"duplicate_window_seconds": 0},
                    {"duplicate_window_seconds": 86_401}):  # fmt: skip
            assert (await operator.patch(path, json=bad)).status_code == 422
        asked = {"duplicates": "reject", "duplicate_window_seconds": 86_400}
        changed = (await operator.patch(path, json=asked)).json()
        assert asked.items() <= changed.items()

        async def is_refused() -> bool:
            return (await pay(shop, order_reference="new")).status_code == 409

        await until(is_refused, promised_s=2)
        await operator.patch(path, json={"duplicates": "off"})

        async def is_taken() -> bool:
            return (await pay(shop, order_reference="new")).status_code == 201

        await until(is_taken, promised_s=2)
    assert (await shop.payment(first["id"]))["status"] == "captured"


async def groups(shop: Shop, **query: str) -> list[dict[str, Any]]:
    """Return every group, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await shop.client.get("/payments/duplicates", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        if not page["has_more"]:
            return found
        query["cursor"] = page["next_cursor"]


async def test_payments_that_look_alike_are_listed_whoever_checked(
    shared_stack: Stack, shop: Shop
) -> None:
    """An operator looks through yesterday's payments of a merchant who checks nothing."""
    twice = [(await pay(shop)).json()["id"] for _ in range(2)]
    await pay(shop, **DECLINES)
    await shop.void((await pay(shop)).json()["id"])
    single = await pay(shop, order_reference="another")
    thrice = [(await pay(shop, order_reference=None)).json()["id"] for _ in range(3)]
    late = (await pay(shop, amount=900)).json()["id"]
    await pay(shop, amount=900)
    await shared_stack.fetch(
        "UPDATE payments SET created_at = created_at - interval '121 s' WHERE id = $1",
        payment_uuid(late),
    )
    found = await groups(shop)
    assert [[each["id"] for each in group["payments"]] for group in found] == [twice, thrice]
    assert single.json()["id"] not in str(found)
    assert found[0]["order_reference"] == "order-7"
    assert found[0]["payment_method"]["last4"] == "1111"
    assert await groups(shop, limit="1") == found
    past = {"created_from": "2020-01-01T00:00:00Z", "created_to": "2020-02-01T00:00:00Z"}
    assert await groups(shop, **past) == []
    past["created_to"] = "2020-02-01T00:00:01Z"
    too_long = await shop.client.get("/payments/duplicates", params=past)
    assert too_long.json()["errors"][0]["code"] == "range_too_long"
