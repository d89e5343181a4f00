"""What the vault does not answer, and what dies in between: every method ends, and ends right.

The simulator's own records say what the vault has. `minutes_pass` makes what a shop has done two
minutes older, so that no test waits until the vault is certain.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from customers.shops import EVERYTHING, add_card, card_body, new_customer, profiles, vault_call
from harness import QUICK, Shop, Stack, mint_token, own_stack, until

NEW_PROFILE, NEW_METHOD = "createCustomerProfileRequest", "createCustomerPaymentProfileRequest"
DELETE_METHOD = "deleteCustomerPaymentProfileRequest"
OF_CALLS = QUICK | {"processor_deadline_s": "0.7"}

stack = own_stack(**OF_CALLS)


@pytest.fixture(scope="module", autouse=True)
async def worker(stack: Stack) -> AsyncIterator[None]:
    """Run a worker, without which nothing unanswered ends."""
    started = stack.worker(**OF_CALLS)
    await started.logged("working on")
    yield
    assert started.terminate() == 0, started.logs()


@pytest.fixture
async def keeper(stack: Stack) -> AsyncIterator[Shop]:
    """Return a new shop with a key that may do everything."""
    shop = await stack.shop(stack.only_gateway)
    made = await stack.with_key(shop, scopes=EVERYTHING)
    yield made
    await stack.simulator.clear_faults()
    for each in (shop, made):
        await each.client.aclose()


async def fault(stack: Stack, shop: Shop, kind: str, method: str, **more: Any) -> None:
    await stack.simulator.post(
        "/faults", kind=kind, method=method, login=shop.login, count=1, **more
    )


async def minutes_pass(stack: Stack, shop: Shop) -> None:
    """Let two minutes have passed since all that the shop has done, and its work be due."""
    for table, columns in (
        ("payment_methods", ("created_at", "stored_at")),
        ("customer_profiles", ("created_at", "made_at")),
    ):
        older = ", ".join(f"{name} = {name} - interval '2 minutes'" for name in columns)
        await stack.fetch(f"UPDATE {table} SET {older} WHERE merchant_id = $1", shop.merchant_id)
    sql = "UPDATE vault_work SET due_at = db_now() WHERE merchant_id = $1"
    await stack.fetch(sql, shop.merchant_id)


async def ends(stack: Stack, shop: Shop, method_id: str, *states: str) -> dict[str, Any]:
    """Wait until a method has one of these states and nothing is left to do. `deleted` is none."""
    seen: list[Any] = []

    async def ended() -> bool:
        answer = await shop.client.get(f"/payment_methods/{method_id}")
        method = answer.json() if answer.status_code == 200 else {"state": "deleted"}
        left = await stack.value(
            "SELECT count(*) FROM vault_work WHERE merchant_id = $1", shop.merchant_id
        )
        seen[:] = [method, left]
        return method["state"] in states and left == 0

    await until(ended, what=(method_id, states, seen))
    found: dict[str, Any] = seen[0]
    return found


async def in_vault(stack: Stack, shop: Shop) -> list[str]:
    """Return the expiry dates of all methods that the vault has of the shop."""
    return sorted(
        method["expiry"]
        for profile in await profiles(stack, shop)
        for method in profile["payment_profiles"]
    )


async def types_told(stack: Stack, shop: Shop) -> list[str]:
    rows = await stack.fetch(
        "SELECT type FROM events WHERE merchant_id = $1 ORDER BY created_at", shop.merchant_id
    )
    return [row["type"] for row in rows]


@pytest.mark.parametrize("method", [NEW_PROFILE, NEW_METHOD])
async def test_a_method_whose_answer_was_lost_is_found_in_the_vault(
    stack: Stack, keeper: Shop, method: str
) -> None:
    customer = await new_customer(keeper)
    if method == NEW_METHOD:
        await add_card(keeper, customer, exp_year=2031)
    await fault(stack, keeper, "drop_reply", method)
    path, key = f"/customers/{customer['id']}/payment_methods", str(uuid.uuid4())
    asked = await keeper.post(path, card_body(), key=key)
    assert (asked.status_code, asked.json()["state"]) == (202, "making"), asked.text
    made = await ends(stack, keeper, asked.json()["id"], "active")
    assert (made["last4"], made["exp_year"]) == ("1111", 2035)
    again = await keeper.post(path, card_body(), key=key)
    assert (again.status_code, again.json()["id"]) == (201, made["id"])
    assert (await in_vault(stack, keeper)).count("2035-12") == 1
    assert (await types_told(stack, keeper))[-1] == "payment_method.created"


async def test_what_the_vault_never_got_ends_as_failed_and_blocks_nothing(
    stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    path, key = f"/customers/{customer['id']}/payment_methods", str(uuid.uuid4())
    await fault(stack, keeper, "reset_before", NEW_PROFILE)
    asked = await keeper.post(path, card_body(), key=key)
    assert asked.status_code == 202, asked.text
    other = await add_card(keeper, customer, exp_year=2031)
    await minutes_pass(stack, keeper)
    failed = await ends(stack, keeper, asked.json()["id"], "failed")
    assert failed["failure"]["code"] == "not_stored"
    again = await keeper.post(path, card_body(), key=key)
    assert (again.status_code, again.json()["code"]) == (409, "not_executed")
    assert await in_vault(stack, keeper) == ["2031-12"]
    assert [each["id"] for each in await keeper.all(path)] == [other["id"]]


async def test_what_was_never_sent_leaves_the_key_unused(stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    token = await mint_token(stack.simulator, keeper.login)
    path, key = f"/customers/{customer['id']}/payment_methods", str(uuid.uuid4())
    body = {"payment_method": {"type": "accept_token", "accept_token": token}}
    async with stack.refusing():
        asked = await keeper.post(path, body, key=key)
    assert (asked.status_code, asked.json()["code"]) == (503, "processor_unavailable")
    again = await keeper.post(path, body, key=key)
    assert (again.status_code, again.json()["state"]) == (201, "active")


async def test_a_profile_that_the_vault_does_not_show_yet_holds_up_no_method(
    stack: Stack, keeper: Shop
) -> None:
    await stack.simulator.post("/settings", login=keeper.login, profile_lag_ms=60_000)
    customer = await new_customer(keeper)
    first = await add_card(keeper, customer)
    second = await add_card(keeper, customer, exp_year=2036)
    assert (first["state"], second["state"]) == ("active", "active")
    assert len(await profiles(stack, keeper)) == 2


async def test_a_deletion_that_was_not_answered_is_repeated(stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    lost, refused = [await add_card(keeper, customer, exp_year=2031 + n) for n in range(2)]
    for method, kind in ((lost, "drop_reply"), (refused, "reset_before")):
        await fault(stack, keeper, kind, DELETE_METHOD)
        path = f"/payment_methods/{method['id']}"
        assert (await keeper.client.delete(path)).status_code == 204
        assert (await keeper.client.get(path)).status_code == 404
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, lost["id"], "deleted")
    assert await in_vault(stack, keeper) == []
    states = await stack.fetch(
        "SELECT DISTINCT state FROM payment_methods WHERE merchant_id = $1", keeper.merchant_id
    )
    assert [row["state"] for row in states] == ["deleted"]


async def test_a_change_that_was_not_answered_is_repeated(stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    method = await add_card(keeper, customer)
    await fault(stack, keeper, "reset_before", "updateCustomerPaymentProfileRequest")
    path, change = f"/payment_methods/{method['id']}", {"exp_month": 11, "exp_year": 2036}
    asked = await keeper.client.patch(path, json=change)
    assert (asked.status_code, asked.json()["exp_year"]) == (202, 2035), asked.text
    await minutes_pass(stack, keeper)

    async def changed() -> bool:
        return bool((await keeper.client.get(path)).json()["exp_year"] == 2036)

    await until(changed, what="the expiry is changed")
    await ends(stack, keeper, method["id"], "active")
    assert await in_vault(stack, keeper) == ["2036-11"]
    assert (await types_told(stack, keeper))[-1] == "payment_method.updated"


async def test_what_was_deleted_at_the_processor_is_noticed_when_it_is_used(
    stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    used, later = [await add_card(keeper, customer, exp_year=2031 + n) for n in range(2)]
    (profile,) = await profiles(stack, keeper)
    await vault_call(
        *(stack, keeper, "deleteCustomerProfileRequest"),
        customerProfileId=profile["customer_profile_id"],
    )
    validate = f"/payment_methods/{used['id']}/validate"
    said = await keeper.client.post(validate, json={})
    assert said.json()["valid"] is None  # it may only not be shown yet
    await minutes_pass(stack, keeper)
    said = await keeper.client.post(validate, json={})
    assert said.json()["valid"] is False
    assert (await keeper.client.get(f"/payment_methods/{used['id']}")).status_code == 404
    assert (await keeper.client.delete(f"/payment_methods/{later['id']}")).status_code == 204
    third = await add_card(keeper, customer)
    assert third["state"] == "active"
    await ends(stack, keeper, later["id"], "deleted")
    states = await stack.fetch(
        "SELECT state FROM customer_profiles WHERE merchant_id = $1 ORDER BY id", keeper.merchant_id
    )
    assert [row["state"] for row in states] == ["deleted", "active"]
    now = (await keeper.client.get(f"/customers/{customer['id']}")).json()
    assert now["default_payment_method"] == third["id"]


async def test_a_customer_deleted_while_a_card_is_stored_leaves_nothing_in_the_vault(
    stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    await fault(stack, keeper, "late_reply", NEW_PROFILE, delay_ms=400)
    path = f"/customers/{customer['id']}/payment_methods"
    storing = asyncio.create_task(keeper.post(path, card_body()))

    async def begun() -> bool:
        sql = "SELECT count(*) FROM payment_methods WHERE merchant_id = $1"
        return bool(await stack.value(sql, keeper.merchant_id))

    await until(begun, what="the intent is committed")
    assert (await keeper.client.delete(f"/customers/{customer['id']}")).status_code == 204
    asked = await storing
    assert asked.status_code == 404, asked.text
    await minutes_pass(stack, keeper)
    row = await stack.fetch(
        "SELECT id FROM payment_methods WHERE merchant_id = $1", keeper.merchant_id
    )
    await ends(stack, keeper, f"pm_{row[0]['id'].hex}", "deleted")
    assert await profiles(stack, keeper) == []
    assert (await keeper.client.post(path, json=card_body())).status_code != 201


@pytest.mark.parametrize(
    ("point", "state", "in_vault_then"),
    [
        ("method_begun", "failed", []),
        ("method_answered", "active", ["2035-12"]),
        ("method_recorded", "active", ["2035-12"]),
    ],
)
async def test_a_gateway_that_dies_while_it_stores_a_card(
    stack: Stack, keeper: Shop, point: str, state: str, in_vault_then: list[str]
) -> None:
    mortal = await stack.gateway(**OF_CALLS, failpoint=point)
    customer, key = await new_customer(keeper), str(uuid.uuid4())
    path = f"/customers/{customer['id']}/payment_methods"
    async with keeper.at(mortal.url).client as client:
        with pytest.raises(httpx.HTTPError):
            await client.post(path, json=card_body(), headers={"idempotency-key": key})
    (row,) = await stack.fetch(
        "SELECT id FROM payment_methods WHERE merchant_id = $1", keeper.merchant_id
    )
    method_id = f"pm_{row['id'].hex}"
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, method_id, state)
    assert await in_vault(stack, keeper) == in_vault_then
    again = await keeper.post(path, card_body(), key=key)
    assert again.status_code == (409 if state == "failed" else 201)
    assert await in_vault(stack, keeper) == in_vault_then


@pytest.mark.parametrize("point", ["method_deleting", "method_gone", "customer_deleting"])
async def test_a_gateway_that_dies_while_it_deletes(stack: Stack, keeper: Shop, point: str) -> None:
    mortal = await stack.gateway(**OF_CALLS, failpoint=point)
    customer = await new_customer(keeper)
    method = await add_card(keeper, customer)
    path = f"/payment_methods/{method['id']}"
    if point == "customer_deleting":
        path = f"/customers/{customer['id']}"
    async with keeper.at(mortal.url).client as client:
        with suppress(httpx.HTTPError):
            await client.delete(path)
    assert (await keeper.client.get(f"/payment_methods/{method['id']}")).status_code == 404
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, method["id"], "deleted")
    assert await in_vault(stack, keeper) == []
