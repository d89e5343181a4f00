"""Payments with a stored payment method beside payments by card, in turn through one gateway."""

from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import ids
from easypay_bench import cpu, scrape
from easypay_bench.http_calls import StackFailed, exchange
from easypay_bench.performance_bars import per_payment_us
from easypay_bench.stack import PROCESSOR_PATH, Merchant, Stack
from easypay_bench.work.programs import pay, payer

MOST_US: Final = 15.0
"""How much more CPU of the gateway a payment with a stored method may take."""
MOST_PERCENT: Final = 8.0
"""The same of a card's, for machines of another speed: there MOST_US is 8 % of a card's 180 µs."""

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


class Spent(msgspec.Struct, frozen=True):
    """What a payment of one slice took: CPU of the gateway and of PostgreSQL in microseconds, and
    statements, which payments that arrive together share. Slices with fewer payments to a statement
    cost more, whatever they pay with."""

    gateway_us: float
    postgres_us: float
    statements: float


class Pair(msgspec.Struct, frozen=True):
    """Two slices that followed each other."""

    card: Spent
    stored: Spent


async def pairs(
    stack: Stack,
    merchant: Merchant,
    rounds: int,
    count: int,
    rate: float,
    say: Callable[[str], None],
) -> list[Pair]:
    """Pay so often `count` payments by card and with a stored method, in turn, at a rate, over
    connections that stay open. Raises LoadFailed, StackFailed."""
    await pay(stack, [merchant], count)  # it warms up, and the gateway notes the account
    methods = await _store(stack, merchant)
    found: list[Pair] = []
    async with (
        payer(stack, merchant, count, rate=rate) as by_card,
        payer(stack, merchant, count, rate=rate, stored=methods) as by_method,
    ):
        await by_card()
        await by_method()
        for number in range(rounds):
            # Which of the two comes first changes, so that whatever grows meanwhile adds to both.
            if number % 2 == 0:
                card, stored = [await _slice(stack, go, count) for go in (by_card, by_method)]
            else:
                stored, card = [await _slice(stack, go, count) for go in (by_method, by_card)]
            found.append(Pair(card, stored))
    more = [each.stored.gateway_us - each.card.gateway_us for each in found]
    cards = [each.card.gateway_us for each in found]
    say(f"gateway: {median(cards):.0f} us by card, {median(more):+.1f} us with a stored method")
    return found


async def _slice(stack: Stack, go: Callable[[], Awaitable[object]], count: int) -> Spent:
    meter = stack.meter()
    statements = _statements(stack)
    before = meter.read()
    await go()
    spent = cpu.spent(before, meter.read())
    return Spent(
        per_payment_us(spent["gateway"], count),
        per_payment_us(spent["postgres"], count),
        (_statements(stack) - statements) / count,
    )


def _statements(stack: Stack) -> float:
    reading = scrape.read(stack.api_url, stack.admin_key)
    return scrape.total(reading, "easypay_group_size_count")


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
