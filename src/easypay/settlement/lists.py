"""A merchant's settlements: batches with what is the merchant's in them, and of one payment."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.db.partitions import within_months
from easypay.mode import Mode
from easypay.settlement.statements import ADDED_UP, NOTHING, Sums, sums_of

Runner = Any

# The batches of the merchant's accounts, which others may share: only its own sums are shown.
_BATCHES: Final = f"""
    WITH batches AS MATERIALIZED (
        SELECT b.account, b.batch_id, b.settled_at, b.method FROM settled_batches b
         WHERE b.account IN
               (SELECT account FROM processor_logins WHERE merchant_id = $1 AND mode = $2)
           AND {{which}}
    ), moves AS (
        SELECT b.*, s.currency, nullif(s.card_brand, '') AS card_brand, s.kind, s.transactions,
               s.amount_minor, NULL AS became
          FROM batches b
          JOIN settlement_sums s ON s.account = b.account AND s.batch_id = b.batch_id
               AND s.merchant_id = $1 AND s.mode = $2 AND s.transactions > 0
        UNION ALL
        SELECT b.*, s.currency, s.card_brand, s.kind, 1, c.amount_minor, c.became
          FROM batches b
          JOIN settlement_changes c ON c.account = b.account AND c.batch_id = b.batch_id
               AND c.merchant_id = $1 AND c.mode = $2
         CROSS JOIN LATERAL (
               SELECT * FROM settled_transactions s
                WHERE s.account = c.account AND s.batch_id = c.batch_id
                  AND s.transaction_id = c.transaction_id LIMIT 1) AS s
    )
    SELECT m.batch_id, m.settled_at, m.method, m.currency, m.card_brand, {ADDED_UP} FROM moves m
     GROUP BY 1, 2, 3, 4, 5 ORDER BY m.settled_at DESC, m.batch_id DESC, m.currency, m.card_brand
"""
IN_TIME: Final = _BATCHES.format(which="b.settled_at >= $3 AND b.settled_at < $4")
ONE: Final = _BATCHES.format(which="b.batch_id = $3")
OF_PAYMENT: Final = """
    SELECT s.batch_id, s.settled_at, s.kind, s.operation_id, s.amount_minor, s.currency,
           s.transaction_id, s.settlement_state, s.change_code, s.change_message, s.changed_at
      FROM settled_transactions s
     WHERE s.merchant_id = $1 AND s.mode = $2 AND s.payment_id = $3
     ORDER BY s.settled_at, s.transaction_id LIMIT $4
"""
_KNOWN: Final = """
    SELECT true FROM payments p
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = $3 AND {within}
"""
MOST_OF_PAYMENT: Final = 1_000


class BrandSums(msgspec.Struct, frozen=True):
    """The sums of one currency and brand."""

    currency: str
    brand: str | None
    sums: Sums


class Settlement(msgspec.Struct, frozen=True):
    """A batch, with what is the merchant's in it. `method`: card or bank_account, if known."""

    batch_id: str
    settled_at: datetime
    method: str | None
    brands: list[BrandSums]

    @property
    def totals(self) -> dict[str, Sums]:
        """The sums by currency."""
        found: dict[str, Sums] = {}
        for each in self.brands:
            found[each.currency] = each.sums + found.get(each.currency, NOTHING)
        return found


class Settled(msgspec.Struct, frozen=True):
    """A charge or refund of a payment in a batch, and what became of it."""

    batch_id: str
    settled_at: datetime
    kind: str
    operation_id: UUID
    amount_minor: int
    currency: str
    transaction_id: str
    state: str
    code: str | None
    message: str | None
    changed_at: datetime | None


async def in_time(
    runner: Runner, merchant_id: UUID, mode: Mode, since: datetime, until: datetime
) -> list[Settlement]:
    """Return the batches that settled in a time, newest first."""
    return _grouped(await runner.fetch(IN_TIME, merchant_id, mode, since, until))


async def one(runner: Runner, merchant_id: UUID, mode: Mode, batch_id: str) -> Settlement | None:
    """Return a batch; None if nothing in it is the merchant's."""
    found = _grouped(await runner.fetch(ONE, merchant_id, mode, batch_id))
    return found[0] if found else None


def _grouped(rows: list[Any]) -> list[Settlement]:
    found: dict[tuple[Any, ...], Settlement] = {}
    for row in map(tuple, rows):
        batch = batch_id, settled_at, method = row[:3]
        settlement = found.setdefault(batch, Settlement(batch_id, settled_at, method, []))
        settlement.brands.append(BrandSums(row[3], row[4], sums_of(row[5:])))
    return list(found.values())


async def of_payment(
    runner: Runner, merchant_id: UUID, mode: Mode, payment_id: UUID
) -> list[Settled] | None:
    """Return what has settled of a payment, oldest first, at most MOST_OF_PAYMENT; None if the
    merchant has no such payment."""
    rows = await runner.fetch(OF_PAYMENT, merchant_id, mode, payment_id, MOST_OF_PAYMENT)
    if not rows:
        within = within_months("p.id", [payment_id])
        known = await runner.fetchval(_KNOWN.format(within=within), merchant_id, mode, payment_id)
        return [] if known else None
    return [Settled(*row) for row in rows]
