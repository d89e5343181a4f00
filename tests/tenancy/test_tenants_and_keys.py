"""Merchants never see each other, test never sees live, and a revoked key works nowhere."""

import asyncio
import time
import uuid
from typing import Any

import pytest

from easypay import ids
from easypay.api.routes import ROUTES
from easypay.merchants import admin
from easypay.merchants.model import SCOPES
from harness import ADMIN_KEY, Gateway, Shop, Stack, connected, http_client, until

pytestmark = pytest.mark.over("simulated", "recorded")
OF_A_PAYMENT = [
    route for route in ROUTES if route.path.startswith("/api/v1/payments/{id}")
]  # fmt: skip


@pytest.mark.parametrize("route", OF_A_PAYMENT, ids=lambda route: route.operation_id)
async def test_another_merchants_payment_is_not_found(
    shared_stack: Stack, gateway: Gateway, shop: Shop, route: Any
) -> None:
    theirs = await shared_stack.shop(gateway)
    payment = (await theirs.paid(capture="manual"))["id"]
    nowhere = ids.typed(ids.PAYMENT, ids.new_id())
    asks = await shared_stack.with_key(shop, scopes=SCOPES)

    async def ask(payment_id: str) -> tuple[int, dict[str, Any]]:
        answer = await asks.client.request(
            route.method,
            route.path.removeprefix("/api/v1").replace("{id}", payment_id),
            headers={"idempotency-key": str(uuid.uuid4())},
            json={} if route.body else None,
        )
        problem = answer.json()
        del problem["request_id"]
        problem["detail"] = problem["detail"].replace(payment_id, "ID")
        return answer.status_code, problem

    assert await ask(payment) == await ask(nowhere)
    assert (await ask(payment))[0] == 404
    assert (await theirs.payment(payment))["status"] == "authorized"
    assert await shop.all("/payments") == []
    await asks.client.aclose()


async def test_test_and_live_never_mix(shared_stack: Stack, gateway: Gateway, shop: Shop) -> None:
    live = await shared_stack.with_key(shop, mode="live")
    assert live.secret.startswith("ep_live_")
    refused = await live.pay()
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    await shared_stack.set_account(shop, mode="live")

    async def takes_live() -> Any:
        answer = await live.pay(key="same")
        return answer.json() if answer.status_code == 201 else None

    real = await until(takes_live)
    play = await shop.paid(key="same")
    assert (real["mode"], play["mode"]) == ("live", "test")
    assert real["id"] != play["id"]
    assert (await live.client.get(f"/payments/{play['id']}")).status_code == 404
    assert (await shop.client.get(f"/payments/{real['id']}")).status_code == 404
    assert [row["id"] for row in await live.all("/payments")] == [real["id"]]


async def test_scopes_are_enforced_on_every_route(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    payment = (await shop.paid())["id"]
    for scope in SCOPES:
        narrow = await shared_stack.with_key(shop, scopes=[scope])
        for route in ROUTES:
            if route.scope not in SCOPES:
                continue
            path = route.path.removeprefix("/api/v1").replace("{id}", payment)
            answer = await narrow.client.request(route.method, path.replace("{key:path}", "none"))
            assert (answer.status_code == 403) == (route.scope != scope), (scope, route.path)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic abc", "Bearer nonsense", "Bearer ep_test_sk_x"]
)
async def test_every_route_requires_a_valid_key(gateway: Gateway, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    async with http_client(base_url=gateway.url, headers=headers) as client:
        for route in ROUTES:
            if route.scope is not None:
                path = route.path.replace("{key:path}", "k")
                answer = await client.request(route.method, path)
                assert answer.status_code == 401, route.path
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["code"] == "invalid_api_key"


async def test_secrets_are_nowhere_in_the_database(shared_stack: Stack, shop: Shop) -> None:
    for table in ("api_keys", "processor_accounts", "merchants"):
        for row in await shared_stack.fetch(f"SELECT t::text AS said FROM {table} t"):
            assert shop.secret not in row["said"]
            assert b"simulated-key-1".hex() not in row["said"]
            assert "simulated-key-1" not in row["said"]


async def test_a_revoked_key_stops_working_in_every_process_within_a_second(
    gateway: Gateway, second_gateway: Gateway, shop: Shop
) -> None:
    shops = [shop, shop.at(second_gateway.url)]
    for each in shops:
        await until(lambda each=each: _works(each))  # both caches are warm
    async with http_client(
        base_url=f"{gateway.url}/api/v1/admin", headers={"authorization": f"Bearer {ADMIN_KEY}"}
    ) as client:
        merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
        keys = (await client.get(f"/merchants/{merchant}/keys")).json()["data"]
        path = f"/merchants/{merchant}/keys/{keys[0]['id']}"
        successor = (await client.post(f"{path}/rotate", json={"overlap_seconds": 3600})).json()
        assert await _works(shop), "the old key still works beside the new one"
        revoked = await client.post(f"{path}/revoke")
        since = time.monotonic()
        assert revoked.status_code == 200

    async def last_used(each: Shop) -> float:
        """Return when the last request was sent that the old key was good for."""
        last = 0.0
        while (sent := time.monotonic() - since) < 45:
            if not await _works(each):
                return last
            last = sent
        return last

    used = await asyncio.gather(*(last_used(each) for each in shops))
    assert max(used) <= 1.0, used
    heir = Shop(shop.merchant_id, successor["secret"], shop.login, second_gateway.url)
    assert await _works(heir)


async def test_a_disabled_merchant_is_refused_until_it_is_enabled(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    assert await _works(shop)
    async with connected(shared_stack.dsn) as connection:
        await admin.update_merchant(connection, shop.merchant_id, disabled=True)
        await until(lambda: _fails(shop), promised_s=1.5)
        await admin.update_merchant(connection, shop.merchant_id, disabled=False)
        await until(lambda: _works(shop), promised_s=1.5)


async def _works(shop: Shop) -> bool:
    return (await shop.client.get("/payments?limit=1")).status_code == 200


async def _fails(shop: Shop) -> bool:
    return (await shop.client.get("/payments?limit=1")).status_code == 401
