"""What `easypay db after-restore` does when not everything goes well.

The loss is made by deleting a shop's rows; `test_point_in_time` has it from a real restore.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from easypay import ids
from harness import QUICK, Shop, Stack, own_stack, run_easypay
from harness.commands import Output

stack = own_stack(**QUICK)
TABLES = ("payments", "operations", "events", "idempotency_keys", "unresolved_operations")
SINCE = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()


async def lose_all(stack: Stack, *shops: Shop) -> None:
    """Forget every request of these shops."""
    for table in TABLES:
        sql = f"DELETE FROM {table} WHERE merchant_id = ANY($1)"
        await stack.fetch(sql, [shop.merchant_id for shop in shops])


async def run(stack: Stack, *words: str, **env: str) -> Output:
    """Run the command beside the running gateway."""
    wire = {
        "EASYPAY_AUTHORIZE_NET_TEST_URL": stack.simulator.wire,
        "EASYPAY_AUTHORIZE_NET_LIVE_URL": stack.simulator.wire,
    }
    command = ("db", "after-restore", "--json", "--since", SINCE, *words)
    return await asyncio.to_thread(lambda: run_easypay(*command, **stack.env, **wire, **env))


def items_of(done: Output, shop: Shop) -> list[dict[str, Any]]:
    """Return what came back of a shop."""
    shown = ids.typed(ids.MERCHANT, shop.merchant_id)
    report = json.loads(done.out)
    return [item for item in report["items"] if item.get("merchant_id") == shown]


async def fresh(stack: Stack, shop: Shop) -> Shop:
    """Return the shop with a key that no gateway has in its cache, which is up to a second old."""
    await shop.client.aclose()
    return await stack.with_key(shop)


async def approved(stack: Stack, login: str) -> int:
    truth = await stack.simulator.truth(login=login)
    return sum(row["response_code"] == "1" for row in truth)


async def test_a_run_that_was_killed_is_ended_by_the_next(stack: Stack) -> None:
    shop = await stack.shop(stack.only_gateway)
    for number in range(3):
        await shop.paid(1000 + number, order_reference=f"K-{number}")
    await lose_all(stack, shop)
    killed = await run(stack, EASYPAY_FAILPOINT="after_restore_begun")
    assert killed.code < 0, killed.err
    sql = "SELECT status FROM payments WHERE merchant_id = $1"
    assert [row[0] for row in await stack.fetch(sql, shop.merchant_id)] == ["processing"]
    repeat = await (await fresh(stack, shop)).pay(1000, order_reference="K-0")
    done = await run(stack)
    assert done.code == 0, done.err
    assert len(items_of(done, shop)) == 3
    assert [row[0] for row in await stack.fetch(sql, shop.merchant_id)] == ["captured"] * 3
    assert items_of(await run(stack), shop) == []
    assert repeat.status_code == 409, "also while its outcome was open"
    assert await approved(stack, shop.login) == 3
    shop = await fresh(stack, shop)
    for number in range(3):
        again = await shop.pay(1000 + number, order_reference=f"K-{number}")
        assert again.json()["code"] == "repeats_restored_payment"
    assert await approved(stack, shop.login) == 3
    await shop.client.aclose()


async def test_a_charge_of_a_shared_account_waits_for_a_person_and_is_not_repeated(
    stack: Stack,
) -> None:
    mine = await stack.shop(stack.only_gateway)
    other = await stack.shop(stack.only_gateway)
    await stack.set_account(other, login=mine.login)
    for shop, order in ((mine, "S-mine"), (other, "S-other")):
        await shop.paid(1500, order_reference=order)
    await lose_all(stack, mine, other)

    done = await run(stack)
    assert done.code == 0, done.err
    unknown = {
        item["order_reference"]: item
        for item in done.data["items"]
        if item.get("order_reference") in ("S-mine", "S-other")
    }
    assert [item["state"] for item in unknown.values()] == ["by_hand"] * 2
    mine, other = await fresh(stack, mine), await fresh(stack, other)
    for shop in (mine, other):
        refused = await shop.pay(1500, order_reference="S-mine")
        assert refused.json()["code"] == "repeats_restored_payment"
        assert refused.json().get("payment_id") is None
    assert (await mine.pay(1500, order_reference="S-third")).status_code == 201

    owner = ids.typed(ids.MERCHANT, mine.merchant_id)
    named = await run(stack, "--assign", f"{unknown['S-mine']['reference']}={owner}")
    (item,) = items_of(named, mine)
    assert (item["state"], item["status"]) == ("restored", "captured")
    refused = await mine.pay(1500, order_reference="S-mine")
    assert refused.json()["payment_id"] == item["payment_id"]
    assert (await other.pay(1500, order_reference="S-mine")).status_code == 201, "its own now"
    for shop in (mine, other):
        await shop.client.aclose()


async def test_no_gateway_starts_while_an_account_that_pays_cannot_be_read(stack: Stack) -> None:
    shop = await stack.shop(stack.only_gateway)
    await shop.paid(1900, order_reference="R-1")
    await lose_all(stack, shop)
    await stack.fetch("UPDATE configuration SET copy = 'another'")
    await stack.simulator.post("/settings", login=shop.login, reporting=False)
    done = await run(stack)
    assert done.code == 1
    failed = [each for each in json.loads(done.out)["accounts"] if each.get("failure")]
    assert [each["merchants"] for each in failed] == [[ids.typed(ids.MERCHANT, shop.merchant_id)]]
    assert "E00011" in failed[0]["failure"]
    assert await stack.value("SELECT copy FROM configuration") == "another"

    await stack.simulator.post("/settings", login=shop.login, reporting=True)
    assert (await run(stack)).code == 0
    assert await stack.value("SELECT copy FROM configuration") != "another"
    assert await stack.value("SELECT count(*) FROM audit_entries WHERE action ~ 'restore'") > 0
    await shop.client.aclose()


async def test_a_shop_that_has_lost_nothing_pays_without_a_look(stack: Stack) -> None:
    shop = await stack.shop(stack.only_gateway)
    await shop.paid(1700, order_reference="N-1")
    assert items_of(await run(stack), shop) == []
    assert (await shop.pay(1700, order_reference="N-1")).status_code == 201
    asked = "SELECT count(*) FROM restored_operations WHERE merchant_id = $1"
    assert await stack.value(asked, shop.merchant_id) == 0
    await shop.client.aclose()
