"""What the vault stores after it was called `failed` is removed there, and nothing else is.

The shop was told that nothing was stored, so nobody may find a card there later. The simulator
stores late by its own clock.
"""

import asyncio
import uuid
from functools import partial
from typing import Any

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
    minutes_pass,
    new_customer,
    profiles,
    vault_call,
)
from harness import Shop, Stack, http_client, mint_token, own_stack, run_easypay, until

stack = own_stack(**OF_CALLS)
pytestmark = pytest.mark.usefixtures("worker")

LATE_S = 600


@pytest.fixture(autouse=True)
async def clock(stack: Stack) -> Any:
    """Give the simulator the real time again."""
    yield
    await stack.simulator.post("/clock", real=True)


async def fails(stack: Stack, keeper: Shop, customer: dict[str, Any], call: str) -> str:
    """Let a card be called `failed` that the vault will store late. Return the method's id."""
    await fault(stack, keeper, "late_charge", call, delay_ms=LATE_S * 1000, by_clock=True)
    key = str(uuid.uuid4())
    asked = await keeper.post(f"/customers/{customer['id']}/payment_methods", card_body(), key=key)
    assert asked.status_code == 202, asked.text
    await minutes_pass(stack, keeper)
    made = await ends(stack, keeper, asked.json()["id"], "failed")
    assert made["failure"]["code"] == "not_stored"
    return str(made["id"])


async def removals(stack: Stack, keeper: Shop) -> int:
    """Return how many things the shop's account has removed from the vault."""
    asked = {"login": keeper.login, "contains": "deleteCustomer"}
    async with http_client() as client:
        answer = await client.get(f"{stack.simulator.url}/simulator/calls", params=asked)
    return sum('"Ok"' in call["reply"] for call in answer.json()["calls"])


async def is_stored_late(stack: Stack, keeper: Shop) -> None:
    before = await removals(stack, keeper)
    await stack.simulator.post("/clock", advance_s=LATE_S)

    async def stored() -> bool:
        # A look that was under way may have found it and removed it at once.
        return "2035-12" in await in_vault(stack, keeper) or (
            await removals(stack, keeper) > before
        )

    await until(stored, what="the vault has stored the card")


async def vault_has(stack: Stack, keeper: Shop, *expiries: str) -> None:
    seen: list[str] = []

    async def has() -> bool:
        seen[:] = await in_vault(stack, keeper)
        if seen != list(expiries):
            await minutes_pass(stack, keeper)  # a look that was under way came too early
        return seen == list(expiries)

    await until(has, what=("the vault has", expiries, seen))


@pytest.mark.parametrize("call", [NEW_PROFILE, NEW_METHOD])
async def test_a_card_that_is_stored_after_it_was_called_failed_is_removed(
    stack: Stack, keeper: Shop, call: str
) -> None:
    customer, other = await new_customer(keeper), await new_customer(keeper)
    kept = [await add_card(keeper, other, exp_year=2031)]
    if call == NEW_METHOD:
        kept.append(await add_card(keeper, customer, exp_year=2032))
    expiries = ["2031-12", "2032-12"][: len(kept)]
    await fails(stack, keeper, customer, call)
    await is_stored_late(stack, keeper)
    await minutes_pass(stack, keeper)
    await vault_has(stack, keeper, *expiries)
    if call == NEW_PROFILE:
        assert len(await profiles(stack, keeper)) == 1, "the late profile is gone, too"
    for method in kept:
        shown = (await keeper.client.get(f"/payment_methods/{method['id']}")).json()
        assert shown["state"] == "active"
    again = await add_card(keeper, customer)
    assert again["state"] == "active"


