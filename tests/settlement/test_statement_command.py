"""`easypay statement`: sums equal the processor's to the cent, and what is open is named."""

import asyncio
import csv
import io
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner

from easypay import ids
from easypay.command_line.main import app
from harness import Output, Shop, Stack, run_easypay
from settlement.books import account_of, settled

YEAR = f"{datetime.now(UTC):%Y}"
AMEX = {"type": "card", "card": {"number": "370000000000002", "exp_month": 12, "exp_year": 2035,
                                 "cvc": "9074"}}  # fmt: skip


async def statement(stack: Stack, shop: Shop, *words: str) -> Output:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    said = ("statement", YEAR, "--merchant", merchant, *words)
    done = await asyncio.to_thread(partial(run_easypay, *said, **stack.env))
    assert done.code == 0, done.err
    return done


def sums(**of: tuple[int, int]) -> dict[str, Any]:
    names = ("charged", "refunded", "returned", "charged_back", "reversed")
    return {
        name: dict(zip(("count", "amount"), of.get(name, (0, 0)), strict=True)) for name in names
    }


async def test_a_statement_adds_up_to_what_the_processor_says(
    shared_stack: Stack, shop: Shop
) -> None:
    first = await shop.paid(2500, order_reference="=HYPERLINK(1)")
    disputed = await shop.paid(1_234_567, payment_method=AMEX, order_reference="order-2")
    await shop.paid(900, capture="manual")
    await settled(shared_stack, shop)
    assert (await shop.refund(first["id"], 1001)).status_code == 201
    await settled(shared_stack, shop)
    await shared_stack.simulator.post(
        "/status", trans_id=disputed["processor"]["transaction_id"], status="chargeback"
    )
    await settled(shared_stack, shop)
    account = await account_of(shared_stack, shop)

    found = (await statement(shared_stack, shop, "--by", "mode,brand", "--json")).data
    visa = sums(charged=(1, 2500), refunded=(1, 1001))
    amex = sums(charged=(1, 1_234_567), charged_back=(1, 1_234_567))
    assert found["lines"] == [
        {"mode": "test", "brand": "amex", "currency": "USD", "sums": amex, "net": 0},
        {"mode": "test", "brand": "visa", "currency": "USD", "sums": visa, "net": 1499},
    ]
    assert [each["net"] for each in found["totals"]] == [1499]
    assert (found["batches_compared"], found["differences"], found["open"]) == (2, [], [])

    table = await statement(shared_stack, shop, "--by", "batch,order_reference")
    rows = csv.reader(
        io.StringIO(
            (await statement(shared_stack, shop, "--by", "order_reference,currency", "--csv")).out
        )
    )
    head, *lines = rows
    assert head[:2] == ["order_reference", "currency"]
    assert [(line[0], line[-1]) for line in lines] == [
        ("'=HYPERLINK(1)", "14.99"),
        ("order-2", "0.00"),
    ]
    assert "compared 2 batches." in table.out
    assert "Total USD: charged 12370.67, refunded 10.01, charged back 12345.67, net 14.99" in (
        table.out
    )

    # A cent that is not in our rows, and a charge that nobody can explain.
    await shared_stack.fetch(
        "UPDATE settled_transactions SET amount_minor = 2499 WHERE account = $1"
        " AND transaction_id = $2",
        *(account, first["processor"]["transaction_id"]),
    )
    await shared_stack.fetch(
        "INSERT INTO reconciliation_breaks (id, account, kind, subject, merchant_id, mode,"
        " their_minor, their_currency) VALUES ($1, $2, 'unexplained_charge', '1', $3, 'test',"
        " 4500, 'USD')",
        *(ids.new_id(), account, shop.merchant_id),
    )
    wrong = await statement(shared_stack, shop)
    assert "charged_minor 1237066 here, 1237067 there" in wrong.out
    assert "unexplained_charge: 1, 45.00 USD" in wrong.out


async def test_a_batch_of_two_currencies_is_compared_in_the_processor_s_unit(
    shared_stack: Stack,
) -> None:
    """Its list names no currency, so its sums are hundredths of whatever was charged."""
    shop = await shared_stack.shop(shared_stack.only_gateway, currencies=("USD", "JPY"))
    try:
        await shop.paid(2500)
        await shop.paid(1000, currency="JPY")
        await settled(shared_stack, shop)
        found = (await statement(shared_stack, shop, "--by", "currency", "--json")).data
        said = (await statement(shared_stack, shop)).out
    finally:
        await shop.client.aclose()
    assert (found["batches_compared"], found["differences"], found["open"]) == (1, [], [])
    assert said.endswith("compared 1 batch.\n")
    assert [(line["currency"], line["net"]) for line in found["lines"]] == [
        ("JPY", 1000),
        ("USD", 2500),
    ]


async def test_an_account_that_was_never_read_is_named(shared_stack: Stack, shop: Shop) -> None:
    await shop.paid(2500)
    found = (await statement(shared_stack, shop, "--json")).data
    assert found["open"] == [
        {"what": "books_never_read", "count": 1, "amount": None, "currency": None}
    ]
    assert "books_never_read: 1" in (await statement(shared_stack, shop)).out
    await settled(shared_stack, shop)
    assert (await statement(shared_stack, shop, "--json")).data["open"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("statement", "november"), "month, day or year"),
        (("statement", "2026-13"), "month, day or year"),
        (("statement", "2026-11", "--by", "week"), "order_reference"),
        (("statement", "2026-11", "--mode", "both"), "test or live"),
        (("statement", "2026-11", "--merchant", "shop"), "mer_"),
        (("statement", "2026-11", "--csv", "--json"), "not both"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2
    assert said in done.output
