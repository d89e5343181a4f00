"""Days of a shop's life with the processor's faults, what its owner does at the processor's pages,
returns and chargebacks: every cent that settled is explained, and each planted difference is found
once. Some days in the suite; `make year` lives a year.
"""

import asyncio
import os
import random
from collections import Counter
from typing import Any, Final

import pytest

from easypay.payments.authorization_expiry import Sweep
from harness import MASTERCARD
from settlement.books import wrong_sums

from .reconciled import DAY_S, Reconciled

DAYS: Final = int(os.environ.get("EASYPAY_YEAR_DAYS", "7"))
SEED: Final = int(os.environ.get("EASYPAY_YEAR_SEED", "2"))
PAYMENTS_A_DAY: Final = 4
LAST_DAYS: Final = 4
"""In which nothing new happens and all comes to its end."""
FAULTS: Final = (
    *("drop_reply", "drop_reply", "error_after", "truncate", "garbage", "reset_before"),
    *("error_before", "late_charge", "late_charge", "code_after"),
)
SETTLED: Final = {
    *("settledSuccessfully", "refundSettledSuccessfully"),
    *("returnedItem", "chargeback", "chargebackReversal"),
}
BANK: Final = {
    "type": "bank_account",
    "bank_account": {
        "account_type": "checking",
        "routing_number": "121000248",
        "account_number": "12345678",
        "name_on_account": "Jane Doe",
    },
}
pytestmark = pytest.mark.timeout(max(120, 60 * DAYS))


