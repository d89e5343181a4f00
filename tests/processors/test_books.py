"""The processor's books: batches and their statistics, their transactions, what has not settled.
The simulator's truth table is the judge; books shown page by page make situations it never has."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from easypay.processors.authorize_net import book_messages, statuses
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import Account, Approved, BankAccount
from easypay.processors.books import (
    LONGEST_SPAN,
    MEANINGS,
    BookedTransaction,
    BookLine,
    Books,
    BrandFigures,
    SettledBatch,
    Unread,
    books_of,
)
from harness import Simulator

from .example_requests import login_of, payment, refund, soon, void
from .outcomes import expect
from .reports import GONE, NONE, Listed, line, reporting
from .reports import Books as Shown

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


@pytest.fixture
def books(processor: AuthorizeNet) -> Books:
    found = books_of(processor)
    assert found is not None
    return found


async def whole(pages: AsyncIterator[Sequence[BookLine] | Unread]) -> list[BookLine] | Unread:
    """Read a list; one that ends unread is nothing but that."""
    found: list[BookLine] = []
    async for page in pages:
        if isinstance(page, Unread):
            return page
        found += page
    return found


def expect_lines(found: list[BookLine] | Unread) -> list[BookLine]:
    assert isinstance(found, list), found
    return found


def expect_batches(found: Sequence[SettledBatch] | Unread) -> Sequence[SettledBatch]:
    assert not isinstance(found, Unread), found
    return found


def settling(number: int, name: str = "other") -> dict[str, Any]:
    return line(number, name) | {
        "transactionStatus": "settledSuccessfully",
        "accountType": "Visa",
        "accountNumber": "XXXX1111",
        "settleAmount": 12.5,
    }


async def test_a_batch_is_read_as_the_truth_has_it(
    books: Books, processor: AuthorizeNet, account: Account, wire: Simulator
) -> None:
    sold = [
        expect(Approved, await processor.authorize(payment(account, amount_minor=n), soon()))
        for n in (10_01, 20_02)
    ]
    held = payment(account, capture=False)
    expect(Approved, await processor.authorize(held, soon()))
    gone = expect(Approved, await processor.authorize(payment(account), soon()))
    expect(Approved, await processor.void(void(account, gone.transaction_id), soon()))
    unsettled = expect_lines(await whole(books.unsettled(account, "USD", soon())))
    assert [(each.meaning, each.kind) for each in unsettled] == [
        ("captured", "charge"),
        ("captured", "charge"),
        ("authorized", "charge"),
    ]

    await wire.post("/settle")
    back = refund(account, sold[1].transaction_id, amount_minor=5_00)
    returned = expect(Approved, await processor.refund(back, soon()))
    await wire.post("/settle")
    first, second = expect_batches(
        await books.batches(account, NOW - DAY, NOW + DAY, "USD", soon())
    )
    assert (first.closed, first.method, first.settled_at <= second.settled_at) == (
        True,
        "card",
        True,
    )
    (figures,) = first.statistics
    assert (figures.charged_minor, figures.charges, figures.voids) == (30_03, 2, 1)
    (figures,) = second.statistics
    assert (figures.refunded_minor, figures.refunds, figures.charges) == (5_00, 1, 0)

    truth = {row["trans_id"]: row for row in await wire.truth(login=login_of(account))}
    lines = expect_lines(await whole(books.batch(account, first.batch_id, "USD", soon())))
    assert {each.transaction_id: each.reference for each in lines} == {
        one.transaction_id: truth[one.transaction_id]["invoice_number"] for one in sold
    }
    (one,) = expect_lines(await whole(books.batch(account, second.batch_id, "USD", soon())))
    assert (one.kind, one.meaning, one.amount_minor, one.currency) == (
        "refund",
        "settled",
        5_00,
        "USD",
    )
    assert (one.transaction_id, one.reference) == (returned.transaction_id, back.reference)
    assert (one.card_brand, one.last4) == ("visa", "1111")
    shown = await books.transaction(account, returned.transaction_id, "USD", soon())
    assert isinstance(shown, BookedTransaction)
    assert (shown.line, shown.parent_id) == (one, sold[1].transaction_id)
    assert (shown.type, shown.method, shown.authorized_minor) == ("refundTransaction", "card", 5_00)
    assert (shown.batch_id, shown.settled_at) == (second.batch_id, second.settled_at)


@pytest.mark.parametrize(
    "what", ["chargeChargeBack", "refundChargeBack", "chargeReturnedItems", "refundReturnedItems"]
)
def test_whatever_a_bank_takes_back_changes_a_batch_s_statistics(what: str) -> None:
    """They alone say that a batch is to be read again."""

    def statistics(**told: object) -> Sequence[BrandFigures]:
        batch = {
            "batchId": "5",
            "settlementTimeUTC": "2026-11-24T00:11:12Z",
            "settlementState": "settledSuccessfully",
            "statistics": [{"accountType": "Visa", "chargeAmount": 9.5, "chargeCount": 1, **told}],
        }
        messages = {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]}
        body = json.dumps({"batchList": [batch], "messages": messages}).encode()
        found = book_messages.read_batches(Reply(200, body), "", "USD")
        assert isinstance(found, list), found
        return found[0].statistics

    assert statistics() != statistics(**{f"{what}Count": 1})
    assert statistics() != statistics(**{f"{what}Amount": 2.5})


async def test_a_bank_s_return_is_told_with_its_code_and_whose_it_is(
    books: Books, processor: AuthorizeNet, account: Account, wire: Simulator
) -> None:
    method = BankAccount(
        account_type="checking",
        routing_number="121000248",
        account_number="12345678",
        name_on_account="Jane Doe",
    )
    paid = expect(Approved, await processor.authorize(payment(account, method=method), soon()))
    await wire.post("/settle")
    await wire.post("/returns", trans_id=paid.transaction_id, code="R02")
    (batch,) = expect_batches(await books.batches(account, NOW - DAY, NOW + DAY, "USD", soon()))
    assert (batch.method, batch.statistics[0].returned_minor) == ("bank_account", 25_00)
    (one,) = expect_lines(await whole(books.batch(account, batch.batch_id, "USD", soon())))
    assert (one.meaning, one.kind) == ("returned", None), "the list does not say whose"
    shown = await books.transaction(account, paid.transaction_id, "USD", soon())
    assert isinstance(shown, BookedTransaction)
    assert shown.line.kind == "charge"
    (item,) = shown.returned_items
    assert (item.code, item.message) == ("R02", "Account Closed")


async def test_reports_that_are_off_are_a_refusal_and_an_unknown_transaction_is_absent(
    books: Books, account: Account, wire: Simulator
) -> None:
    unknown = await books.transaction(account, "123456", "USD", soon())
    assert isinstance(unknown, Unread)
    assert unknown.absent
    assert await books.currencies(account, soon()) == ["USD"]
    await wire.post("/settings", login=login_of(account), reporting=False)
    for answer in (
        await books.batches(account, NOW - DAY, NOW, "USD", soon()),
        await whole(books.unsettled(account, "USD", soon())),
        await whole(books.batch(account, "1", "USD", soon())),
        await books.transaction(account, "1", "USD", soon()),
    ):
        assert isinstance(answer, Unread)
        assert answer.refused, answer
        assert "E00011" in answer.reason


async def test_a_long_span_is_asked_in_windows_of_at_most_31_days_without_a_gap(
    books: Books,
) -> None:
    asked: list[tuple[datetime, datetime]] = []

    def answer(method: str, fields: dict[str, Any]) -> object:
        assert fields["includeStatistics"] is True
        asked.append(
            (
                datetime.fromisoformat(fields["firstSettlementDate"]),
                datetime.fromisoformat(fields["lastSettlementDate"]),
            )
        )
        return {"messages": NONE}

    since = datetime(2026, 3, 7, 23, 59, 59, 999_000, UTC)  # across daylight saving, at midnight
    async with reporting(answer) as account:
        found = await books.batches(account, since, since + 180 * DAY, "USD", soon())
    assert found == []
    assert len(asked) == 6
    assert asked[0][0] <= since
    assert asked[-1][1] >= since + 180 * DAY
    assert all(last - first <= LONGEST_SPAN for first, last in asked)
    assert all(asked[n + 1][0] <= asked[n][1] for n in range(5)), "no gap"


async def test_a_list_of_many_pages_is_read_once_and_a_lost_page_is_asked_again(
    books: Books,
) -> None:
    shown = Shown()
    shown.batches = {"7": Listed([settling(n) for n in range(1, 2501)], "2026-01-01T00:00:00Z")}
    losses = [GONE]
    shown.before["batch 7 2"] = lambda: losses.pop() if losses else None
    async with reporting(shown.answer) as account:
        lines = expect_lines(await whole(books.batch(account, "7", "USD", soon())))
    assert [int(each.transaction_id) for each in lines] == list(range(1, 2501))
    assert shown.asked == ["batch 7 1", "batch 7 2", "batch 7 2", "batch 7 3"]
    assert {each.amount_minor for each in lines} == {12_50}


@pytest.mark.parametrize(
    ("totals", "reason"),
    [([1500, 1499], "shrank"), ([1600, 1600], "not whole")],
)
async def test_half_a_list_is_never_a_whole_one(
    books: Books, totals: list[int], reason: str
) -> None:
    shown = Shown()
    shown.unsettled = [settling(n) for n in range(1, 1501)]
    shown.total = lambda call, _: totals[int(call.split()[1]) - 1]
    async with reporting(shown.answer) as account:
        answer = await whole(books.unsettled(account, "USD", soon()))
    assert isinstance(answer, Unread)
    assert reason in answer.reason


async def test_a_line_that_cannot_be_read_makes_the_list_unread(books: Books) -> None:
    for spoiled in ({"settleAmount": "12.505"}, {"transactionStatus": 7}, {"transId": "x"}):
        shown = Shown()
        shown.unsettled = [settling(1), settling(2) | spoiled]
        async with reporting(shown.answer) as account:
            answer = await whole(books.unsettled(account, "USD", soon()))
        assert isinstance(answer, Unread), spoiled
        assert not answer.refused


async def test_a_reader_that_stops_asks_for_no_further_page(books: Books) -> None:
    shown = Shown()
    shown.unsettled = [settling(n) for n in range(1, 5001)]
    async with reporting(shown.answer) as account:
        async with aclosing(books.unsettled(account, "USD", soon())) as pages:  # type: ignore[type-var]
            await anext(pages)
    assert shown.asked == ["unsettled 1"]


def test_every_status_has_a_meaning_in_the_books() -> None:
    assert statuses.IN_BOOKS.keys() == statuses.STATUSES.keys()
    assert {each.meaning for each in statuses.IN_BOOKS.values()} == set(MEANINGS) - {"unclear"}
    assert statuses.in_books("newWord").meaning == "unclear"
