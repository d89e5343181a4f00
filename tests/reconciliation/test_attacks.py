"""What would leave money uncounted, counted twice or told wrongly: each found by attacking it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from easypay import clock, ids
from easypay.processors import books as interface
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.reconciliation import matching, run
from easypay.reconciliation.matching import Account
from easypay.reconciliation.reading import ToRead
from easypay.reconciliation.spool import Spool
from harness import MASTERCARD

from .reconciled import DAY_S, Reconciled

LATE_TEXT = "ZZZZZZZZZXZZZFZZZZZZ"
"""An invoice number that is a reference of the year 10889."""


async def _told(books: Reconciled) -> list[tuple[str, int]]:
    rows = await books.stack.fetch(
        "SELECT type, amount_minor FROM events WHERE merchant_id = $1"
        " AND (type LIKE '%.settled' OR type LIKE '%.returned') ORDER BY type, amount_minor",
        books.shop.merchant_id,
    )
    return [tuple(row) for row in rows]


async def test_an_invoice_number_of_a_far_year_stands_in_no_one_s_way(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    await books.portal.charge(7_77, LATE_TEXT)
    assert (await books.run()).new_breaks == {"unexplained_charge": 1}


async def test_what_the_processor_does_not_have_is_told_after_a_gap_of_weeks(
    books: Reconciled,
) -> None:
    """Nobody could read the books while it was between three and four days old."""
    await books.shop.paid(24_00)
    await books.run()
    paid = await books.shop.paid(25_00)
    await books.stack.simulator.post("/reset", login=books.shop.login)
    await books.time.advance(9 * DAY_S)
    await books.run()
    found = await books.breaks("kind", "subject")
    assert ("missing_at_processor", await books.reference(paid)) in found


async def test_a_refund_at_the_portal_with_our_reference_is_not_told_as_ours(
    books: Reconciled,
) -> None:
    """The processor's pages copy the invoice number of the charge that is refunded."""
    paid = await books.shop.paid(25_00)
    await books.settle()
    await books.portal.refund(await books.transaction(paid), 3_00, await books.reference(paid))
    await books.settle()
    assert (await books.run()).new_breaks == {"unexplained_refund": 1}
    assert await _told(books) == [("payment.settled", 25_00)]


async def test_a_refund_that_is_there_twice_is_told_once(books: Reconciled) -> None:
    paid = await books.shop.paid(25_00)
    await books.settle()
    refund = (await books.shop.refund(paid["id"], 5_00)).json()
    reference = await books.stack.value(
        "SELECT reference FROM operations WHERE merchant_id = $1 AND kind = 'refund'",
        books.shop.merchant_id,
    )
    assert refund
    await books.portal.refund(await books.transaction(paid), 4_00, reference)
    await books.settle()
    assert (await books.run()).new_breaks == {"doubled": 1}
    assert await _told(books) == [("payment.settled", 25_00), ("refund.settled", 5_00)]


