"""The statements of an export: one part of a month at a time, in the order of the list.

A part is so many rows of the merchant, whether they fit the filters or not. So no statement runs
long, however few rows fit, and between two parts the export can make way for payments.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.exporting import columns
from easypay.payments.lists import Span
from easypay.payments.search import Filters
from easypay.payments.search_sql import CONDITIONS


class Format(StrEnum):
    """How the rows are written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Wish(msgspec.Struct, frozen=True):
    """What is to be exported: the payments of a list, in its order."""

    span: Span
    filters: Filters
    format: Format


_CONDITIONS: Final[Mapping[str, str]] = {
    **{name: f"{column} {sign} {{}}" for name, (column, sign) in CONDITIONS.items()},
    "refunded": "(refunded_minor > 0) = {}",
    "processor_reference": "id = ANY (ARRAY(SELECT payment_id FROM operations WHERE {}))",
}
"""For each filter its condition on a payment; `{}` is the value."""
_QUOTED: Final = (str, UUID)

# JSON has no control characters, so no line is ever quoted, and a line is what was selected.
_JSON_LINES: Final = {"format": "csv", "delimiter": "\x02", "quote": "\x01"}
COPY_OPTIONS: Final[Mapping[Format, dict[str, Any]]] = {
    Format.CSV: {"format": "csv"},
    Format.JSONL: _JSON_LINES,
    Format.PARQUET: {"format": "csv"},
}


async def where_of(connection: Any, wish: Wish) -> str:
    """Return the condition on the payments that fit, apart from their ids.

    A COPY takes no arguments, so the values become part of the text. The server quotes them.
    """
    given = {
        name: value
        for name in Filters.__struct_fields__
        if (value := getattr(wish.filters, name)) is not None
    }
    texts = [str(value) for value in given.values() if isinstance(value, _QUOTED)]
    quoted = iter(
        await connection.fetchval(
            "SELECT array_agg(quote_literal(value) ORDER BY place)"
            " FROM unnest($1::text[]) WITH ORDINALITY AS given(value, place)",
            texts,
        )
        or ()
    )
    conditions = [own(wish.span)]
    for name, value in given.items():
        literal = next(quoted) if isinstance(value, _QUOTED) else str(value)
        if name == "processor_reference":
            low, high = ids.reference_bounds(value)
            literal = f"{own(wish.span)} AND id BETWEEN '{low}' AND '{high}'"
        conditions.append(_CONDITIONS[name].format(literal))
    return " AND ".join(conditions)


def own(span: Span) -> str:
    """Return the condition that a row is the merchant's, in the mode."""
    if span.mode not in ("test", "live"):
        raise ValueError(f"there is no mode {span.mode!r}")
    return f"merchant_id = '{span.merchant_id}' AND mode = '{span.mode}'"


def edge_sql(table: str, part: Span, rows: int) -> str:
    """Return the statement that finds the id of the row number `rows` of a part, if any."""
    return (
        f"SELECT id FROM {table} WHERE {own(part)} AND {_range(part)}"
        f" ORDER BY id {_order(part)} OFFSET {rows - 1} LIMIT 1"
    )


def rows_sql(table: str, part: Span, where: str, format: Format) -> str:
    """Return the statement that selects the lines of a part."""
    match format:
        case Format.CSV:
            line = columns.csv_select(harmless=True)
        case Format.PARQUET:
            line = columns.csv_select(harmless=False)
        case Format.JSONL:
            line = columns.json_select()
    return (
        f"SELECT {line} FROM {table} WHERE {where} AND {_range(part)}"
        f" ORDER BY {table}.id {_order(part)}"
    )


def head_of(format: Format) -> bytes:
    """Return what stands before the first row."""
    return f"{','.join(columns.NAMES)}\n".encode() if format is Format.CSV else b""


def end_of(format: Format, rows: int) -> bytes:
    """Return the last line, which says how many rows there are. A file without it was cut.

    In CSV it has as many cells as every line, so that strict readers take it.
    """
    match format:
        case Format.CSV:
            cells: Sequence[str] = ("rows", str(rows), *[""] * (len(columns.NAMES) - 2))
            return f"{','.join(cells)}\n".encode()
        case Format.JSONL:
            return b'{"rows":%d}\n' % rows
        case Format.PARQUET:
            return b""  # its own end has the number of rows


def _range(part: Span) -> str:
    return f"id >= '{part.floor}' AND id < '{part.below}'"


def _order(part: Span) -> str:
    return "DESC" if part.newest_first else "ASC"
