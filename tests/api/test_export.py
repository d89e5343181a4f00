"""The export of payments: whole or visibly cut, from one snapshot, the same rows as the list."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from easypay.exporting.columns import COLUMNS, NAMES
from easypay.payments.search import Filters
from harness import AMEX, MASTERCARD, VISA, Shop, Stack, card, until

CSV = {"accept": "text/csv"}
JSONL = {"accept": "application/jsonl"}
SCOPES = ["payments:read", "payments:write", "refunds:write", "payments:export"]


@pytest.fixture
async def exporter(shared_stack: Stack, shop: Shop) -> AsyncIterator[Shop]:
    """Return the shop, with a key that may export."""
    made = await shared_stack.with_key(shop, scopes=SCOPES)
    yield made
    await made.client.aclose()


async def exported(shop: Shop, **query: Any) -> list[dict[str, Any]]:
    """Return the payments of an export, which must be whole."""
    answer = await shop.client.get("/payments/export", params=query, headers=JSONL)
    assert answer.status_code == 200, answer.text
    *lines, last = [json.loads(line) for line in answer.text.splitlines()]
    assert last == {"rows": len(lines)}
    return lines


def rows_of(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV export, which must be whole."""
    head, *rows, last = csv.reader(io.StringIO(text))
    assert tuple(head) == NAMES
    assert last == ["rows", str(len(rows)), *[""] * (len(NAMES) - 2)]
    return [dict(zip(head, row, strict=True)) for row in rows]


def flat(payment: dict[str, Any]) -> dict[str, str]:
    """Return a payment of the API as CSV has it."""
    found = {}
    for column in COLUMNS:
        value: Any = payment
        for name in column.field.split("."):
            value = value.get(name)
        found[column.name] = "" if value in (None, {}) else str(value)
    return found


async def sell(shop: Shop) -> list[dict[str, Any]]:
    """Make payments of many kinds. Return them as the list has them, newest first."""

    async def make(number: int) -> None:
        over: dict[str, Any] = {"order_reference": f"order-{number % 3}"}
        if number % 4 == 0:
            over["customer"] = {"reference": "anna"}
        if number % 5 == 1:
            over["billing_address"] = {"postal_code": "46282"}  # declined
        method = card(
            (VISA, MASTERCARD, AMEX)[number % 3], cvc="9070" if number % 3 == 2 else "907"
        )
        capture = "manual" if number % 7 == 0 else "automatic"
        answer = await shop.pay(100 * number, payment_method=method, capture=capture, **over)
        assert answer.status_code == 201, answer.text
        if number % 7 == 0 and number % 2 == 0:
            await shop.void(answer.json()["id"])
        if number == 9:
            assert (await shop.refund(answer.json()["id"])).status_code in (201, 202)

    await asyncio.gather(*(make(number) for number in range(1, 21)))
    payments = await shop.all("/payments")

    async def all_found() -> bool:
        return await shop.all("/payments?amount_from=0") == payments

    await until(all_found, within_s=10, what="the search table has every payment")
    return payments


async def test_every_filter_exports_what_the_list_has(exporter: Shop) -> None:
    payments = await sell(exporter)
    (operation, *_) = (
        await exporter.client.get(f"/payments/{payments[5]['id']}/operations")
    ).json()["data"]
    middle = payments[8]["created_at"]
    questions: list[dict[str, Any]] = [
        {},
        {"order": "oldest"},
        *({"status": each} for each in ("captured", "authorized", "declined", "voided", "failed")),
        {"currency": "USD"},
        {"currency": "EUR"},
        {"amount_from": 700, "amount_to": 1500},
        {"last4": "1111", "brand": "visa", "order": "oldest"},
        {"decline_code": "generic_decline"},
        {"refunded": "true"},
        {"refunded": "false", "status": "captured"},
        {"order_reference": "order-1"},
        {"order_reference": "o'; DROP TABLE payments --\\"},
        {"customer_reference": "anna"},
        {"processor_transaction_id": payments[3]["processor"]["transaction_id"]},
        {"processor_reference": operation["reference"]},
        {"created_from": middle},
        {"created_to": middle, "amount_to": 1500},
    ]
    assert {name for each in questions for name in each} >= set(Filters.__struct_fields__)
    found = 0
    for question in questions:
        answer = await exporter.client.get("/payments", params={**question, "limit": 100})
        listed = answer.json()["data"]
        assert await exported(exporter, **question) == listed, question
        found += bool(listed)
    assert found > len(questions) * 0.6, "most questions find something"
    answer = await exporter.client.get("/payments/export", headers=CSV)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].endswith('.csv"')
    assert rows_of(answer.text) == [flat(payment) for payment in payments]