async def test_settled_charges_are_judged_once_ours_are_known(
    books: Reconciled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their batch was read while ours were open, and never again; then ours were closed as
    declined. All of them are judged in one run, however few go into one transaction."""
    await books.shop.paid(20_00)
    lost = []
    for minor in (25_00, 26_00, 27_00):
        await books.stack.simulator.fault("drop_reply", books.shop.login)
        lost.append(ids.parse(ids.PAYMENT, (await books.shop.pay(minor)).json()["id"]))
    books.stack.rest()
    try:
        await books.stack.simulator.post("/settle")
        assert (await books.run()).new_breaks == {}
        for statement in (
            "DELETE FROM unresolved_operations WHERE merchant_id = $1 AND payment_id = ANY($2)",
            "UPDATE operations SET state = 'declined'"
            " WHERE merchant_id = $1 AND payment_id = ANY($2)",
            "UPDATE payments SET status = 'declined', active_operation = NULL"
            " WHERE merchant_id = $1 AND id = ANY($2)",
        ):
            await books.stack.fetch(statement, books.shop.merchant_id, lost)
        monkeypatch.setattr(run, "MOST_LINES", 1)
        assert (await books.run()).new_breaks == {"unexplained_charge": 3}
        assert (await books.run()).new_breaks == {}
    finally:
        books.stack.wake()


async def test_what_did_not_settle_and_is_voided_there_stays_until_it_is_voided_here(
    books: Reconciled,
) -> None:
    """A void at the processor's pages five days after the sale: the money will never come, and ours
    goes on saying captured."""
    paid = await books.shop.paid(25_00)
    await books.time.advance(5 * DAY_S)
    assert (await books.run()).new_breaks == {"not_settled": 1}
    transaction = await books.transaction(paid)
    await books.portal.void(transaction)
    await books.run()
    assert ("not_settled", transaction) in await books.breaks()
    assert (await books.shop.void(paid["id"])).status_code == 201
    await books.run()
    assert await books.breaks() == []


@asynccontextmanager
async def _in_the_archive(books: Reconciled) -> AsyncIterator[None]:
    """Take the shop's operations out of sight, as a month that is archived is."""
    merchant_id, nobody = books.shop.merchant_id, UUID(int=1)
    moved = "UPDATE operations SET merchant_id = $2 WHERE merchant_id = $1"
    await books.stack.fetch(
        "INSERT INTO archived_months (month, low, high, label, manifest)"
        " VALUES ('1999_01', $1, $2, 'x', '{}')",
        *(UUID(int=0), UUID(int=2**128 - 1)),
    )
    await books.stack.fetch(moved, merchant_id, nobody)
    try:
        yield
    finally:
        await books.stack.fetch(moved, nobody, merchant_id)
        await books.stack.fetch("DELETE FROM archived_months WHERE month = '1999_01'")


async def test_a_difference_is_not_cleared_because_ours_is_in_the_archive(
    books: Reconciled,
) -> None:
    paid = await books.shop.paid(25_00)
    twice = await books.portal.charge(8_88, await books.reference(paid), number=MASTERCARD)
    await books.time.advance(3600)
    await books.settle()
    assert (await books.run()).new_breaks == {"doubled": 1}
    async with _in_the_archive(books):
        await books.run()
        assert await books.breaks() == [("doubled", twice)]


async def test_a_batch_that_is_read_again_keeps_whose_its_rows_are(books: Reconciled) -> None:
    """Our months may be in the archive when a bank returns an item of an old batch."""
    await books.shop.paid(25_00)
    await books.settle()
    await books.run()
    before = await books.everything()
    key = await books.account()
    async with _in_the_archive(books):
        await books.stack.fetch("UPDATE settled_batches SET read_at = NULL WHERE account = $1", key)
        assert (await books.run()).batches == 1
        assert await books.everything() == before


async def test_a_payment_that_comes_back_after_its_batch_was_read_is_told(
    books: Reconciled,
) -> None:
    paid = await books.shop.paid(25_00)
    await books.settle()
    moved = "UPDATE operations SET merchant_id = $2 WHERE merchant_id = $1"
    await books.stack.fetch(moved, books.shop.merchant_id, UUID(int=2))
    assert (await books.run()).new_breaks == {"unexplained_charge": 1}
    await books.stack.fetch(moved, UUID(int=2), books.shop.merchant_id)
    await books.run()
    assert await books.breaks() == []
    assert (await books.shop.payment(paid["id"]))["settlement_state"] == "settled"


async def test_half_a_list_takes_nothing_away_that_was_told(books: Reconciled) -> None:
    """The sums say that the batch has more: what its list does not show is not gone."""
    await books.shop.paid(25_00)
    await books.settle()
    await books.run()
    key = await books.account()
    ((batch_id,),) = await books.stack.fetch(
        "SELECT batch_id FROM settled_batches WHERE account = $1", key
    )
    await books.stack.fetch(
        "INSERT INTO settled_transactions (account, batch_id, transaction_id, kind, status,"
        " amount_minor, currency, settled_at, told) VALUES ($1, $2, '4711', 'charge',"
        " 'settledSuccessfully', 100, 'USD', db_now(), 'settled')",
        *(key, batch_id),
    )
    batch = ToRead(batch_id, clock.now(), '[{"charges":2,"refunds":0}]')
    account = Account(key, [books.shop.merchant_id], clock.now())
    spool = Spool(clock.now())
    try:
        assert spool.lines < batch.moved
        async with books.pool.acquire() as connection, connection.transaction():
            await matching.match(connection, spool, account, clock.now())
            await matching.keep(connection, spool, account, batch_id, whole=False)
    finally:
        spool.close()
    assert len(await books.everything()) == 2


class _Short:
    """The books, whose lists of batches lack their last transaction."""

    def __init__(self, books: interface.Books) -> None:
        self._books = books

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)

    async def batch(
        self, *whose: Any
    ) -> AsyncIterator[Sequence[interface.BookLine] | interface.Unread]:
        async for page in self._books.batch(*whose):
            yield page if isinstance(page, interface.Unread) else page[:-1]