@pytest.mark.parametrize("erased", [False, True])
async def test_a_deleted_customer_leaves_no_card_that_was_stored_late(
    stack: Stack, keeper: Shop, erased: bool
) -> None:
    """It was stored so late that nobody looks for it any more."""
    customer, other = await new_customer(keeper), await new_customer(keeper)
    await add_card(keeper, other, exp_year=2031)
    await fails(stack, keeper, customer, NEW_PROFILE)
    await stack.fetch("DELETE FROM vault_work WHERE merchant_id = $1", keeper.merchant_id)
    await is_stored_late(stack, keeper)
    if erased:
        told = await keeper.client.post(f"/customers/{customer['id']}/erase", json={})
        assert told.status_code in (200, 202), told.text
    else:
        assert (await keeper.client.delete(f"/customers/{customer['id']}")).status_code == 204
    await vault_has(stack, keeper, "2031-12")
    assert len(await profiles(stack, keeper)) == 1


async def test_a_card_that_is_stored_after_its_customer_was_deleted_is_removed(
    stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    await fails(stack, keeper, customer, NEW_PROFILE)
    assert (await keeper.client.delete(f"/customers/{customer['id']}")).status_code == 204
    await minutes_pass(stack, keeper)
    sql = "SELECT count(*) FROM vault_work WHERE merchant_id = $1 AND due_at < db_now()"

    async def looked() -> bool:
        return await stack.value(sql, keeper.merchant_id) == 0

    await until(looked, what="nothing was found yet")
    await is_stored_late(stack, keeper)
    await minutes_pass(stack, keeper)
    await vault_has(stack, keeper)
    assert await profiles(stack, keeper) == []


async def test_a_card_that_is_stored_again_by_the_shop_is_kept(stack: Stack, keeper: Shop) -> None:
    customer = await new_customer(keeper)
    first = await add_card(keeper, customer, exp_year=2031)
    await fails(stack, keeper, customer, NEW_METHOD)
    await is_stored_late(stack, keeper)
    again = await add_card_anyhow(keeper, customer)
    await minutes_pass(stack, keeper)
    await nothing_is_looked_for(stack, keeper)
    assert await in_vault(stack, keeper) == ["2031-12", "2035-12"]
    for method in (first, again):
        shown = (await keeper.client.get(f"/payment_methods/{method['id']}")).json()
        assert shown["state"] == "active"


async def test_nothing_is_removed_while_the_shop_stores_the_card_again(
    stack: Stack, keeper: Shop
) -> None:
    """The vault has the card and the shop's second request finds it there: until that is recorded
    it looks like one that nobody knows."""
    customer = await new_customer(keeper)
    await add_card(keeper, customer, exp_year=2031)
    await fails(stack, keeper, customer, NEW_METHOD)
    await is_stored_late(stack, keeper)
    await fault(stack, keeper, "late_reply", NEW_METHOD, delay_ms=300)
    storing = asyncio.create_task(add_card_anyhow(keeper, customer))
    sql = "SELECT count(*) FROM payment_methods WHERE merchant_id = $1 AND state = 'making'"

    async def begun() -> bool:
        return bool(await stack.value(sql, keeper.merchant_id))

    await until(begun, what="the intent is committed")
    await stack.fetch(
        "UPDATE vault_work SET due_at = db_now() FROM payment_methods m WHERE m.id = vault_work.id"
        " AND m.state = 'failed' AND m.merchant_id = $1",
        keeper.merchant_id,
    )
    again = await storing
    await nothing_is_looked_for(stack, keeper)
    assert await in_vault(stack, keeper) == ["2031-12", "2035-12"]
    shown = (await keeper.client.get(f"/payment_methods/{again['id']}")).json()
    assert shown["state"] == "active"


async def add_card_anyhow(shop: Shop, customer: dict[str, Any]) -> dict[str, Any]:
    """Store the card, which the vault may have already."""
    answer = await shop.post(f"/customers/{customer['id']}/payment_methods", card_body())
    assert answer.status_code in (200, 201), answer.text
    made: dict[str, Any] = answer.json()
    return made


async def nothing_is_looked_for(stack: Stack, shop: Shop) -> None:
    """Let a day have passed, and wait until workers have looked for the last time."""
    await stack.fetch(
        "UPDATE payment_methods SET created_at = created_at - interval '25 hours'"
        " WHERE merchant_id = $1 AND state = 'failed'",
        shop.merchant_id,
    )

    async def done() -> bool:
        await stack.fetch(
            "UPDATE vault_work SET due_at = db_now() WHERE merchant_id = $1", shop.merchant_id
        )
        sql = "SELECT count(*) FROM vault_work WHERE merchant_id = $1"
        return await stack.value(sql, shop.merchant_id) == 0

    await until(done, what="nothing is looked for any more")


@pytest.mark.parametrize("stored_late", [False, True])
async def test_a_card_that_somebody_else_has_put_into_the_profile_is_not_removed(
    stack: Stack, keeper: Shop, stored_late: bool
) -> None:
    """Nothing is known of the digits of a token, so what appears may be the late card or not."""
    customer = await new_customer(keeper)
    await add_card(keeper, customer, exp_year=2031)
    method = await fails_by_token(stack, keeper, customer)
    (profile,) = await profiles(stack, keeper)
    number = {"cardNumber": "5424000000000015", "expirationDate": "2037-12"}
    await vault_call(
        *(stack, keeper, NEW_METHOD),
        customerProfileId=profile["customer_profile_id"],
        paymentProfile={"payment": {"creditCard": number}},
    )
    if stored_late:
        await stack.simulator.post("/clock", advance_s=LATE_S)

    async def stored() -> bool:
        return len(await in_vault(stack, keeper)) == 2 + stored_late

    await until(stored, what="the vault has stored the card")
    before = await in_vault(stack, keeper)
    assert "2037-12" in before
    await minutes_pass(stack, keeper)
    await is_parked(stack, keeper)
    assert await in_vault(stack, keeper) == before
    shown = await asyncio.to_thread(
        partial(run_easypay, "customer", "show", customer["id"], **stack.env)
    )
    assert f"parked: {method}: at the processor" in shown.out, shown
    # A person has looked and removed what nobody wants; so nothing is left to do.
    for each in (await profiles(stack, keeper))[0]["payment_profiles"]:
        if each["expiry"] != "2031-12":
            await vault_call(
                *(stack, keeper, "deleteCustomerPaymentProfileRequest"),
                customerProfileId=profile["customer_profile_id"],
                customerPaymentProfileId=each["payment_profile_id"],
            )
    await stack.fetch(
        "UPDATE vault_work SET parked_at = NULL WHERE merchant_id = $1", keeper.merchant_id
    )
    await nothing_is_looked_for(stack, keeper)


async def fails_by_token(stack: Stack, keeper: Shop, customer: dict[str, Any]) -> str:
    """Let a card that came as a token be called `failed`. Return the method's id."""
    await fault(stack, keeper, "late_charge", NEW_METHOD, delay_ms=LATE_S * 1000, by_clock=True)
    token = await mint_token(stack.simulator, keeper.login)
    body = {"payment_method": {"type": "accept_token", "accept_token": token}}
    asked = await keeper.post(f"/customers/{customer['id']}/payment_methods", body)
    assert asked.status_code == 202, asked.text
    await minutes_pass(stack, keeper)
    await ends(stack, keeper, asked.json()["id"], "failed")
    return str(asked.json()["id"])


async def is_parked(stack: Stack, keeper: Shop) -> None:
    sql = "SELECT count(*) FROM vault_work WHERE merchant_id = $1 AND parked_at IS NOT NULL"

    async def parked() -> bool:
        return await stack.value(sql, keeper.merchant_id) == 1

    await until(parked, what="the work waits for a person")


async def test_a_failed_method_that_the_shop_deletes_is_looked_for_all_the_same(
    stack: Stack, keeper: Shop
) -> None:
    customer = await new_customer(keeper)
    await add_card(keeper, customer, exp_year=2031)
    method = await fails(stack, keeper, customer, NEW_METHOD)
    assert (await keeper.client.delete(f"/payment_methods/{method}")).status_code == 204
    await is_stored_late(stack, keeper)
    await minutes_pass(stack, keeper)
    await vault_has(stack, keeper, "2031-12")
