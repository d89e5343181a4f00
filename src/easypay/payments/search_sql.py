"""The statements of `search`: how the search table finds payments by each set of filters.

A text depends on which filters there are and on the order of the list, never on their values. It
says which index is read, so that a connection plans it once.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from easypay.payments.model import Status

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
    "customer": ("customer_id", "="),
    "processor_transaction_id": ("transaction_id", "="),
}
"""For each filter but `processor_reference`, the column and how it is compared. The columns of the
search table are those of `payments`, but for `refunded`."""
AMOUNT: Final = "amount"
"""Stands for both bounds of the amount if they are the same: then rows lie in the list's order."""
_LEADING: Final = (
    *(("processor_transaction_id",), ("order_reference",), ("customer",)),
    *(("customer_reference",), ("last4", "brand"), ("last4",), ("decline_code",), (AMOUNT,)),
    *(("status", "currency"), ("refunded",), ("status",), ("currency",)),
)
"""The filters that an index serves. The first of these that are all given say which one is read."""
_IN_PARTS: Final = (("status",), ("currency",))
"""With one of them alone, the index has a part for each value of the other."""
_RANGE: Final = ("amount_from", "amount_to")
_FEWER_THAN_A_RANGE: Final = _LEADING[:6]
"""Their index finds so few rows that all of them can be read to see their amounts."""
_FIRST_ROWS: Final = 2_000
_MOST_IN_RANGE: Final = 10_000
_MOST_IN_RANGE_OF_TABLE: Final = 2_000
"""Rows of a range of amounts that are sorted: fewer if the index of amounts is not enough for the
conditions, so that each row is looked up in the table. Either takes about 2 ms."""

# $1 stream, $2 mode (which the stream says already), $3 and $4 the span as ids, $5 limit, and from
# $6 on the values of the filters.

# Nothing moves past OFFSET 0: inside it are the conditions of one index alone. So that index is the
# cheapest that gives the order, for any values. The other conditions are looked at row by row.
_ROWS: Final = """
    SELECT payment_id FROM (
        SELECT {columns} FROM payment_search
         WHERE stream = $1 AND $2::text IS NOT NULL
           AND payment_id >= $3 AND payment_id < $4{leading}
         ORDER BY payment_id {order} OFFSET 0) AS s
     WHERE true{conditions} LIMIT $5
"""
# Where an index does not give the order, it has so few rows that all of them are sorted.
_SORTED: Final = """
    SELECT payment_id FROM (
        SELECT {columns} FROM payment_search
         WHERE stream = $1 AND $2::text IS NOT NULL{leading}
        OFFSET 0) AS s
     WHERE payment_id >= $3 AND payment_id < $4{conditions}
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
# No index has the rows of a range of amounts in the list's order. There are three ways to find the
# first rows. Each is tried only if the one before was not enough: the first rows of the list, which
# suffice if many fit; all rows of the range, sorted, if these are not too many; or else the rest of
# the list, of which so many rows fit that the page is full soon.
_OF_AMOUNTS: Final = """
    WITH first_rows AS MATERIALIZED (
        SELECT {columns} FROM payment_search
         WHERE stream = $1 AND $2::text IS NOT NULL
           AND payment_id >= $3 AND payment_id < $4{leading}
         ORDER BY payment_id {order} LIMIT {few}
    ), fit AS MATERIALIZED (
        SELECT payment_id FROM first_rows WHERE true{conditions} LIMIT $5
    ), search AS MATERIALIZED (
        SELECT (SELECT count(*) FROM fit) < $5
               AND (SELECT count(*) FROM first_rows) = {few} AS goes_on
    ), of_range AS MATERIALIZED (
        SELECT {columns} FROM payment_search
         WHERE (SELECT goes_on FROM search) AND stream = $1{amounts}
         LIMIT {many} + 1
    ), range AS MATERIALIZED (
        SELECT (SELECT count(*) FROM of_range) <= {many} AS is_whole
    )
    SELECT payment_id FROM (
        SELECT payment_id FROM fit WHERE NOT (SELECT goes_on FROM search)
        UNION ALL
        SELECT payment_id FROM of_range
         WHERE (SELECT goes_on AND is_whole FROM search, range)
           AND payment_id >= $3 AND payment_id < $4{conditions}
        UNION ALL
        SELECT payment_id FROM ({rows}) AS rest
         WHERE (SELECT goes_on AND NOT is_whole FROM search, range)) AS found
     ORDER BY payment_id {order} LIMIT $5
