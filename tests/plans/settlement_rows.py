"""The processor's books of ten years, and what is asked of them."""

from datetime import timedelta
from typing import Any, Final

from easypay import ids
from easypay.clock import now
from easypay.db import partitions
from easypay.mode import MODE
from easypay.settlement import lists, settling
from harness import connected
from plans.world import World

# The merchant's latest 200 of whole months were not told yet, however many payments the database
# has: with those of a month that has only begun they would lie in one month more.
_FILL: Final = """
    INSERT INTO settled_transactions (account, batch_id, transaction_id, kind, status, reference,
        amount_minor, currency, card_brand, last4, settled_at, merchant_id, mode, payment_id,
        operation_id, order_reference, told)
    SELECT l.account, 'b' || (p.created_at AT TIME ZONE 'UTC')::date, p.transaction_id, 'charge',
           'settledSuccessfully', left(p.id::text, 20), p.captured_minor, p.currency, p.card_brand,
           p.card_last4, date_trunc('day', p.created_at) + interval '23 hours', p.merchant_id,
           p.mode, p.id, p.id, p.order_reference,
           CASE WHEN p.merchant_id <> $1 OR p.id < latest.id OR p.id >= $2 THEN 'settled' END
      FROM payments p
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     CROSS JOIN (SELECT id FROM payments WHERE merchant_id = $1 AND status = 'captured' AND id < $2
                  ORDER BY id DESC OFFSET 200 LIMIT 1) AS latest
     WHERE p.status = 'captured'
    ON CONFLICT DO NOTHING
"""
_FILL_BATCHES: Final = """
    INSERT INTO settled_batches (account, batch_id, settled_at, state, method, read_at)
    SELECT DISTINCT account, batch_id, settled_at, 'settledSuccessfully', 'card', now()
      FROM settled_transactions
    ON CONFLICT DO NOTHING
"""
_FILL_CHANGES: Final = """
    INSERT INTO settlement_changes (account, batch_id, transaction_id, number, became, amount_minor,
        currency, merchant_id, mode, payment_id, operation_id, found_at)
    SELECT account, batch_id, transaction_id, 1, 'charged_back', amount_minor, currency,
           merchant_id, mode, payment_id, operation_id, settled_at
      FROM (SELECT *, row_number() OVER (ORDER BY payment_id) AS n FROM settled_transactions) AS s
     WHERE n % 20 = 0
"""
_FILLED: Final = (
    *("settled_transactions", "settled_batches", "settlement_changes", "settlement_sums"),
)
_BATCH: Final = """
    SELECT account, batch_id, settled_at, payment_id FROM settled_transactions
     WHERE merchant_id = $1 AND mode = $2 AND payment_id IS NOT NULL
     ORDER BY payment_id DESC LIMIT 1
"""


async def fill(w: World) -> None:
    """Let every captured payment have settled on its day, and some be charged back."""
    if await w.connection.fetchval("SELECT EXISTS (SELECT FROM settled_transactions)"):
        return
    async with connected(w.dsn) as connection:  # the world's own ends what takes long
        this_month = ids.lowest_id_at(partitions.month_start(w.now))
        await connection.execute(_FILL, w.merchant_id, this_month)
        await connection.execute(_FILL_BATCHES)
        await connection.execute(_FILL_CHANGES)
        for table in _FILLED:
            await connection.execute(f"VACUUM ANALYZE {table}")


async def _latest(w: World) -> Any:
    return await w.connection.fetchrow(_BATCH, w.merchant_id, w.mode)


async def settle(w: World) -> None:
    account, *_ = await _latest(w)
    await w.connection.execute(
        "UPDATE settled_transactions SET settlement_state = 'charged_back'"
        " WHERE account = $1 AND payment_id IS NOT NULL AND told IS DISTINCT FROM settlement_state",
        account,
    )
    assert await settling.settle(w.pool, account) > 0


async def list_settlements(w: World) -> None:
    _, _, settled_at, _ = await _latest(w)
    since = settled_at - timedelta(days=30)
    assert await lists.in_time(w.pool, w.merchant_id, MODE[w.mode], since, now())


async def read_settlement(w: World) -> None:
    _, batch_id, _, _ = await _latest(w)
    assert await lists.one(w.pool, w.merchant_id, MODE[w.mode], batch_id)


async def of_payment(w: World) -> None:
    _, _, _, payment_id = await _latest(w)
    assert await lists.of_payment(w.pool, w.merchant_id, MODE[w.mode], payment_id)
