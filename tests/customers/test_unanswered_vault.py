"""What the vault does not answer, and what dies in between: every method ends, and ends right.

The simulator's own records say what the vault has. `minutes_pass` makes what a shop has done two
minutes older, so that no test waits until the vault is certain.
"""

import asyncio
import os
import signal
import uuid
from contextlib import suppress
from typing import Any

import httpx
import pytest

from customers.shops import (
    NEW_METHOD,
    NEW_PROFILE,
    OF_CALLS,
    add_card,
    card_body,
    ends,
    fault,
    in_vault,
    is_stopped,
    minutes_pass,
    new_customer,
    profiles,
    vault_call,
)
from harness import Shop, Stack, mint_token, own_stack, until
from harness.stored import at_wire

DELETE_METHOD = "deleteCustomerPaymentProfileRequest"
CHANGE, SHOW_METHOD = "updateCustomerPaymentProfileRequest", "getCustomerPaymentProfileRequest"
LATER = {"exp_month": 11, "exp_year": 2036}

stack = own_stack(**OF_CALLS)
pytestmark = pytest.mark.usefixtures("worker")


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


async def column(stack: Stack, shop: Shop, name: str) -> Any:
    """Return a column of the shop's only or newest method."""
    (row, *_) = await stack.fetch(
        f"SELECT {name} FROM payment_methods WHERE merchant_id = $1 ORDER BY id DESC",
        shop.merchant_id,
    )
    return row[0]


async def is_wanted(stack: Stack, shop: Shop) -> None:
    async def wanted() -> bool:
        return await column(stack, shop, "wanted") is not None

    await until(wanted, what="the change is committed")


async def slow(stack: Stack, shop: Shop, method: str, ms: float = 400, **more: Any) -> None:
    """Let the next call of this kind be answered late, and so by `code`, if it is given."""
    if more:
        await fault(stack, shop, "code_before", method, **more)
    await fault(stack, shop, "latency", method, ms=ms)


async def test_a_deletion_is_not_ended_by_a_change_that_is_refused_after_it(
    stack: Stack, keeper: Shop
) -> None:
    method = await add_card(keeper, await new_customer(keeper))
    path = f"/payment_methods/{method['id']}"
    await slow(stack, keeper, CHANGE, code="E00013")
    await fault(stack, keeper, "reset_before", DELETE_METHOD)
    changing = asyncio.create_task(keeper.client.patch(path, json=LATER))
    await is_wanted(stack, keeper)
    assert (await keeper.client.delete(path)).status_code == 204
    assert (await changing).status_code == 422
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, method["id"], "deleted")
    assert await in_vault(stack, keeper) == []


async def test_a_deletion_is_not_ended_by_the_worker_that_changes_the_method(
    stack: Stack, keeper: Shop
) -> None:
    method = await add_card(keeper, await new_customer(keeper))
    path = f"/payment_methods/{method['id']}"
    await fault(stack, keeper, "reset_before", CHANGE)
    assert (await keeper.client.patch(path, json=LATER)).status_code == 202
    await slow(stack, keeper, CHANGE)
    await fault(stack, keeper, "reset_before", DELETE_METHOD)
    await minutes_pass(stack, keeper)
    work = "SELECT max(attempt) FROM vault_work WHERE merchant_id = $1"

    async def claimed() -> bool:
        return bool(await stack.value(work, keeper.merchant_id))

    await until(claimed, what="a worker has the change")
    assert (await keeper.client.delete(path)).status_code == 204
    assert await column(stack, keeper, "state") == "deleting"

    async def changed() -> bool:
        return await in_vault(stack, keeper) == ["2036-11"]

    await until(changed, what="the worker's change is made")
    await asyncio.sleep(0.5)  # it ends its work, if it may
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, method["id"], "deleted")
    assert await in_vault(stack, keeper) == []


async def test_two_changes_at_once_are_made_one_after_the_other(stack: Stack, keeper: Shop) -> None:
    """A change sends back what it has read: one that is slow would undo another."""
    address = {"line1": "1 Old Road", "postal_code": "98004"}
    method = await add_card(keeper, await new_customer(keeper), billing_address=address)
    path = f"/payment_methods/{method['id']}"
    await fault(stack, keeper, "late_reply", SHOW_METHOD, delay_ms=300)
    first = asyncio.create_task(keeper.client.patch(path, json=LATER))
    await is_wanted(stack, keeper)
    new = {"billing_address": {"line1": "2 New Road", "postal_code": "10001"}}
    second = await keeper.client.patch(path, json=new)
    assert ((await first).status_code, second.status_code) == (200, 202)
    await ends(stack, keeper, method["id"], "active")
    now = (await keeper.client.get(path)).json()
    assert (now["billing_address"]["line1"], now["exp_year"]) == ("2 New Road", 2036)
    (profile,) = await profiles(stack, keeper)
    shown = await at_wire(
        *(stack, keeper.login, "getCustomerProfileRequest"),
        customerProfileId=profile["customer_profile_id"],
    )
    assert shown["profile"]["paymentProfiles"][0]["billTo"]["address"] == "2 New Road"
    assert await in_vault(stack, keeper) == ["2036-11"]