"""
BY_REFERENCE: Final = """
    SELECT payment_id FROM (
        SELECT payment_id FROM operations{month}
         WHERE merchant_id = $1 AND mode = $2 AND id BETWEEN $6 AND $7
        OFFSET 0) AS o
     WHERE payment_id >= $3 AND payment_id < $4
     LIMIT $5
"""
COUNT: Final = """
    WITH found AS MATERIALIZED ({find})
    SELECT (SELECT count(*) FROM found),
           (SELECT payment_id FROM found OFFSET ${before}::int LIMIT 1)
"""


@lru_cache(maxsize=1_000)
def found(names: Sequence[str], *, refunded: bool | None, newest_first: bool) -> str:
    """Return the statement that finds the first ids of a span.

    `names`: the filters whose values are the arguments from $6 on, in this order: those of
    CONDITIONS but for `refunded`, or AMOUNT. `refunded` becomes part of the text: only then can the
    index of refunds serve it.
    """
    given = {name: _condition(name, place) for place, name in enumerate(names, 6)}
    if refunded is not None:
        given["refunded"] = " AND refunded" if refunded else " AND NOT refunded"
    order = "DESC" if newest_first else "ASC"
    leading = _leading(given, refunded)
    if any(name in given for name in _RANGE) and leading not in _FEWER_THAN_A_RANGE:
        return _of_amounts(given, leading, order)
    return _by(given, leading, order)


def _condition(name: str, place: int) -> str:
    column, sign = ("amount_minor", "=") if name == AMOUNT else CONDITIONS[name]
    return f" AND {column} {sign} ${place}"


def _leading(given: Mapping[str, str], refunded: bool | None) -> tuple[str, ...]:
    """Return the filters whose index is read; none: the rows are read in the list's order."""
    for each in _LEADING:
        if all(name in given for name in each) and (each != ("refunded",) or refunded):
            return each
    return ()


def _by(given: Mapping[str, str], leading: Sequence[str], order: str) -> str:
    """Return the statement that reads the index of some of the filters. If it has several parts,
    each in the list's order, these are merged."""

    def rows(each: str = "", text: str = _ROWS) -> str:
        return text.format(
            columns=_columns(given),
            leading=_all(given, leading) + each,
            conditions=_all(given, [name for name in given if name not in leading]),
            order=order,
        )

    if leading == ("last4",):
        return _OF_EACH_BRAND.format(
            last4=given["last4"].rpartition(" ")[2],
            of_brand=rows(" AND card_brand = each.card_brand"),
            of_none=rows(" AND card_brand IS NULL", _SORTED),
            order=order,
        )
    if leading == ("status",):
        return _OF_EACH_CURRENCY.format(rows=rows(" AND currency = each.currency"), order=order)
    if leading == ("currency",):
        statuses = f"'{{{','.join(Status)}}}'::text[]"
        each = rows(" AND status = each.status")
        return _OF_EACH_STATUS.format(rows=each, order=order, statuses=statuses)
    return rows(text=_SORTED if leading == _LEADING[0] else _ROWS)


def _of_amounts(given: Mapping[str, str], leading: Sequence[str], order: str) -> str:
    """Return the statement for a range of amounts, which may have very many rows or very few."""
    whole = () if leading in _IN_PARTS else leading
    only_amounts = all(name in _RANGE for name in given)
    return _OF_AMOUNTS.format(
        rows=_by(given, whole, order),
        leading=_all(given, whole),
        columns=_columns(given),
        amounts=_all(given, [name for name in _RANGE if name in given]),
        conditions=_all(given, given),
        few=_FIRST_ROWS,
        many=_MOST_IN_RANGE if only_amounts else _MOST_IN_RANGE_OF_TABLE,
        order=order,
    )


def _all(given: Mapping[str, str], names: Iterable[str]) -> str:
    return "".join(given[name] for name in names)


def _columns(given: Mapping[str, str]) -> str:
    """Return the columns that the conditions look at. If an index has them all, it is enough."""
    columns = (CONDITIONS.get(name, CONDITIONS["amount_from"])[0] for name in given)
    return ", ".join(dict.fromkeys(("payment_id", *columns)))
