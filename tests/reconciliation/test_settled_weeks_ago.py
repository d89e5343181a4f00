"""Banks take money back weeks after it was paid out: the books of that day are read again, each
payment is told once, and a statement of a time that is over stays as it was."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from easypay.processors import books as interface
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.settlement.statements import Line, Question, statement_of
from harness import AMEX, card

from .reconciled import DAY_S, Reconciled

BANK = {
    "type": "bank_account",
    "bank_account": {
        "account_type": "checking",
        "routing_number": "121042882",
        "account_number": "1234567890",
        "name_on_account": "Ada Lovelace",
    },
}


async def statement(books: Reconciled, since: datetime, until: datetime) -> Any:
    """Return a statement's sums by brand, and its end."""
    lines: list[Line] = []
    question = Question(since, until, "UTC", ("currency", "brand"), books.shop.merchant_id)
    async with books.stack.sessions.session() as connection:
        end = await statement_of(connection, question, lines.append)
    shown = {
        each.of["brand"]: (
            *(each.sums.charged.amount, each.sums.refunded.amount, each.sums.returned.amount),
            *(each.sums.charged_back.amount, each.sums.reversed.amount, each.sums.net),
        )
        for each in lines
    }
    assert end.differences == []
    return shown, end.open, end.batches


async def test_what_banks_take_back_after_sixty_days(books: Reconciled) -> None:
    shop = books.shop
    by_bank = await shop.paid(9000, payment_method=BANK)
    disputed = await shop.paid(25_00, payment_method=card(AMEX, cvc="9074"))
    kept = await shop.paid(1_01)
    began = await books.stack.value("SELECT db_now() - interval '1 hour'")
    await books.settle()
    await books.run()
    assert (await shop.refund(kept["id"], 50)).status_code == 201
    await books.settle()
    await books.run()
    weeks = began, began + timedelta(days=30)
    first = {
        "amex": (25_00, 0, 0, 0, 0, 25_00),
        "echeck": (9000, 0, 0, 0, 0, 9000),
        "visa": (1_01, 50, 0, 0, 0, 51),
    }
    assert await statement(books, *weeks) == (first, [], 3)

    await books.time.advance(60 * DAY_S)
    simulator = books.stack.simulator
    await simulator.post("/returns", trans_id=await books.transaction(by_bank), code="R10")
    await simulator.post("/status", trans_id=await books.transaction(disputed), status="chargeback")
    for _ in range(2):
        await books.run()
    await simulator.post(
        "/status", trans_id=await books.transaction(disputed), status="chargebackReversal"
    )
    await books.run()

    for payment, told in (
        (by_bank, ["captured", "settled", "returned"]),
        (disputed, ["captured", "settled", "charged_back", "chargeback_reversed"]),
    ):
        events = await shop.all(f"/payments/{payment['id']}/events")
        assert [event["type"] for event in events] == [f"payment.{each}" for each in told]
        assert (await shop.payment(payment["id"]))["settlement_state"] == told[-1]
        void = await shop.void(payment["id"])
        assert (void.status_code, void.json()["code"]) == (409, "already_settled")
    assert (await shop.refund(by_bank["id"])).json()["code"] == "invalid_state"
    back = await shop.refund(disputed["id"], 5_00)
    assert back.json()["code"] == "processor_invalid_state", "the processor decides"

    assert await statement(books, *weeks) == (first, [], 3), "a time that is over stays as it was"
    later, left, _ = await statement(books, weeks[1], weeks[1] + timedelta(days=365))
    assert later == {
        "amex": (0, 0, 0, 25_00, 25_00, 0),
        "echeck": (0, 0, 9000, 0, 0, -9000),
    }
    assert left == []
    assert await books.breaks() == []


