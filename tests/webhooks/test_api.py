"""Endpoints over HTTP: of a merchant and mode alone, with a secret that is told once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from easypay.merchants.model import SCOPES
from harness import Gateway, Shop, Stack

URL = "https://shop.example/hooks"


@pytest.fixture
async def hooks(shared_stack: Stack, shop: Shop) -> AsyncIterator[Shop]:
    """Return the shop with a key that may do everything."""
    made = await shared_stack.with_key(shop, scopes=SCOPES)
    yield made
    await made.client.aclose()


async def create(hooks: Shop, **body: Any) -> dict[str, Any]:
    answer = await hooks.client.post("/webhook-endpoints", json={"url": URL, **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


async def test_an_endpoint_is_made_changed_and_deleted(shared_stack: Stack, hooks: Shop) -> None:
    made = await create(hooks, types=["payment.captured"], description="The shop")
    endpoint, path = made["endpoint"], f"/webhook-endpoints/{made['endpoint']['id']}"
    assert made["secret"].startswith("whsec_")
    assert (await hooks.client.get(path)).json() == endpoint
    listed = (await hooks.client.get("/webhook-endpoints")).json()
    assert listed["data"] == [endpoint]
    assert made["secret"] not in str(listed)
    stored = await shared_stack.fetch("SELECT w::text AS row FROM webhook_endpoints w")
    assert not any(made["secret"][6:] in row["row"] for row in stored)
    changed = await hooks.client.patch(path, json={"types": [], "paused": True})
    assert changed.json() | {"updated_at": ""} == endpoint | {
        "types": [],
        "state": "paused",
        "updated_at": "",
    }
    rotated = (await hooks.client.post(f"{path}/rotate-secret", json={})).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["endpoint"]["old_secret_until"] is not None
    assert (await hooks.client.delete(path)).status_code == 204
    assert (await hooks.client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"url": "http://10.0.0.1/"},
        {"url": "https://[::1]/"},
        {"url": "https://2130706433/"},
        {"url": "shop.example"},
        {"url": URL, "types": ["payment.paid"]},
        {"url": URL, "description": "two\nlines"},
        {"url": URL, "description": "4111111111111111"},
        {"url": URL, "description": "x" * 150 + "\0"},
        {"url": URL, "description": "x" * 150 + " 4111111111111111"},
        {"types": []},
    ],
)
async def test_a_bad_endpoint_is_refused(hooks: Shop, body: Any) -> None:
    answer = await hooks.client.post("/webhook-endpoints", json=body)
    assert answer.status_code == 422, answer.text


async def test_another_merchants_endpoint_is_not_found(
    shared_stack: Stack, gateway: Gateway, hooks: Shop
) -> None:
    made = await create(hooks)
    other = await shared_stack.shop(gateway)
    stranger = await shared_stack.with_key(other, scopes=SCOPES)
    live = await shared_stack.with_key(hooks, mode="live", scopes=SCOPES)
    path = f"/webhook-endpoints/{made['endpoint']['id']}"
    for client in (stranger.client, live.client):
        assert (await client.get("/webhook-endpoints")).json()["data"] == []
        for method, more in (
            *(("GET", ""), ("DELETE", ""), ("GET", "/deliveries")),
            ("GET", f"/deliveries/wha_{'0' * 32}"),
            *(("POST", "/rotate-secret"), ("POST", "/test")),
        ):
            assert (await client.request(method, path + more)).status_code == 404
        assert (await client.patch(path, json={"paused": True})).status_code == 404
        again = await client.post(f"{path}/redeliver", json={"since": "2026-01-01T00:00:00Z"})
        assert again.status_code == 404
        await client.aclose()
    await other.client.aclose()


async def test_a_merchant_has_at_most_twenty_endpoints(hooks: Shop) -> None:
    for _ in range(20):
        await create(hooks)
    answer = await hooks.client.post("/webhook-endpoints", json={"url": URL})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "too_many"
