"""Finds payments by what they are. The search table gives their ids, and `payments` the rest.

The search table follows the payments by a fraction of a second. So what it finds is read again from
the payments, and a payment that has changed meanwhile and fits no more is left out. A payment is in
it once its outcome is known, or known to be unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import eq, ge, le
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.payments import search_sql
from easypay.payments.lists import MOST_COUNTED, PAYMENTS, Counted, Lists, Rows, Source, Span
from easypay.payments.model import Status
from easypay.payments.search_sql import AMOUNT, CONDITIONS


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
    customer: UUID | None = None
    """The customer whose stored payment method was used."""
    processor_transaction_id: str | None = None
    processor_reference: str | None = None
    """What the processor shows as invoice number: 20 characters that name one operation."""

    def __bool__(self) -> bool:
        return self != _NONE


_NONE: Final = Filters()

_COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {"=": eq, ">=": ge, "<=": le}


def source(lists: Lists, filters: Filters) -> Source:
    """Return the payments that fit as the source of a list."""
    return Source(partial(_rows, lists, filters), partial(_count, lists, filters))


async def _rows(lists: Lists, filters: Filters, span: Span, limit: int) -> Rows:
    """Return the first rows of a span that fit, at most `limit`."""
    kept: list[Any] = []
    while True:
        wanted = limit - len(kept)
        sql, arguments = await statement(lists, filters, span, wanted)
        found = [row[0] for row in await _fetch(lists, sql, arguments)]
        rows = await lists.by_ids(PAYMENTS, span.merchant_id, span.mode, found)
        kept += [rows[each] for each in found if each in rows and fits(rows[each], filters)]
        if len(found) < wanted or len(kept) >= limit:
            return kept
        span = span.continuing(found[-1])


async def _count(lists: Lists, filters: Filters, span: Span, position: int) -> Counted:
    if filters.processor_reference is not None:
        # It leads to one payment at most, and its statement looks at no other filter.
        rows = await _rows(lists, filters, span, 1)
        return Counted(len(rows), True, rows[0]["id"] if rows and position == 1 else None)
    sql, arguments = await statement(lists, filters, span, MOST_COUNTED + 1)
    sql = search_sql.COUNT.format(find=sql, before=len(arguments) + 1)
    ((total, there),) = await _fetch(lists, sql, [*arguments, position - 1]) or [(0, None)]
    return Counted(min(total, MOST_COUNTED), total <= MOST_COUNTED, there)


async def _fetch(lists: Lists, sql: str, arguments: Sequence[object]) -> Sequence[Any]:
    try:
        return await lists.fetch(sql, *arguments)
    except asyncpg.UndefinedTableError:  # the reference's month was taken out: it is in no list
        return []


def fits(row: Mapping[str, Any], filters: Filters) -> bool:
    """Whether a payment's row is what the filters ask for, apart from `processor_reference`."""
    for name, (column, sign) in CONDITIONS.items():
        wanted = getattr(filters, name)
        if wanted is not None:
            has = row["refunded_minor"] > 0 if column == "refunded" else row[column]
            if has is None or not _COMPARED[sign](has, wanted):
                return False
    return True


async def statement(
    lists: Lists, filters: Filters, span: Span, limit: int
) -> tuple[str, list[Any]]:
    """Return the statement that finds the first ids of a span, and its arguments. Its text depends
    on which filters there are and on the order, not on their values."""
    whose: tuple[Any, Mode] = (span.merchant_id, span.mode)
    if filters.processor_reference is not None:
        low, high = ids.reference_bounds(filters.processor_reference)
        sql = search_sql.BY_REFERENCE.format(month=lists.month_of(low, high))
        more: list[Any] = [low, high]
    else:
        stream = await lists.stream(span.merchant_id, span.mode)
        whose = (-1 if stream is None else stream, span.mode)  # none before the first payment
        given = _given(filters)
        sql = search_sql.found(
            tuple(given), refunded=filters.refunded, newest_first=span.newest_first
        )
        more = list(given.values())
    return sql, [*whose, span.floor, span.below, limit, *more]


def _given(filters: Filters) -> dict[str, Any]:
    """Return the values that the statement in the search table takes, in its order."""
    given = {name: getattr(filters, name) for name in CONDITIONS if name != "refunded"}
    if filters.amount_from is not None and filters.amount_from == filters.amount_to:
        given[AMOUNT] = filters.amount_from
        given["amount_from"] = given["amount_to"] = None
    return {name: value for name, value in given.items() if value is not None}
