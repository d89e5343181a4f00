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

_SEARCH_TABLE: Final = "payment_search"
# A payment has no event while its outcome is unknown, so the search table does not have it.
_UNKNOWN: Final = """(
    SELECT DISTINCT p.merchant_id, p.mode, p.id AS payment_id, p.status, p.amount_minor, p.currency,
           p.refunded_minor > 0 AS refunded, p.card_brand, p.card_last4, p.decline_code,
           p.transaction_id, p.order_reference, p.customer_reference
      FROM unresolved_operations u
      JOIN payments p ON p.merchant_id = u.merchant_id AND p.id = u.payment_id
     WHERE u.merchant_id = $1 AND p.mode = $2)"""
_FIND: Final = """
    SELECT payment_id FROM {source} AS s
     WHERE merchant_id = $1 AND mode = $2 AND payment_id >= $3 AND payment_id < $4{conditions}
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
    sql, more = _statement(filters, oldest_first)
    rows = await runner.fetch(sql, merchant_id, mode, floor, below, limit, *more)
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


def _statement(filters: Filters, oldest_first: bool) -> tuple[str, list[Any]]:
    """Return the statement that finds ids, and its arguments from the sixth on."""
    if filters.processor_reference is not None:
        return _BY_REFERENCE, list(ids.reference_bounds(filters.processor_reference))
    conditions, arguments = "", []
    for name, (condition, _) in _CONDITIONS.items():
        wanted = getattr(filters, name)
        if wanted is not None:
            arguments.append(wanted)
            conditions += f" AND {condition.format(f'${len(arguments) + 5}')}"
    source = _UNKNOWN if filters.status is Status.PROCESSING else _SEARCH_TABLE
    order = "ASC" if oldest_first else "DESC"
    return _FIND.format(source=source, conditions=conditions, order=order), arguments
