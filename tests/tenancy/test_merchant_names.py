"""No two merchants share a name, ignoring case, even if both are created at once."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from easypay import ids
from easypay.command_line import demo_merchant as demo
from easypay.merchants import admin
from harness import (
    ADMIN_KEY,
    ENCRYPTION_KEY,
    Gateway,
    Stack,
    connected,
    held,
    http_client,
    random_name,
    until_locked,
)


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with http_client(
        base_url=f"{gateway.url}/api/v1/admin", headers=headers, timeout=20
    ) as client:
        yield client


def fields(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(each["pointer"], each["code"]) for each in answer.json()["errors"]]


async def test_a_taken_name_is_refused_with_the_id_of_its_merchant(api: httpx.AsyncClient) -> None:
    name = f"Café {random_name()}"
    first = (await api.post("/merchants", json={"name": f"  {name} "})).json()
    assert first["name"] == name
    for same in (name, name.upper(), f"\u2003{name.lower()}\u00a0"):
        refused = await api.post("/merchants", json={"name": same})
        assert fields(refused) == [("#/name", "name_taken")]
        assert first["id"] in refused.text
        assert "Choose another name" in refused.text

    other = (await api.post("/merchants", json={"name": f"{name} 2"})).json()
    taken = await api.patch(f"/merchants/{other['id']}", json={"name": name})
    assert fields(taken) == [("#/name", "name_taken")]
    again = await api.patch(f"/merchants/{first['id']}", json={"name": name.upper()})
    assert (again.status_code, again.json()["name"]) == (200, name.upper()), "its own name"


@pytest.mark.parametrize(
    "name", ["", " ", "\u2003\u00a0", "\u200b\u2060", "a\nb", "\x00", "\x85", "a\u202eb"]
)
async def test_a_blank_name_is_refused(api: httpx.AsyncClient, name: str) -> None:
    refused = await api.post("/merchants", json={"name": name})
    assert [pointer for pointer, _ in fields(refused)] == ["#/name"]
    assert refused.json()["errors"][0]["detail"].startswith("name must")


async def test_of_two_concurrent_requests_one_gets_the_name(
    shared_stack: Stack, api: httpx.AsyncClient
) -> None:
    """Without the lock, both would check the name before either had taken it."""
    name = f"twins {random_name()}"
    async with held(shared_stack.dsn, "LOCK TABLE merchants IN SHARE MODE"):
        two = [asyncio.create_task(api.post("/merchants", json={"name": name})) for _ in range(2)]
        waiting = "one waits to insert, the other for the name lock"
        await until_locked(shared_stack.dsn, sessions=2, what=waiting)
    answers = await asyncio.gather(*two)
    assert sorted(answer.status_code for answer in answers) == [201, 422]
    rows = await shared_stack.fetch("SELECT 1 FROM merchants WHERE name = $1", name)
    assert len(rows) == 1


async def test_old_merchants_that_share_a_name_can_still_be_changed(
    shared_stack: Stack, api: httpx.AsyncClient
) -> None:
    """Such merchants date from versions that did not require distinct names."""
    name, old = random_name(), [ids.new_id(), ids.new_id()]
    for each in old:
        await shared_stack.fetch(
            "INSERT INTO merchants (merchant_id, name, currencies) VALUES ($1, $2, '{USD}')",
            each,
            name,
        )
    for each in old:
        path = f"/merchants/{ids.typed(ids.MERCHANT, each)}"
        assert (await api.patch(path, json={"disabled": True, "name": name})).status_code == 200
    new = await api.patch(path, json={"name": f"{name} 2"})
    assert new.status_code == 200, new.text


async def test_the_demo_merchant_is_found_again_without_its_saved_state(
    shared_stack: Stack,
) -> None:
    async def prepare(kept: dict[str, str]) -> dict[str, str]:
        return await demo.prepare(
            shared_stack.dsn,
            kept,
            encryption_key=ENCRYPTION_KEY,
            login_id="demo",
            transaction_key="demo-key-1",
        )

    first = await prepare({})
    assert await prepare(first) == first
    lost = await prepare({})
    assert lost["demo_merchant"] == first["demo_merchant"]
    assert lost["demo_api_key"] != first["demo_api_key"]
    async with connected(shared_stack.dsn) as connection:
        assert await admin.merchant_named(connection, demo.NAME.upper()) is not None
