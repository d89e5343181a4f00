"""Finds payments by what they are. The search table gives their ids, and `payments` the rest.

The search table follows the payments by a fraction of a second. So what it finds is read again from
the payments, and a payment that has changed meanwhile and fits no more is left out.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.payments.model import PAYMENT_COLUMNS, Payment, payment_of
from easypay.payments.status import Status

Runner = Any


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a payment must be to be listed. None: anything. All that are given must hold."""

    status: Status | None = None
    currency: str | None = None
    amount_from: int | None = None
    """Minor units; so is `amount_to`. Both bounds belong to the range."""
    amount_to: int | None = None
    last4: str | None = None
    brand: str | None = None
    decline_code: str | None = None
    refunded: bool | None = None
    """Whether money was given back, in part or whole."""
    order_reference: str | None = None
    customer_reference: str | None = None
    processor_transaction_id: str | None = None
    processor_reference: str | None = None
    """What the processor shows as invoice number: 20 characters that name one operation."""

    def __bool__(self) -> bool:
        return self != _NONE


_NONE: Final = Filters()

# For each filter, the condition on a row of the search table, and the same for a payment as read.
_Fits = Callable[[Payment, Any], bool]
_CONDITIONS: Final[dict[str, tuple[str, _Fits]]] = {
    "status": ("status = {}", lambda p, wanted: p.status == wanted),
    "currency": ("currency = {}", lambda p, wanted: p.currency == wanted),
    "amount_from": ("amount_minor >= {}", lambda p, wanted: p.amount_minor >= wanted),
    "amount_to": ("amount_minor <= {}", lambda p, wanted: p.amount_minor <= wanted),
    "last4": ("card_last4 = {}", lambda p, wanted: p.card_last4 == wanted),
    "brand": ("card_brand = {}", lambda p, wanted: p.card_brand == wanted),
    "decline_code": ("decline_code = {}", lambda p, wanted: p.answer.decline_code == wanted),
    "refunded": ("refunded = {}", lambda p, wanted: (p.refunded_minor > 0) == wanted),
    "order_reference": (
        "order_reference = {}",
        lambda p, wanted: p.details.order_reference == wanted,
    ),
    "customer_reference": (
        "customer_reference = {}",
        lambda p, wanted: p.details.customer_reference == wanted,
    ),
    "processor_transaction_id": (
        "transaction_id = {}",
        lambda p, wanted: p.answer.transaction_id == wanted,
    ),
}

_STREAM: Final = "SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2"
_RANGE: Final = "payment_id >= $3 AND payment_id < $4"
_ROWS: Final = """
    SELECT payment_id FROM payment_search
     WHERE stream = $1 AND $2::text IS NOT NULL AND {range}{conditions}
     ORDER BY payment_id {order} LIMIT $5
"""
# One index serves status and currency. With one of them alone, each value of the other is a part of
# that index in the list's order: the first rows of every part are merged.
_OF_EACH_STATUS: Final = """
    SELECT payment_id FROM unnest({statuses}) AS each(status)
     CROSS JOIN LATERAL ({rows}) AS found
     ORDER BY payment_id {order} LIMIT $5
"""
_OF_EACH_CURRENCY: Final = """
    WITH RECURSIVE each AS (
        (SELECT currency FROM payment_search WHERE stream = $1 ORDER BY currency LIMIT 1)
        UNION ALL
        SELECT (SELECT currency FROM payment_search
                 WHERE stream = $1 AND currency > each.currency ORDER BY currency LIMIT 1)
          FROM each WHERE each.currency IS NOT NULL)
    SELECT payment_id FROM each
     CROSS JOIN LATERAL ({rows}) AS found
     ORDER BY payment_id {order} LIMIT $5
"""
_SELECTIVE: Final = (
    *("last4", "decline_code", "order_reference", "customer_reference"),
    *("processor_transaction_id", "amount_from", "amount_to"),
)
"""Filters with an index of their own, which finds fewer rows than status or currency."""

