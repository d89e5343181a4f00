"""What to ask for: merchants of every size, payments of theirs, and places deep in their lists."""

from datetime import datetime
from random import Random
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.seeding.shops import shops
from easypay_bench.finding.databases import Made, moments

DEPTH: Final = 1_000_000
"""The row after which a deep page begins."""
_RANKS: Final = (0, 1, 2, 5, 10, 30, 100, 300, 1_000, 3_000)
"""Merchants to ask about, by their place among the biggest."""
_OF_BIGGEST: Final = 200
_OF_OTHERS: Final = 20
_DEEP: Final = 20
_PAYMENTS: Final = """
    SELECT s.payment_id, s.status, s.amount_minor, s.currency, s.card_brand AS brand,
           s.card_last4 AS last4, s.decline_code, s.transaction_id, s.order_reference,
           s.customer_reference
      FROM unnest($3::uuid[]) AS at(low)
     CROSS JOIN LATERAL (
           SELECT * FROM payment_search
            WHERE payment_id >= at.low AND stream = (
                  SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)
            ORDER BY payment_id LIMIT 1) AS s
"""
_OPERATIONS: Final = """
    SELECT o.id FROM unnest($3::uuid[]) AS at(low)
     CROSS JOIN LATERAL (
           SELECT id FROM operations WHERE merchant_id = $1 AND mode = $2 AND id >= at.low
            ORDER BY id LIMIT 1) AS o
"""
_DEPTH: Final = """
    SELECT count(*) FROM (
        SELECT FROM payments WHERE merchant_id = $1 AND mode = $2 LIMIT $3) AS newest
"""
_DEEP_ROWS: Final = """
    SELECT id FROM (
        SELECT id, row_number() OVER () AS position FROM (
            SELECT id FROM payments WHERE merchant_id = $1 AND mode = $2
             ORDER BY id DESC LIMIT $4) AS newest) AS numbered
     WHERE position >= $3 AND (position - $3) % $5 = 0
"""


class Payment(msgspec.Struct, frozen=True):
    """A payment as the search table has it."""

    payment_id: UUID
    status: str
    amount_minor: int
    currency: str
    brand: str | None
    last4: str | None
    decline_code: str | None
    transaction_id: str | None
    order_reference: str | None
    customer_reference: str | None


class Shop(msgspec.Struct, frozen=True):
    """A merchant in one mode, with some of its payments and operations' references."""

    merchant_id: UUID
    mode: Mode
    payments: list[Payment]
    references: list[str]


class Examples(msgspec.Struct, frozen=True):
    """What one database has to ask for. The biggest merchant is the first."""

    shops: list[Shop]
    depth: int
    """The row after which the deep pages begin: DEPTH, or fewer if the database is small."""
    deep: list[UUID]
    """Rows of the biggest merchant, at that depth and somewhat deeper."""
    since: datetime
    until: datetime


async def look_up(connection: Any, made: Made) -> Examples:
    """Find examples in a database: those of the same shares of its time in each."""
    rng = Random(1)  # noqa: S311 - the same moments in every database
    seeded = shops(made.wanted.merchants, 1)
    found = []
    for rank in _RANKS:
        if rank < len(seeded):
            merchant_id = UUID(bytes=seeded[rank].id)
            for mode in (Mode.LIVE, Mode.TEST) if rank == 0 else (Mode.LIVE,):
                many = _OF_BIGGEST if rank == 0 else _OF_OTHERS
                found.append(await _shop(connection, made, merchant_id, mode, many, rng))
    depth, deep = await _deep(connection, found[0])
    return Examples(found, depth, deep, made.since, made.until)


async def _shop(
    connection: Any, made: Made, merchant_id: UUID, mode: Mode, many: int, rng: Random
) -> Shop:
    drawn = moments(made, [rng.random() for _ in range(many)])
    lows = [ids.lowest_id_at(moment) for moment in drawn]
    payments = await connection.fetch(_PAYMENTS, merchant_id, mode, lows)
    operations = await connection.fetch(_OPERATIONS, merchant_id, mode, lows)
    return Shop(
        merchant_id,
        mode,
        [Payment(*row) for row in payments],
        [ids.reference(row[0]) for row in operations],
    )


async def _deep(connection: Any, shop: Shop) -> tuple[int, list[UUID]]:
    """Return how deep the deep pages begin, and the rows after which they do."""
    last = DEPTH + DEPTH // 10
    whose = shop.merchant_id, shop.mode
    there = await connection.fetchval(_DEPTH, *whose, last)
    depth = DEPTH if there == last else there * 9 // 10
    last = min(there, last)
    step = max(1, (last - depth) // _DEEP)
    rows = await connection.fetch(_DEEP_ROWS, *whose, depth, last, step)
    return depth, [row[0] for row in rows]
