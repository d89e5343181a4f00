"""Banks take money back weeks after it was paid out: the books of that day are read again, each
payment is told once, and a statement of a time that is over stays as it was."""

from datetime import datetime, timedelta
from typing import Any

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