# A payment has no event while its outcome is unknown, so the search table does not have it.
_UNKNOWN: Final = """
    SELECT payment_id FROM (
        SELECT DISTINCT p.id AS payment_id, p.status, p.amount_minor, p.currency,
               p.refunded_minor > 0 AS refunded, p.card_brand, p.card_last4, p.decline_code,
               p.transaction_id, p.order_reference, p.customer_reference
          FROM unresolved_operations u
          JOIN payments p ON p.merchant_id = u.merchant_id AND p.id = u.payment_id
         WHERE u.merchant_id = $1 AND p.mode = $2) AS s
     WHERE {range}{conditions}
     ORDER BY payment_id {order} LIMIT $5
"""
_BY_REFERENCE: Final = """
    SELECT payment_id FROM operations
     WHERE merchant_id = $1 AND mode = $2 AND id BETWEEN $6 AND $7
       AND payment_id >= $3 AND payment_id < $4
     LIMIT $5
"""
_READ: Final = f"""
    SELECT {PAYMENT_COLUMNS} FROM payments
     WHERE merchant_id = $1 AND mode = $2 AND id = ANY ($3::uuid[])
"""


async def stream_of(runner: Runner, merchant_id: UUID, mode: str) -> int | None:
    """Return the number under which the search table has a merchant's payments of one mode. It
    never changes. None before the first event."""
    found: int | None = await runner.fetchval(_STREAM, merchant_id, mode)
    return found


async def find(
    runner: Runner,
    merchant_id: UUID,
    mode: str,
    filters: Filters,
    *,
    floor: UUID,
    below: UUID,
    limit: int,
    oldest_first: bool = False,
) -> list[UUID]:
    """Return the ids of payments with `floor <= id < below` that fit, at most `limit`, in order."""
    whose: tuple[Any, str] = (merchant_id, mode)
    order = "ASC" if oldest_first else "DESC"
    if filters.processor_reference is not None:
        sql, more = _BY_REFERENCE, list(ids.reference_bounds(filters.processor_reference))
    elif filters.status is Status.PROCESSING:
        conditions, more = _conditions(filters)
        sql = _UNKNOWN.format(range=_RANGE, conditions=conditions, order=order)
    else:
        stream = await stream_of(runner, merchant_id, mode)
        if stream is None:
            return []
        whose = (stream, mode)
        sql, more = _statement(filters, order)
    rows = await runner.fetch(sql, *whose, floor, below, limit, *more)
    return [row[0] for row in rows]


async def read(
    runner: Runner, merchant_id: UUID, mode: str, found: Sequence[UUID], filters: Filters
) -> list[Payment]:
    """Return these payments as they are now, in the order of `found`, without those that no longer
    fit or whose month was archived."""
    rows = await runner.fetch(_READ, merchant_id, mode, list(found))
    payments = {payment.id: payment for payment in map(payment_of, rows)}
    present = [payments[each] for each in found if each in payments]
    return [payment for payment in present if fits(payment, filters)]


def fits(payment: Payment, filters: Filters) -> bool:
    """Whether a payment is what the filters ask for, apart from `processor_reference`."""
    return all(
        fit(payment, wanted)
        for name, (_, fit) in _CONDITIONS.items()
        if (wanted := getattr(filters, name)) is not None
    )


def _conditions(filters: Filters) -> tuple[str, list[Any]]:
    """Return the conditions on a row of the search table, and their arguments from $6 on."""
    conditions, arguments = "", []
    for name, (condition, _) in _CONDITIONS.items():
        wanted = getattr(filters, name)
        if wanted is not None:
            arguments.append(wanted)
            conditions += f" AND {condition.format(f'${len(arguments) + 5}')}"
    return conditions, arguments


def _statement(filters: Filters, order: str) -> tuple[str, list[Any]]:
    """Return the statement that finds ids in the search table, and its arguments from $6 on."""
    conditions, arguments = _conditions(filters)

    def rows(more: str = "") -> str:
        return _ROWS.format(range=_RANGE, conditions=conditions + more, order=order)

    if all(getattr(filters, name) is None for name in _SELECTIVE):
        if filters.status is not None and filters.currency is None:
            each = rows(" AND currency = each.currency")
            return _OF_EACH_CURRENCY.format(rows=each, order=order), arguments
        if filters.currency is not None and filters.status is None:
            each = rows(" AND status = each.status")
            statuses = f"'{{{','.join(Status)}}}'::text[]"
            return _OF_EACH_STATUS.format(rows=each, order=order, statuses=statuses), arguments
    return rows(), arguments