async def test_a_batch_that_is_never_whole_is_named_in_the_log(
    books: Reconciled, caplog: pytest.LogCaptureFixture
) -> None:
    await books.shop.paid(25_00)
    await books.shop.paid(26_00)
    await books.settle()
    processor = AuthorizeNet()
    processor.books = _Short(processor.books)  # type: ignore[assignment]
    try:
        for _ in range(2):
            result = await books.reading(processor).run(await books.account())
            assert result is not None
            assert (result.batches, result.failure) == (1, None)
    finally:
        await processor.close()
    assert caplog.text.count("has 1 of 2 transactions; it is read again") == 2
    assert (await books.run()).batches == 1


async def _ended_at(books: Reconciled) -> Any:
    return await books.stack.value(
        "SELECT last_ended_at FROM account_books WHERE account = $1", await books.account()
    )


async def test_all_that_is_in_no_list_is_judged_before_a_run_is_whole(
    books: Reconciled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it is: in rounds, and in further runs if there is no time."""
    monkeypatch.setattr(run, "MOST_ASKED", 1)
    await books.shop.paid(24_00)
    await books.run()
    for minor in (25_00, 26_00, 27_00, 28_00):
        await books.shop.paid(minor)
    await books.stack.simulator.post("/reset", login=books.shop.login)
    await books.time.advance(3.1 * DAY_S)
    ended = await _ended_at(books)
    for name, value, judged in (("ASKING_S", 0.0, 1), ("MOST_WAITING", 1, 4)):
        with monkeypatch.context() as patched:
            patched.setattr(run, name, value)
            result = await books.reconciliation.run(await books.account())
        assert result is not None
        assert result.new_breaks == {"missing_at_processor": judged}, name
        assert "in no list" in (result.failure or "")
        assert await _ended_at(books) == ended
    await books.run()
    assert len(await books.breaks()) == 5


async def test_what_ended_days_after_it_began_is_told_if_it_is_missing(books: Reconciled) -> None:
    """It was unknown for two days, so it is three days old when its begin is five days ago."""
    await books.shop.paid(24_00)
    await books.stack.simulator.fault("drop_reply", books.shop.login)
    lost = (await books.shop.pay(25_00)).json()
    books.stack.rest()
    try:
        await books.time.advance(2 * DAY_S)
    finally:
        books.stack.wake()
    await books.shop.becomes(lost["id"], "captured")
    assert (await books.run()).new_breaks == {}
    await books.stack.simulator.post("/reset", login=books.shop.login)
    await books.time.advance(2.5 * DAY_S)
    await books.run()
    missing = ("missing_at_processor", await books.reference(lost))
    assert missing not in await books.breaks("kind", "subject")
    await books.time.advance(0.8 * DAY_S)
    await books.run()
    assert missing in await books.breaks("kind", "subject")


async def test_money_that_two_batches_show_counts_once(books: Reconciled) -> None:
    """And what became of it may be told by either."""
    paid = await books.shop.paid(25_00)
    await books.settle()
    await books.run()
    key = await books.account()
    (row,) = await books.stack.fetch("SELECT * FROM settled_transactions WHERE account = $1", key)
    now = await books.stack.value("SELECT db_now()")
    account = Account(key, [books.shop.merchant_id], now)
    for meaning in ("settled", "charged_back"):
        line = interface.BookLine(
            *(row["transaction_id"], meaning, meaning, "charge", row["reference"], 25_00, "USD"),
            *("visa", "1111", row["submitted_at"]),
        )
        spool = Spool(now)
        try:
            spool.add([line], "another", row["settled_at"])
            async with books.pool.acquire() as connection, connection.transaction():
                await matching.match(connection, spool, account, now)
                await matching.keep(connection, spool, account, "another", whole=True)
        finally:
            spool.close()
        await books.run()
        (kept,) = await books.stack.fetch(
            "SELECT * FROM settled_transactions WHERE account = $1", key
        )
        assert (kept["batch_id"], kept["told"]) == (row["batch_id"], meaning)
    assert await _told(books) == [("payment.settled", 25_00)]
    assert (await books.shop.payment(paid["id"]))["settlement_state"] == "charged_back"