class _Bounced:
    """The books of a processor that shows a return as a transaction of its own, in a batch of its
    own, and does not name what it returns."""

    def __init__(
        self, books: interface.Books, original: str, batch: interface.SettledBatch
    ) -> None:
        self._books = books
        self._original = original
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)

    async def batches(self, *whose: Any) -> Sequence[interface.SettledBatch] | interface.Unread:
        found = await self._books.batches(*whose)
        return found if isinstance(found, interface.Unread) else [*found, self._batch]

    async def batch(
        self, account: Any, batch_id: str, *more: Any
    ) -> AsyncIterator[Sequence[interface.BookLine] | interface.Unread]:
        if batch_id == self._batch.batch_id:
            found = await self.transaction(account, RETURN, *more)
            yield found if isinstance(found, interface.Unread) else [found.line]
            return
        async for page in self._books.batch(account, batch_id, *more):
            yield page

    async def transaction(
        self, account: Any, transaction_id: str, *more: Any
    ) -> interface.BookedTransaction | interface.Unread:
        if transaction_id != RETURN:
            return await self._books.transaction(account, transaction_id, *more)
        found = await self._books.transaction(account, self._original, *more)
        assert isinstance(found, interface.BookedTransaction)
        at = self._batch.settled_at
        return found._replace(
            line=found.line._replace(
                transaction_id=RETURN, status="returnedItem", meaning="returned"
            ),
            parent_id=None,
            batch_id=self._batch.batch_id,
            settled_at=at,
            returned_items=[interface.ReturnedItem("1", "R01", "Insufficient funds", at)],
        )


RETURN = "99000000001"


async def _batch_of_the_return(books: Reconciled) -> interface.SettledBatch:
    return interface.SettledBatch(
        batch_id="99",
        settled_at=await books.stack.value("SELECT db_now() - interval '1 hour'"),
        state="settledSuccessfully",
        closed=True,
        method="bank_account",
        statistics=[interface.BrandFigures(brand="eCheck", returned_minor=90_00, returns=1)],
    )


async def test_a_return_that_names_only_our_reference_is_no_second_charge(
    books: Reconciled,
) -> None:
    """Whoever refunded it as a second charge would give away what the bank has taken back."""
    by_bank = await books.shop.paid(90_00, payment_method=BANK)
    await books.settle()
    await books.time.advance(10 * DAY_S)
    processor = AuthorizeNet()
    processor.books = _Bounced(  # type: ignore[assignment]
        processor.books,
        await books.transaction(by_bank),
        await _batch_of_the_return(books),
    )
    try:
        result = await books.reading(processor).run(await books.account())
    finally:
        await processor.close()
    assert result is not None
    assert (result.failure, result.new_breaks) == (None, {"unexplained_refund": 1})
    found = await books.breaks("transaction_id", "their_state", "our_minor", "their_minor")
    assert found == [(RETURN, "returnedItem", 90_00, 90_00)]
    assert (await books.shop.payment(by_bank["id"]))["settlement_state"] == "settled"


@pytest.mark.parametrize("read_before", [True, False])
async def test_a_return_with_an_id_of_its_own_belongs_to_what_it_returns(
    books: Reconciled, read_before: bool
) -> None:
    by_bank = await books.shop.paid(90_00, payment_method=BANK)
    began = await books.stack.value("SELECT db_now() - interval '1 hour'")
    await books.settle()
    if read_before:
        await books.run()
    await books.time.advance(10 * DAY_S)
    returned = {"trans_id": await books.transaction(by_bank), "code": "R01", "own_id": True}
    await books.stack.simulator.post("/returns", **returned)
    for _ in range(3):
        assert (await books.run()).new_breaks == {}
        # As if a chargeback had changed the sums of each batch: all are read again.
        await books.stack.fetch("UPDATE settled_batches SET read_at = NULL")
    await books.run()
    events = await books.shop.all(f"/payments/{by_bank['id']}/events")
    # By their times: ids have a clock each, and the books' is weeks behind the gateway's here.
    events.sort(key=lambda event: event["created_at"])
    assert [event["type"] for event in events] == [
        *("payment.captured", "payment.settled", "payment.returned")
    ]
    shown = await books.shop.payment(by_bank["id"])
    assert shown["settlement_state"] == "returned"
    ((code, became),) = await books.stack.fetch(
        "SELECT code, became FROM settlement_changes WHERE account = $1", await books.account()
    )
    assert (code, became) == ("R01", "returned")
    sums, left, _ = await statement(books, began, began + timedelta(days=30))
    assert (sums, left) == ({"echeck": (90_00, 0, 90_00, 0, 0, 0)}, [])
