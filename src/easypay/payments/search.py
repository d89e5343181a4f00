"""Finds payments by what they are. The search table gives their ids, and `payments` the rest.

The search table follows the payments by a fraction of a second. So what it finds is read again from
the payments, and a payment that has changed meanwhile and fits no more is left out. A payment is in
it once its outcome is known, or known to be unknown.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import eq, ge, le
from typing import Any, Final

import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.payments.lists import MOST_COUNTED, PAYMENTS, Counted, Lists, Rows, Source, Span
from easypay.payments.model import Status

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

CONDITIONS: Final = {
    "status": ("status", "="),
    "currency": ("currency", "="),
    "amount_from": ("amount_minor", ">="),
    "amount_to": ("amount_minor", "<="),
    "last4": ("card_last4", "="),
    "brand": ("card_brand", "="),
    "decline_code": ("decline_code", "="),
    "refunded": ("refunded", "="),
    "order_reference": ("order_reference", "="),
    "customer_reference": ("customer_reference", "="),
    "processor_transaction_id": ("transaction_id", "="),
}
"""For each filter but `processor_reference`, the column and how it is compared. The columns of the
search table are those of `payments`, but for `refunded`."""
_COMPARED: Final[dict[str, Callable[[Any, Any], bool]]] = {"=": eq, ">=": ge, "<=": le}

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
# Nor without a brand the rows of one card number's last digits; accounts have no brand.
_OF_EACH_BRAND: Final = """
    WITH RECURSIVE each AS (
        (SELECT card_brand FROM payment_search
          WHERE stream = $1 AND card_last4 = {last4} ORDER BY card_brand LIMIT 1)
        UNION ALL
        SELECT (SELECT card_brand FROM payment_search
                 WHERE stream = $1 AND card_last4 = {last4} AND card_brand > each.card_brand
                 ORDER BY card_brand LIMIT 1)
          FROM each WHERE each.card_brand IS NOT NULL)
    SELECT payment_id FROM (
        SELECT payment_id FROM each CROSS JOIN LATERAL ({of_brand}) AS found
        UNION ALL ({of_none})) AS all_of_them
     ORDER BY payment_id {order} LIMIT $5
"""
_SELECTIVE: Final = (
    *("last4", "decline_code", "order_reference", "customer_reference"),
    *("processor_transaction_id", "amount_from", "amount_to"),
)
"""Filters with an index of their own, which finds fewer rows than status or currency."""

_BY_REFERENCE: Final = """
    SELECT payment_id FROM operations
     WHERE merchant_id = $1 AND mode = $2 AND id BETWEEN $6 AND $7
       AND payment_id >= $3 AND payment_id < $4
     LIMIT $5
"""
_COUNT: Final = """
    WITH found AS MATERIALIZED ({find})
    SELECT (SELECT count(*) FROM found), (SELECT payment_id FROM found OFFSET {before} LIMIT 1)
"""


def source(runner: Runner, lists: Lists, filters: Filters) -> Source:
    """Return the payments that fit as the source of a list. `runner` plans for each question."""
    return Source(partial(_rows, runner, lists, filters), partial(_count, runner, lists, filters))


async def _rows(runner: Runner, lists: Lists, filters: Filters, span: Span, limit: int) -> Rows:
    """Return the first rows of a span that fit, at most `limit`."""
    kept: list[Any] = []
    while True:
        wanted = limit - len(kept)
        sql, arguments = await statement(lists, filters, span, wanted)
        found = [row[0] for row in await runner.fetch(sql, *arguments)]
        rows = await lists.by_ids(PAYMENTS, span.merchant_id, span.mode, found)
        kept += [rows[each] for each in found if each in rows and fits(rows[each], filters)]
        if len(found) < wanted or len(kept) >= limit:
            return kept
        span = span.continuing(found[-1])


async def _count(
    runner: Runner, lists: Lists, filters: Filters, span: Span, position: int
) -> Counted:
    sql, arguments = await statement(lists, filters, span, MOST_COUNTED + 1)
    total, there = await runner.fetchrow(_COUNT.format(find=sql, before=position - 1), *arguments)
    return Counted(min(total, MOST_COUNTED), total <= MOST_COUNTED, there)


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
    """Return the statement that finds the first ids of a span, and its arguments."""
    whose: tuple[Any, Mode] = (span.merchant_id, span.mode)
    if filters.processor_reference is not None:
        sql, more = _BY_REFERENCE, list(ids.reference_bounds(filters.processor_reference))
    else:
        stream = await lists.stream(span.merchant_id, span.mode)
        whose = (-1 if stream is None else stream, span.mode)  # none before the first payment
        sql, more = _in_search_table(filters, "DESC" if span.newest_first else "ASC")
    return sql, [*whose, span.floor, span.below, limit, *more]


def _conditions(filters: Filters) -> tuple[str, list[Any]]:
    """Return the conditions on a row of the search table, and their arguments from $6 on."""
    conditions, arguments = "", []
    # Rows of one amount lie in the list's order in the index; those of a range must be sorted.
    one_amount = filters.amount_from is not None and filters.amount_from == filters.amount_to
    for name, (column, sign) in CONDITIONS.items():
        wanted = getattr(filters, name)
        if wanted is not None and not (one_amount and name == "amount_to"):
            if one_amount and name == "amount_from":
                sign = "="
            arguments.append(wanted)
            conditions += f" AND {column} {sign} ${len(arguments) + 5}"
    return conditions, arguments


def _in_search_table(filters: Filters, order: str) -> tuple[str, list[Any]]:
    """Return the statement that finds ids in the search table, and its arguments from $6 on."""
    conditions, arguments = _conditions(filters)

    def rows(more: str = "") -> str:
        return _ROWS.format(range=_RANGE, conditions=conditions + more, order=order)

    if filters.last4 is not None and filters.brand is None:
        of_each = _OF_EACH_BRAND.format(
            last4=f"${arguments.index(filters.last4) + 6}",
            of_brand=rows(" AND card_brand = each.card_brand"),
            of_none=rows(" AND card_brand IS NULL"),
            order=order,
        )
        return of_each, arguments
    if all(getattr(filters, name) is None for name in _SELECTIVE):
        if filters.status is not None and filters.currency is None:
            each = rows(" AND currency = each.currency")
            return _OF_EACH_CURRENCY.format(rows=each, order=order), arguments
        if filters.currency is not None and filters.status is None:
            each = rows(" AND status = each.status")
            statuses = f"'{{{','.join(Status)}}}'::text[]"
            return _OF_EACH_STATUS.format(rows=each, order=order, statuses=statuses), arguments
    return rows(), arguments
