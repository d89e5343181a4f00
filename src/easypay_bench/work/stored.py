"""Payments with a stored payment method beside payments by card, in turn through one gateway."""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import ids
from easypay_bench import cpu
from easypay_bench.http_calls import StackFailed, exchange
from easypay_bench.performance_bars import per_payment_us
from easypay_bench.stack import PROCESSOR_PATH, Merchant, Stack
from easypay_bench.work.programs import pay

MOST_US: Final = 15.0
"""How much more CPU of the gateway a payment with a stored method may take."""

_METHODS: Final = 64
"""How many methods are paid with in turn."""

_METHOD: Final = """
    INSERT INTO payment_methods (merchant_id, mode, id, customer_id, profile_id, login_id,
        processor, customer_profile_id, payment_profile_id, state, type, source, brand, last4,
        exp_month, exp_year, network_transaction_id, idempotency_key, request_fingerprint,
        stored_at)
    SELECT merchant_id, 'test', $2, $3, $3, id, processor, $4, $5, 'active', 'card', 'card', 'visa',
           '1111', 12, 2035, 'BENCH', $6, '', db_now() - interval '1 hour'
      FROM processor_logins WHERE merchant_id = $1 AND mode = 'test'
     ORDER BY saved_at DESC LIMIT 1
    RETURNING id
"""


class Pair(msgspec.Struct, frozen=True):
    """One round: the CPU of a payment by card and of one with a stored method, in microseconds, of
    the gateway and of PostgreSQL."""

    card_us: float
    stored_us: float
    card_postgres_us: float
    stored_postgres_us: float


async def pairs(
    stack: Stack, merchant: Merchant, rounds: int, count: int, say: Callable[[str], None]
) -> list[Pair]:
    """Pay so often by card and with a stored method, in turn. Raises LoadFailed, StackFailed."""
    await pay(stack, [merchant], count)  # it warms up, and the gateway notes the account
    methods = await _store(stack, merchant)
    await pay(stack, [merchant], count, stored=methods)
    found = []
    for number in range(rounds):
        spent: dict[str, dict[str, float]] = {}
        order: list[list[str]] = [[], methods] if number % 2 == 0 else [methods, []]
        for stored in order:
            meter = stack.meter()
            before = meter.read()
            await pay(stack, [merchant], count, stored=stored)
            spent["stored" if stored else "card"] = cpu.spent(before, meter.read())
        found.append(
            Pair(
                *(per_payment_us(spent[who]["gateway"], count) for who in ("card", "stored")),
                *(per_payment_us(spent[who]["postgres"], count) for who in ("card", "stored")),
            )
        )
        say(f"gateway: {found[-1].card_us:.0f} us by card, {found[-1].stored_us:.0f} us stored")
    return found


async def _store(stack: Stack, merchant: Merchant) -> list[str]:
    """Store cards at the simulator, and the rows that mirror them. Return the methods' ids."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        return [await _stored(stack, merchant, connection, n) for n in range(_METHODS)]
    finally:
        await connection.close()


async def _stored(stack: Stack, merchant: Merchant, connection: Any, number: int) -> str:
    profile = {
        "merchantCustomerId": f"bench-{number}",
        "paymentProfiles": [
            {
                "payment": {
                    "creditCard": {"cardNumber": "4111111111111111", "expirationDate": "2035-12"}
                }
            }
        ],
    }
    auth = {"name": merchant.login, "transactionKey": merchant.transaction_key}
    body = {"createCustomerProfileRequest": {"merchantAuthentication": auth, "profile": profile}}
    _, _, answer = exchange("POST", f"{stack.simulator_url}{PROCESSOR_PATH}", body)
    made: dict[str, Any] = msgspec.json.decode(answer.decode("utf-8-sig"))
    if made["messages"]["resultCode"] != "Ok":
        raise StackFailed(f"the simulator stores no card: {made}")
    stored: UUID | None = await connection.fetchval(
        _METHOD,
        *(merchant.id, ids.new_id(), ids.new_id(), made["customerProfileId"]),
        *(made["customerPaymentProfileIdList"][0], f"bench-{number}"),
    )
    if stored is None:
        raise StackFailed("the gateway has not noted the account of the merchant")
    return ids.typed(ids.PAYMENT_METHOD, stored)
