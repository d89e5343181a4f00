"""What a payment with a stored method costs the gateway beside one with a card."""

import asyncio
import json
import os
import sys
from pathlib import Path

from harness import QUICK, Stack, own_stack
from harness.stored import stored_method

stack = own_stack(**QUICK)


async def test_a_stored_method_costs_the_gateway_no_round_trip_more_than_a_card(
    stack: Stack,
) -> None:
    """Counted in calls of functions: times say nothing on a busy machine."""
    shop = await stack.shop(stack.only_gateway)
    known = {"network_transaction_id": "x", "card_fingerprint": b"x" * 32}
    method = await stored_method(stack, shop, **known)
    settings = {
        "EASYPAY_AUTHORIZE_NET_TEST_URL": stack.simulator.wire,
        "EASYPAY_REQUEST_LOG": "false",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    counting = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("counted_payments.py"))),
        *(shop.secret, method.id),
        env=os.environ | stack.env | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(counting.communicate(), 60)
    assert counting.returncode == 0, error.decode()
    calls = json.loads(out)
    assert calls["stored"] - calls["card"] <= 30, calls
    await shop.client.aclose()
