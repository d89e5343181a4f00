"""`easypay db verify-stats` and `rebuild-stats`, and the time zone of a merchant."""

import asyncio
import json
from typing import Any

from harness import Shop, Stack, run_easypay, until


async def easypay(stack: Stack, *words: str) -> tuple[int, str]:
    """Run a command on the stack's database. Returns its status and what it printed."""
    done = await asyncio.to_thread(run_easypay, *words, **stack.env)
    return done.code, done.out + done.err


async def test_a_wrong_counter_is_shown_and_counted_anew(stack: Stack) -> None:
    gateway = await stack.gateway()
    shop: Shop = await stack.shop(gateway)
    await shop.paid(2500)
    counted = "SELECT FROM payment_counts WHERE merchant_id = $1"
    await until(lambda: stack.fetch(counted, shop.merchant_id), what="the payment is counted")
    gateway.kill()
    await stack.fetch(
        "INSERT INTO payment_counts (merchant_id, mode, grain, start, currency, brand, sold)"
        " VALUES ($1, 'live', 'q', '2026-01-01T10:15Z', 'USD', 'visa', 4)",
        shop.merchant_id,
    )
    status, output = await easypay(stack, "db", "verify-stats", "--json")
    found: list[Any] = json.loads(output)["data"]
    assert status == 1
    # Its days and months may have been added up before: then they lack what was written here.
    quarters = [each for each in found if each["grain"] == "q"]
    assert [(each["counter"], each["stored"], each["by_rows"]) for each in quarters] == [
        ("sold", 4, 0)
    ]
    assert (await easypay(stack, "db", "rebuild-stats"))[0] == 0
    assert (await easypay(stack, "db", "verify-stats"))[0] == 0


async def test_a_merchant_has_a_time_zone(shared_stack: Stack, shop: Shop) -> None:
    merchant = f"mer_{shop.merchant_id.hex}"
    status, output = await easypay(
        shared_stack, "merchant", "update", merchant, "--time-zone", "Asia/Kathmandu", "--json"
    )
    assert status == 0, output
    assert json.loads(output)["time_zone"] == "Asia/Kathmandu"
    for wrong in ("Kathmandu", "EST5EDT", "posix/Asia/Kathmandu", "Asia/kathmandu", "Asia/Nowhere"):
        status, output = await easypay(
            shared_stack, "merchant", "update", merchant, "--time-zone", wrong
        )
        assert status == 1, wrong
        assert "time_zone must be UTC or a name such as Europe/Berlin" in output