async def test_a_new_default_leaves_a_change_that_was_not_answered(
    stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    await add_card(keeper, customer, exp_year=2031)
    method = await add_card(keeper, customer)
    path = f"/payment_methods/{method['id']}"
    await fault(stack, keeper, "reset_before", CHANGE)
    assert (await keeper.client.patch(path, json=LATER)).status_code == 202
    asked = await keeper.client.patch(path, json={"default": True})
    assert (asked.status_code, asked.json()["default"]) == (200, True)
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, method["id"], "active")
    assert (await keeper.client.get(path)).json()["exp_year"] == 2036


async def test_a_gateway_that_was_stopped_stores_nothing_when_it_goes_on(
    stack: Stack, keeper: Shop
) -> None:
    """The method was called absent meanwhile, so a shop may have stored the card again."""
    stopped = await stack.gateway(**OF_CALLS, failpoint="method_begun stops")
    customer, key = await new_customer(keeper), str(uuid.uuid4())
    path = f"/customers/{customer['id']}/payment_methods"
    there = keeper.at(stopped.url)
    storing = asyncio.create_task(there.post(path, card_body(), key=key))
    await is_stopped(stopped)
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, f"pm_{(await column(stack, keeper, 'id')).hex}", "failed")
    await asyncio.sleep(float(OF_CALLS["processor_deadline_s"]))  # which began before the intent
    os.kill(stopped.pid, signal.SIGCONT)
    assert (await storing).status_code == 503
    assert await profiles(stack, keeper) == []
    again = await keeper.post(path, card_body(), key=key)
    assert (again.status_code, again.json()["code"]) == (409, "not_executed")
    await there.client.aclose()


async def test_a_change_that_a_worker_has_recorded_undoes_no_later_one(
    stack: Stack, keeper: Shop
) -> None:
    stopped = await stack.gateway(**OF_CALLS, failpoint="method_changed stops")
    method = await add_card(keeper, await new_customer(keeper))
    path, there = f"/payment_methods/{method['id']}", keeper.at(stopped.url)
    changing = asyncio.create_task(there.client.patch(path, json=LATER))
    await is_stopped(stopped)
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, method["id"], "active")
    newest = await keeper.client.patch(path, json={"exp_month": 10, "exp_year": 2037})
    assert newest.status_code == 200, newest.text
    os.kill(stopped.pid, signal.SIGCONT)
    late = await changing
    assert (late.status_code, late.json()["exp_year"]) == (200, 2037)
    assert await in_vault(stack, keeper) == ["2037-10"]
    await there.client.aclose()


@pytest.mark.parametrize(("code", "status"), [("E00007", 502), (None, 200)])
async def test_what_a_repeat_was_told_of_does_not_vanish(
    stack: Stack, keeper: Shop, code: str | None, status: int
) -> None:
    """The first request ends without a method of its own: nothing was sent, or the customer has
    the card already. The repeat's method says so."""
    customer, key = await new_customer(keeper), str(uuid.uuid4())
    path = f"/customers/{customer['id']}/payment_methods"
    before = None if code else await add_card(keeper, customer)
    call = NEW_METHOD if before else NEW_PROFILE
    await slow(stack, keeper, call, **({"code": code} if code else {}))
    storing = asyncio.create_task(keeper.post(path, card_body(), key=key))
    sql = "SELECT count(*) FROM payment_methods WHERE merchant_id = $1 AND state = 'making'"

    async def begun() -> bool:
        return bool(await stack.value(sql, keeper.merchant_id))

    await until(begun, what="the intent is committed")
    repeat = await keeper.post(path, card_body(), key=key)
    assert (repeat.status_code, (await storing).status_code) == (202, status)
    told = (await keeper.client.get(f"/payment_methods/{repeat.json()['id']}")).json()
    why = "stored_before" if before else "not_sent"
    assert (told["state"], told["failure"]["code"]) == ("failed", why)
    again = await keeper.post(path, card_body(), key=key)
    assert again.status_code == (200 if before else 409)
    assert before is None or again.json()["id"] == before["id"]
