"""The export of payments: whole or visibly cut, from one snapshot, the same rows as the list."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from easypay import ids
from easypay.api.exports import MEDIA_TYPES, accepted
from easypay.errors import NotAcceptable
from easypay.exporting.columns import COLUMNS, NAMES
from easypay.exporting.statement import Format
from easypay.payments.search import Filters
from harness import AMEX, MASTERCARD, VISA, Gateway, Shop, Stack, card, payment_uuid, until
from raw import dial

CSV = {"accept": "text/csv"}
JSONL = {"accept": "application/jsonl"}
STATUSES = ("captured", "authorized", "declined", "voided", "failed")
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
    *lines, last = [json.loads(line) for line in answer.text.rstrip("\n").split("\n")]
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
        # One that has changed since its row was written is in no list.
        found = [await shop.all("/payments", status=status) for status in STATUSES]
        return sum(map(len, found)) == len(payments)

    await until(all_found, what="the search table has every payment as it is")
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
        *({"status": each} for each in STATUSES),
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
        {"customer": ids.typed(ids.CUSTOMER, ids.new_id())},
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


async def test_a_text_that_a_spreadsheet_would_run_is_made_harmless_and_no_other_is_changed(
    shared_stack: Stack, exporter: Shop
) -> None:
    texts = [
        "=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1",
        "１=1", "'=1", " =1", "plain", "", "a=1", 'said "yes", and left', "two\nlines\r\n;",
        "Zoë 🦊 \\.", "\\.", "NULL", "\u2028\x01",
    ]  # fmt: skip
    for text in texts:
        payment = payment_uuid((await exporter.paid())["id"])
        await shared_stack.fetch(
            "UPDATE payments SET description = $2, customer_reference = $2 WHERE id = $1",
            payment,
            text,
        )
    harmful = texts[:9]
    answer = await exporter.client.get("/payments/export?order=oldest", headers=CSV)
    expected = [f"'{text}" if text in harmful else text for text in texts]
    assert [row["description"] for row in rows_of(answer.text)] == expected
    assert [row["customer_reference"] for row in rows_of(answer.text)] == expected
    assert [row["description"] for row in await exported(exporter, order="oldest")] == texts


async def test_only_a_key_with_the_scope_exports_and_only_what_is_its_own(
    shared_stack: Stack, exporter: Shop, shop: Shop
) -> None:
    refused = await shop.client.get("/payments/export", headers=CSV)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    await shop.paid()
    other = await shared_stack.shop(shared_stack.only_gateway)
    stranger = await shared_stack.with_key(other, scopes=["payments:export"])
    live = await shared_stack.with_key(shop, mode="live", scopes=["payments:export"])

    async def known() -> bool:
        return (await live.client.get("/payments/export")).status_code == 200

    await until(known)
    for one in (stranger, live):
        assert await exported(one) == []
        answer = await one.client.get("/payments/export", headers=CSV)
        assert rows_of(answer.text) == []
        await one.client.aclose()
    await other.client.aclose()
    assert len(await exported(exporter)) == 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", Format.CSV),
        ("text/*", Format.CSV),
        ("application/*;q=0.5", Format.JSONL),
        ("application/jsonl", Format.JSONL),
        ("Application/JSONL; q=0.9, text/csv; q=0.1", Format.JSONL),
        ("text/csv;q=0, */*", Format.JSONL),
        ("text/html, application/xhtml+xml, */*;q=0.8", Format.CSV),
        ("application/json", None),
        ("text/csv;q=0", None),
        ("text/csv;q=no", None),
        ("", None),
    ],
)
def test_accept_chooses_the_format(accept: str, expected: Format | None) -> None:
    if expected is None:
        with pytest.raises(NotAcceptable) as refused:
            accepted(accept)
        assert all(each in refused.value.detail for each in MEDIA_TYPES.values())
    else:
        assert accepted(accept) is expected


async def test_what_is_not_an_export_is_refused_before_it_begins(exporter: Shop) -> None:
    wrong = {
        406: {"headers": {"accept": "application/vnd.apache.parquet"}},
        422: {"params": {"limit": 5}},
    }
    for status, how in wrong.items():
        answer = await exporter.client.get("/payments/export", **how)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
    answer = await exporter.client.get("/payments/export?status=paid")
    assert answer.json()["errors"][0]["pointer"] == "?status"
    answer = await exporter.client.post("/payments/export", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    head = await exporter.client.head("/payments/export", headers=JSONL)
    assert (head.status_code, head.headers["content-type"]) == (200, "application/jsonl")
    assert head.content == b""
    assert await exported(exporter) == []


async def test_a_client_of_http_1_0_is_told_that_it_cannot_have_it(
    exporter: Shop, gateway: Gateway
) -> None:
    async with dial(gateway) as line:
        line.writer.write(asked(exporter, "HTTP/1.0"))
        status, problem = await line.json_answer()
    assert (status, problem["code"]) == (400, "malformed_request")


def asked(shop: Shop, version: str = "HTTP/1.1") -> bytes:
    """Return the head of a request for all payments."""
    return (
        f"GET /api/v1/payments/export {version}\r\nHost: shop\r\n"
        f"Authorization: Bearer {shop.secret}\r\nAccept: application/jsonl\r\n\r\n"
    ).encode()
