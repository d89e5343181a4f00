"""Notifications of the processor at a rate: how long the gateway takes to answer them."""

from typing import Final

import asyncpg

from easypay import ids
from easypay.notifications.accounts import PATH, shown
from easypay_bench.http_calls import StackFailed, call
from easypay_bench.stack import Merchant, Stack
from easypay_bench.work.programs import notify, pay
from easypay_bench.work.sender import Sent
from easypay_bench.work.slow_answers import SlowAnswers, watched

MOST_MS: Final = 20.0
"""The p99 of an answer may take so long."""
_KEY: Final = "5F" * 64
_ACCOUNT: Final = "SELECT account FROM processor_logins WHERE merchant_id = $1 AND mode = 'test'"


async def answered(
    stack: Stack, merchant: Merchant, rate: float, seconds: float
) -> tuple[Sent, SlowAnswers]:
    """Return how long answers take from when each notification was due, and why slow ones did.
    Raises LoadFailed, StackFailed."""
    typed = ids.typed(ids.MERCHANT, merchant.id)
    call(
        "PUT",
        f"{stack.api_url}/api/v1/admin/merchants/{typed}/accounts/test",
        {
            "login_id": merchant.login,
            "transaction_key": merchant.transaction_key,
            "signature_key": _KEY,
        },
        bearer=stack.admin_key,
    )
    await pay(stack, [merchant], 1)  # only then the account is noted
    connection = await asyncpg.connect(stack.database_url)
    try:
        account = await connection.fetchval(_ACCOUNT, merchant.id)
    finally:
        await connection.close()
    if account is None:
        raise StackFailed("the gateway has not noted the account of the merchant")
    path = PATH.format(processor="authorize_net", account=shown(account))
    await notify(stack, path, _KEY, int(rate), rate=rate)  # it warms up, and reads the key
    count = int(rate * seconds)
    async with watched(stack, "notifications") as watch:
        sent = await notify(stack, path, _KEY, count, rate=rate)
        return sent, watch.explain(count, sent.slow)
