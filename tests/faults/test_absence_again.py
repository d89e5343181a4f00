"""What else stands in the way of an end: a witness looked for twice, tokens, reviews, old payments,
accounts that nobody can open. Time is driven."""

# ruff: noqa: F811 - fixtures of another module

import uuid
from typing import Any

import asyncpg

from easypay.merchants import admin
from easypay.merchants.vault import Vault, new_encryption_key
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from faults.driven_time import DrivenTime
from faults.test_absence import (  # noqa: F401
    KEY,
    called_absent,
    late_row,
    meets,
    net_charged,
    operation_of,
    shop,
    status,
    time,
    world,
)
from harness import ENCRYPTION_KEY, Shop, Stack, audit, mint_token, until


async def _is(value: Any, wanted: object) -> bool:
    return bool(await value == wanted)


async def test_a_witness_that_has_settled_is_seen_by_the_second_look_too(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    """The first look that counts came after the batch closed, and nothing newer is charged."""
    await world.simulator.post(
        "/faults", kind="maintenance", login=shop.login, method="getUnsettledTransactionListRequest"
    )
    await meets(world, shop, "reset_before")
    lost = (await shop.pay(2500)).json()["id"]
    await time.passes(20)
    await shop.paid(100)
    await world.simulator.post("/settle")
    await world.simulator.clear_faults()
    await time.until(lambda: _is(status(shop, lost), "failed"), step_s=60, at_most_s=3000)
    assert await audit(world, shop) == []


async def test_a_late_sale_by_token_is_given_back(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    """Nobody here knows its card, which a refund must name."""
    token = await mint_token(world.simulator, shop.login)
    await world.simulator.post("/settings", login=shop.login, reporting_lag_ms=1_800_000)
    await meets(world, shop, "drop_reply")
    answer = await shop.pay(2500, payment_method={"type": "accept_token", "accept_token": token})
    assert answer.status_code == 202, answer.text
    lost = answer.json()["id"]
    sale = await operation_of(shop, lost, "sale")
    await called_absent(world, time, shop, sale["reference"])
    assert await net_charged(world, shop) == 1

    async def state() -> bool:
        row = await late_row(world, shop)
        return row is not None and row["state"] != "returning"

    await time.until(state, step_s=300, at_most_s=3 * 3600)
    row = await late_row(world, shop)
    assert row is not None
    assert (row["state"], row["reason"]) == ("returned", None)
    assert await net_charged(world, shop) == 0
    assert await audit(world, shop) == []


async def test_an_approved_review_and_a_payment_of_an_older_version_expire_too(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    older = await shop.paid(900, capture="manual")
    await world.simulator.post(
        "/settings", login=shop.login, held_above="10.00", held_action="authAndHold"
    )
    held = (await shop.pay(2500, capture="manual")).json()
    approved = await shop.post(f"/payments/{held['id']}/approve")
    assert approved.json()["status"] == "authorized", approved.text
    await world.fetch(
        "UPDATE payments SET login_id = NULL WHERE merchant_id = $1 AND amount_minor = 900",
        shop.merchant_id,
    )
    await time.passes(31 * 24 * 3600)
    for payment in (held, older):
        assert (await shop.capture(payment["id"])).status_code >= 400

        async def expired(payment_id: str = payment["id"]) -> bool:
            return await status(shop, payment_id) == "expired"

        await time.until(expired, step_s=3600, at_most_s=9000)
    assert await audit(world, shop) == []


async def test_an_account_that_cannot_be_opened_stops_nobody_and_can_be_set_again(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    gateway = world.only_gateway
    other = await world.shop(gateway)
    await meets(world, shop, "drop_reply")
    lost = (await shop.pay(2500)).json()["id"]

    connection = await asyncpg.connect(world.dsn)
    try:
        await admin.set_processor_account(
            connection, Vault(new_encryption_key()), AUTHORIZE_NET, shop.merchant_id, "test",
            {"login_id": shop.login, "transaction_key": KEY},
        )  # fmt: skip
        await connection.execute(
            "WITH p AS (UPDATE payments SET login_id = NULL WHERE merchant_id = $1)"
            " UPDATE unresolved_operations SET account = NULL WHERE merchant_id = $1",
            shop.merchant_id,
        )
        await meets(world, other, "drop_reply")
        free = (await other.pay(2500)).json()["id"]
        await time.until(lambda: _is(status(other, free), "captured"), step_s=20, at_most_s=200)

        async def refused() -> str | None:
            key = str(uuid.uuid4())
            answer = await shop.pay(1900, key=key)
            code = answer.json().get("code")
            return key if (answer.status_code, code) == (503, "processor_unavailable") else None

        key = await until(refused, what="nothing is sent, and the shop is told to repeat it")
        assert await status(shop, lost) == "processing"  # what needs no processor goes on
        await admin.set_processor_account(
            connection, Vault(ENCRYPTION_KEY), AUTHORIZE_NET, shop.merchant_id, "test",
            {"login_id": shop.login, "transaction_key": KEY},
        )  # fmt: skip
    finally:
        await connection.close()
    await time.until(lambda: _is(status(shop, lost), "captured"), step_s=60, at_most_s=900)

    async def paid() -> bool:
        return (await shop.pay(1900, key=key)).status_code == 201

    await until(paid, what="the same key pays")
    await other.client.aclose()
    assert await audit(world, shop) == []
    assert await audit(world, other) == []


async def test_a_late_capture_waits_for_the_one_that_is_open(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    """And the account's lists are not read again and again meanwhile."""
    held = await shop.paid(2500, capture="manual")
    await meets(world, shop, "late_charge", "capture", delay_ms=2500)
    assert (await shop.capture(held["id"], 2000)).status_code == 202
    first = await operation_of(shop, held["id"], "capture")
    await called_absent(world, time, shop, first["reference"])

    async def came() -> bool:
        rows = await world.simulator.truth(login=shop.login)
        return any(row["status"] == "capturedPendingSettlement" for row in rows)

    await until(came, what="the capture comes late")
    await world.fetch(
        "UPDATE payments SET active_operation = id WHERE merchant_id = $1", shop.merchant_id
    )
    await time.passes(700)
    await time.settles()  # nothing is due: it was looked at once, and waits
    assert await status(shop, held["id"]) == "authorized"
    await world.fetch(
        "UPDATE payments SET active_operation = NULL WHERE merchant_id = $1", shop.merchant_id
    )
    await time.until(
        lambda: _is(status(shop, held["id"]), "captured"), step_s=300, at_most_s=3 * 3600
    )
    assert await audit(world, shop) == []


async def test_a_late_capture_and_an_open_one_for_less_do_not_wait_for_each_other(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    """An authorization is captured once: for another amount than the open one's, so not by that."""
    held = await shop.paid(2500, capture="manual")
    await meets(world, shop, "late_charge", "capture", delay_ms=1_500_000, by_clock=True)
    assert (await shop.capture(held["id"], 2000)).status_code == 202
    first = await operation_of(shop, held["id"], "capture")
    await called_absent(world, time, shop, first["reference"])
    await meets(world, shop, "reset_before", "capture")
    assert (await shop.capture(held["id"], 1500)).status_code == 202

    await time.until(
        lambda: _is(status(shop, held["id"]), "captured"), step_s=300, at_most_s=3 * 3600
    )
    assert (await shop.payment(held["id"]))["captured_amount"] == 2000
    assert await audit(world, shop) == []


async def test_an_absent_capture_is_not_asked_about_for_ever_once_another_was_made(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    held = await shop.paid(2500, capture="manual")
    await meets(world, shop, "reset_before", "capture")
    assert (await shop.capture(held["id"], 2000)).status_code == 202
    first = await operation_of(shop, held["id"], "capture")
    await called_absent(world, time, shop, first["reference"])
    assert (await shop.capture(held["id"], 1500)).json()["captured_amount"] == 1500

    async def let_go() -> bool:
        return not await world.fetch(
            "SELECT 1 FROM watched_operations WHERE merchant_id = $1", shop.merchant_id
        )

    await time.until(let_go, step_s=900, at_most_s=7200)
    assert await audit(world, shop) == []


async def test_batches_are_asked_for_once_for_all_that_is_watched(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    """Also where no answer comes: a silent processor is not waited for once for each of them."""
    for _ in range(4):
        await meets(world, shop, "reset_before")
        lost = (await shop.pay(2500)).json()["id"]
    sale = await operation_of(shop, lost, "sale")
    await called_absent(world, time, shop, sale["reference"])

    async def looked_twice() -> bool:
        rows = await world.fetch(
            "SELECT count(*) FROM watched_operations WHERE merchant_id = $1 AND looks >= 2",
            shop.merchant_id,
        )
        return bool(rows[0][0] == 4)

    await time.until(looked_twice, step_s=1800, at_most_s=6 * 3600)
    asking = {"login": shop.login, "method": "getSettledBatchListRequest"}
    await world.simulator.post("/faults", kind="html", **asking)

    async def asked() -> int:
        calls = (await world.simulator.client.get("/calls", params=asking)).json()["calls"]
        return len(calls)

    before = await asked()
    await time.passes(2 * 3600)
    await time.settles()
    assert 1 <= await asked() - before <= 2  # is there a new one, and then the look itself
