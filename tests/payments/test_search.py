"""Filters find exactly the rows that fit, in order, whichever index and way the statement takes."""

import random
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import pytest

from easypay import ids
from easypay.db.embedded import Cluster
from easypay.db.partitions import Months
from easypay.db.reading import Reading
from easypay.mode import Mode
from easypay.payments import search, search_sql
from easypay.payments.lists import Lists, Span
from easypay.payments.model import Status
from easypay.payments.search import Filters
from harness import new_database

ROWS = 1_500
OWNER, STRANGER = uuid.UUID(int=1), uuid.UUID(int=2)
COLUMNS = (
    *("payment_id", "stream", "version", "amount_minor", "refunded", "status", "currency"),
    *("card_brand", "card_last4", "decline_code", "transaction_id", "order_reference"),
    *("customer_reference", "customer_id"),
)
VALUES: Mapping[str, tuple[Any, ...]] = {
    "status": (Status.CAPTURED, Status.DECLINED, Status.FAILED, Status.VOIDED),
    "currency": ("USD", "EUR", "JPY"),
    "amount_from": (0, 300, 440, 450, 998),
    "amount_to": (2_000, 600, 460, 450),
    "last4": ("1111", "0002"),
    "brand": ("visa", "amex"),
    "decline_code": ("expired_card", "generic_decline"),
    "refunded": (True, False),
    "order_reference": ("order 1", "order 2"),
    "customer_reference": ("anna", "ben"),
    "customer": (uuid.UUID(int=7), uuid.UUID(int=8)),
    "processor_transaction_id": ("600", "601"),
}

Row = Mapping[str, Any]


def row_of(draw: random.Random, number: int) -> dict[str, Any]:
    """Return a row. Most amounts are small; those from 440 to 460 are many, and only old ones."""
    old = number < ROWS // 3
    declined = draw.random() < 0.2
    return {
        "payment_id": ids.new_id(),
        "stream": 1 if draw.random() < 0.9 else 2,
        "version": 1,
        "amount_minor": draw.randrange(440, 460) if old else draw.randrange(1_000),
        "refunded": draw.random() < 0.1,
        "status": "declined" if declined else draw.choice(("captured", "captured", "voided")),
        "currency": draw.choice(("USD", "USD", "EUR")),
        "card_brand": draw.choice(("visa", "amex", None)),
        "card_last4": draw.choice(("1111", "0002", "0015")),
        "decline_code": draw.choice(("expired_card", "generic_decline")) if declined else None,
        "transaction_id": draw.choice(("600", "601", "602", None)),
        "order_reference": draw.choice(("order 1", "order 2", None)),
        "customer_reference": draw.choice(("anna", "ben", None)),
        "customer_id": draw.choice((uuid.UUID(int=7), uuid.UUID(int=8), None, None)),
    }


@pytest.fixture(scope="module")
async def searched(cluster: Cluster, template: str) -> AsyncIterator[tuple[Lists, list[Row]]]:
    """Return lists on a search table that has no payments, and its rows of OWNER, newest first."""
    dsn = await new_database(cluster.dsn, template)
    draw = random.Random(1)
    rows = [row_of(draw, number) for number in range(ROWS)]
    rows.sort(key=lambda row: row["payment_id"], reverse=True)
    connection = await asyncpg.connect(dsn)
    for merchant in (OWNER, STRANGER):
        await connection.execute(
            "INSERT INTO streams (merchant_id, mode) VALUES ($1, 'live')", merchant
        )
    await connection.copy_records_to_table(
        "payment_search", columns=COLUMNS, records=[[row[c] for c in COLUMNS] for row in rows]
    )
    await connection.execute("VACUUM ANALYZE payment_search")
    await connection.close()
    reading = Reading(dsn, connections=1, queue=10, limit_s=10, patience_s=10)
    yield Lists(reading, Months()), [row for row in rows if row["stream"] == 1]
    await reading.close()


def fitting(rows: list[Row], filters: Filters) -> list[uuid.UUID]:
    shown = ({**row, "refunded_minor": int(row["refunded"])} for row in rows)
    return [row["payment_id"] for row in shown if search.fits(row, filters)]


@pytest.mark.parametrize(
    ("first_rows", "in_range"),
    [(2_000, 10_000), (20, 10_000), (20, 3)],
    ids=["looks through the list", "sorts the range", "looks through the rest of the list"],
)
async def test_each_set_of_filters_finds_what_fits_in_the_order_of_the_list(
    searched: tuple[Lists, list[Row]],
    monkeypatch: pytest.MonkeyPatch,
    first_rows: int,
    in_range: int,
) -> None:
    reader, rows = searched
    monkeypatch.setattr(search_sql, "_FIRST_ROWS", first_rows)
    monkeypatch.setattr(search_sql, "_MOST_IN_RANGE", in_range)
    monkeypatch.setattr(search_sql, "_MOST_IN_RANGE_OF_TABLE", in_range)
    search_sql.found.cache_clear()
    draw = random.Random(first_rows + in_range)
    lengths = []
    for number in range(120):
        names = draw.sample(sorted(VALUES), draw.choice((0, 1, 1, 2, 2, 3)))
        if number % 2:
            names += ["amount_from"] * ("amount_from" not in names)
        filters = Filters(**{name: draw.choice(VALUES[name]) for name in names})
        floor, below = sorted(draw.sample([row["payment_id"] for row in rows], 2))
        newest_first = draw.random() < 0.7
        limit = draw.choice((1, 21, 101))
        span = Span(OWNER, Mode.LIVE, floor, below, newest_first)
        sql, arguments = await search.statement(reader, filters, span, limit)
        found = [row[0] for row in await reader.fetch(sql, *arguments)]
        expected = [each for each in fitting(rows, filters) if floor <= each < below]
        if not newest_first:
            expected.reverse()
        assert found == expected[:limit], filters
        lengths.append(len(found))
    assert sum(map(bool, lengths)) > 60, "most sets of filters find something"
    search_sql.found.cache_clear()


async def test_a_statement_is_the_same_for_all_values(searched: tuple[Lists, list[Row]]) -> None:
    """So a connection plans it once."""
    reader, _ = searched
    span = Span(OWNER, Mode.LIVE, uuid.UUID(int=0), uuid.UUID(int=2**128 - 1))
    for name, values in VALUES.items():
        texts = {
            (await search.statement(reader, Filters(**{name: value}), span, 21))[0]
            for value in values
        }
        assert len(texts) == (2 if name == "refunded" else 1)