class Life:
    """The shop's days, by one seed."""

    def __init__(self, books: Reconciled) -> None:
        self.books = books
        self.rng = random.Random(SEED)
        self.untouched: list[dict[str, Any]] = []
        """Captured payments of the day, to which something may still happen."""
        self.held: list[dict[str, Any]] = []
        self.settled: list[dict[str, Any]] = []
        self.planted: set[tuple[str, str]] = set()
        """The kind and the transaction of each difference that must be found."""
        self.amount = 1000
        self.expiry = Sweep(books.pool)
        """The gateway's own is due once a minute, which is weeks here."""

    async def day(self) -> None:
        for _ in range(PAYMENTS_A_DAY):
            await self._pay()
        await self._follow_up()
        await self._plant()
        await self._of_banks()

    async def _pay(self) -> None:
        rng, shop = self.rng, self.books.shop
        self.amount += rng.randint(1, 99)
        if rng.random() < 0.3:
            fault: dict[str, Any] = {}
            kind = rng.choice(FAULTS)
            if kind == "late_charge":
                fault = {"by_clock": True, "delay_ms": rng.choice((20_000, 800_000, 8_000_000))}
            elif kind == "code_after":
                fault = {"code": "E00001"}
            await self.books.stack.simulator.fault(kind, shop.login, **fault)
        more: dict[str, Any] = {"payment_method": BANK} if rng.random() < 0.2 else {}
        capture = "manual" if not more and rng.random() < 0.3 else "automatic"
        answer = await shop.pay(self.amount, capture=capture, **more)
        await self.books.stack.simulator.clear_faults()
        payment = answer.json()
        if answer.status_code == 201 and payment["status"] == "captured":
            self.untouched.append(payment)
        elif answer.status_code == 201 and payment["status"] == "authorized":
            self.held.append(payment)

    async def _follow_up(self) -> None:
        """Capture and void holds; void what was taken, refund what settled."""
        rng, shop = self.rng, self.books.shop
        while self.held and rng.random() < 0.7:
            payment = self.held.pop(rng.randrange(len(self.held)))
            if rng.random() < 0.3:
                await shop.void(payment["id"])
            else:
                await shop.capture(payment["id"], payment["amount"] - rng.choice((0, 0, 55)))
        if self.untouched and rng.random() < 0.3:
            await shop.void(self.untouched.pop()["id"])
        if self.settled and rng.random() < 0.6:
            payment = self.settled.pop(rng.randrange(len(self.settled)))
            if rng.random() < 0.3:
                await self.books.stack.simulator.fault("drop_reply", shop.login)
            await shop.refund(payment["id"], rng.choice((None, 100)))
            await self.books.stack.simulator.clear_faults()

    async def _plant(self) -> None:
        """What the shop's owner does at the processor's own pages."""
        rng, portal = self.rng, self.books.portal
        if rng.random() < 0.3:
            self.amount += 1
            self.planted.add(("unexplained_charge", await portal.charge(self.amount)))
        if rng.random() < 0.25 and self.settled:
            payment = self.settled.pop()
            if payment["payment_method"]["type"] == "card":
                back = await portal.refund(await self.books.transaction(payment), 77)
                self.planted.add(("unexplained_refund", back))
        if rng.random() < 0.25 and self.untouched:
            gone = await self.books.transaction(self.untouched.pop())
            await portal.void(gone)
            self.planted.add(("unexplained_void", gone))
        if rng.random() < 0.2 and self.untouched:
            payment = self.untouched.pop()
            reference = await self.books.reference(payment)
            twice = await portal.charge(payment["amount"], reference, number=MASTERCARD)
            self.planted.add(("doubled", twice))

    async def _of_banks(self) -> None:
        if self.settled and self.rng.random() < 0.3:
            payment = self.settled.pop(0)
            transaction = await self.books.transaction(payment)
            post = self.books.stack.simulator.post
            if payment["payment_method"]["type"] == "card":
                await post("/status", trans_id=transaction, status="chargeback")
            else:
                own_id = self.rng.random() < 0.5
                await post("/returns", trans_id=transaction, code="R01", own_id=own_id)

    async def night(self) -> None:
        """Settle, let a day pass with all that it resolves, and reconcile."""
        await self.books.stack.simulator.post("/settle")
        self.settled += self.untouched
        self.untouched = []
        for _ in range(6):
            await self.books.time.advance(DAY_S / 6)
            await self.expiry.step()
            await self.books.time.settles()
        if self.rng.random() < 0.5:
            await self._cut_short()
        await self.books.run()

    async def _cut_short(self) -> None:
        """Begin to reconcile, and end it somewhere."""
        running = asyncio.create_task(self.books.reconciliation.run(await self.books.account()))
        await asyncio.wait({running}, timeout=self.rng.random() * 0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self.books.time.advance(61)  # the lease of one that could not give it back


async def settled_there(books: Reconciled) -> dict[str, tuple[str, int]]:
    """What the processor has settled: transaction to kind and amount."""
    found: dict[str, tuple[str, int]] = {}
    for row in await books.stack.simulator.truth(login=books.shop.login):
        refund = row["type"] == "refundTransaction"
        returns = not refund and row["ref_trans_id"] not in (None, row["trans_id"])
        if row["status"] in SETTLED and row["type"] != "voidTransaction" and not returns:
            kind = "refund" if refund else "charge"
            found[row["trans_id"]] = kind, int(row["amount"].replace(".", ""))
    return found


async def test_every_cent_of_these_days_is_explained(books: Reconciled) -> None:
    life = Life(books)
    await books.shop.paid(10_00)
    for _ in range(DAYS):
        await life.day()
        await life.night()
    for _ in range(LAST_DAYS):
        await life.night()
    there = await settled_there(books)
    rows = await books.stack.fetch(
        "SELECT transaction_id, kind, amount_minor, payment_id, settlement_state, told"
        "  FROM settled_transactions WHERE account = $1",
        await books.account(),
    )
    ours = {row["transaction_id"]: (row["kind"], row["amount_minor"]) for row in rows}
    assert ours == there, "the books are here as they are there"
    assert len(rows) == len(ours)
    assert await wrong_sums(books.stack, await books.account()) == set()

    breaks = await books.breaks("kind", "transaction_id", "their_minor")
    found = Counter((kind, transaction) for kind, transaction, _ in breaks)
    assert set(found) == life.planted
    assert len({kind for kind, _ in found}) >= 3, "nearly every kind was planted"
    assert set(found.values()) <= {1}, "each is found once"
    differing = {transaction for _, transaction, _ in breaks}
    unexplained = [
        tuple(row)
        for row in rows
        if row["transaction_id"] not in differing
        and (row["payment_id"] is None or row["told"] != row["settlement_state"])
    ]
    late = {
        row["transaction_id"]
        for row in await books.stack.fetch(
            "SELECT transaction_id FROM late_charges WHERE merchant_id = $1",
            books.shop.merchant_id,
        )
    }
    assert [row for row in unexplained if row[0] not in late] == []
    payments = await books.stack.fetch(
        "SELECT transaction_id, captured_minor, settlement_state FROM payments"
        " WHERE merchant_id = $1 AND status = 'captured'",
        books.shop.merchant_id,
    )
    wrong = [
        tuple(row)
        for row in payments
        if row["transaction_id"] not in differing
        and there.get(row["transaction_id"]) != ("charge", row["captured_minor"])
    ]
    assert wrong == [], "what is captured here has settled there, to the cent"
    outlived = await books.stack.value(
        "SELECT count(*) FROM payments WHERE merchant_id = $1 AND status = 'authorized'"
        "   AND created_at < db_now() - interval '32 days'",
        books.shop.merchant_id,
    )
    assert outlived == 0, "what has expired there has expired here"
