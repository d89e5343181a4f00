"""A batch belongs to its merchant: what becomes of it when a key, the merchant or the account at
the processor changes while it runs."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from batches.batch_shop import (
    SCOPES,
    batch_of,
    batch_shop,
    becomes,
    payment_line,
    results,
    uploaded,
)
from easypay.merchants import admin
from harness import QUICK, Shop, Stack, audit, own_stack, random_name, until
from harness.forked import forked_workers

stack = own_stack(**QUICK)


@pytest.fixture(scope="module", autouse=True)
async def worker(stack: Stack) -> AsyncIterator[None]:
    async with forked_workers(stack, **QUICK) as workers:
        await workers.start()
        yield


@pytest.fixture
async def shop(stack: Stack) -> Shop:
    return await batch_shop(stack)


async def running(stack: Stack, shop: Shop, count: int = 24, **more: Any) -> dict[str, Any]:
    """Return a batch that runs slowly, of which some lines were sent."""
    lines = [await payment_line(stack, shop) for _ in range(count)]
    batch = await uploaded(shop, lines, lines_per_second="20", **more)
    await stack.charges(shop, 2)
    return batch


async def charges(stack: Stack, login: str) -> int:
    return len(await stack.simulator.truth(login=login))


async def set_disabled(stack: Stack, shop: Shop, disabled: bool) -> None:
    async with stack.sessions.session() as connection:
        await admin.update_merchant(connection, shop.merchant_id, disabled=disabled)


async def test_a_batch_goes_on_whose_key_was_revoked(stack: Stack, shop: Shop) -> None:
    """What was accepted stays accepted. Whoever wants it to end cancels it with another key."""
    other = await stack.with_key(shop, name="other", scopes=SCOPES)
    batch = await running(stack, shop)
    unscoped = await stack.with_key(shop, name="no batches", scopes=("payments:read",))
    async with stack.sessions.session() as connection:
        for key in await admin.list_keys(connection, shop.merchant_id):
            if key.name == "batches":
                await admin.revoke_key(connection, shop.merchant_id, key.id)

    async def refused() -> bool:
        return (await shop.client.get(f"/batches/{batch['id']}")).status_code == 401

    await until(refused, what="the key is revoked")
    assert (await unscoped.post(f"/batches/{batch['id']}/cancel")).status_code == 403
    done = await becomes(other, batch["id"], "done")
    assert done["done"] == await charges(stack, shop.login) == 24
    assert await audit(stack, other) == []


async def test_a_batch_is_paused_while_its_merchant_is_disabled(stack: Stack, shop: Shop) -> None:
    batch = await running(stack, shop)
    path = f"/batches/{batch['id']}"
    await set_disabled(stack, shop, True)
    sql = "SELECT count(*) FROM batches WHERE merchant_id = $1 AND state = 'paused'"
    await until(partial(stack.value, sql, shop.merchant_id), what="the batch is paused")
    claimed = "SELECT count(*) = 0 FROM batch_lines WHERE merchant_id = $1 AND state = 'claimed'"
    await until(partial(stack.value, claimed, shop.merchant_id), what="nothing is under way")
    sent = await charges(stack, shop.login)
    assert sent < 24
    await set_disabled(stack, shop, False)

    async def answers() -> bool:
        return (await shop.client.get(path)).status_code == 200

    await until(answers, what="the merchant's keys work again")
    paused = await batch_of(shop, batch["id"])
    assert (paused["state"], paused["reason"]) == ("paused", "The merchant is disabled.")
    assert (paused["done"], paused["waiting"]) == (sent, 24 - sent)
    await shop.post(f"{path}/resume")
    await becomes(shop, batch["id"], "done")
    assert await charges(stack, shop.login) == 24
    assert await audit(stack, shop) == []


async def test_payments_go_to_the_account_of_their_moment(stack: Stack, shop: Shop) -> None:
    """A payment goes to the account that the merchant has then; what acts on a payment goes to the
    one that took it."""
    held = await shop.paid(capture="manual")
    lines = [await payment_line(stack, shop), {"operation": "capture", "payment": held["id"]}]
    batch = await uploaded(shop, lines, start="false")
    other = random_name()
    await stack.simulator.post("/accounts", login=other, transaction_key="simulated-key-1")
    lines[0] = await payment_line(stack, Shop(shop.merchant_id, shop.secret, other, shop.url))
    second = await uploaded(shop, lines[:1], start="false")
    await stack.set_account(shop, login=other)
    for each in (batch, second):
        await shop.post(f"/batches/{each['id']}/start")
        await becomes(shop, each["id"], "done")
    token_of_the_old, captured = await results(shop, batch["id"])
    assert (token_of_the_old["state"], captured["outcome"]) == ("failed", "captured")
    (paid,) = await results(shop, second["id"])
    assert paid["outcome"] == "captured"
    types = [row["type"] for row in await stack.simulator.truth(login=shop.login)]
    assert types == ["authOnlyTransaction", "priorAuthCaptureTransaction"]
    truth = await stack.simulator.truth(login=other)
    assert [row["type"] for row in truth if row["response_code"] == "1"] == [
        "authCaptureTransaction"
    ]
