"""One account while it is read, and the questions about its transactions."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from easypay.clock import monotonic
from easypay.errors import EasyPayError
from easypay.merchants.model import Login
from easypay.payments.model import Payment
from easypay.processors.base import Deadline, Finding, Inconclusive, Processor
from easypay.processors.books import BookedTransaction, BookLine, Books, Unread
from easypay.restoring import story
from easypay.restoring.rows import Known
from easypay.restoring.story import Owner

CALL_S: Final = 60.0


class NotRead(EasyPayError):
    """An account's books cannot be read, so what it took is not known."""


@dataclass
class OpenAccount:
    """An account while it is read."""

    login: Login
    owners: list[Owner]
    currency: str
    processor: Processor
    books: Books
    read: int = 0
    refunds: list[str] = field(default_factory=list)
    """Refunds that are lost or open here: transactions."""
    known: dict[str, Known] = field(default_factory=dict)
    """Of these, the operations of those that are open."""

    async def line_of(self, payment: Payment) -> BookLine | None:
        """Return what the processor says of a payment now. None if it does not know it: that is
        for the reconciliation."""
        if payment.answer.transaction_id is None:
            return None
        booked = await self.find(payment.answer.transaction_id)
        return None if booked is None else booked.line

    async def transaction(self, transaction_id: str) -> BookedTransaction:
        """Return a transaction that a list has named. Raises NotRead."""
        found = await self.find(transaction_id)
        if found is None:
            raise NotRead(f"transaction {transaction_id} is not known there any more")
        return found

    async def find(self, transaction_id: str) -> BookedTransaction | None:
        """Return a transaction; None if the processor does not know it."""
        deadline = Deadline(monotonic() + CALL_S)
        found = await self.books.transaction(
            self.login.account, transaction_id, self.currency, deadline
        )
        if not isinstance(found, Unread):
            return found
        if found.absent:
            return None
        raise NotRead(f"transaction {transaction_id}: {found.reason}")

    async def finding(self, booked: BookedTransaction) -> Finding:
        """Return what the processor proves about a lost charge. Nothing yet about a refund."""
        made = story.operation_id_of(booked.line.reference)
        if made is None or booked.asked in (None, "refund") or not story.asked_minor(booked):
            return Inconclusive(reason="it is not asked about")
        return await self.inquire(made, booked)

    async def inquire(self, operation_id: UUID, booked: BookedTransaction) -> Finding:
        """Return what the processor proves about a lost charge or refund."""
        to = self.login.account
        finding = await self.processor.inquire_transaction(
            story.inquiry(to, operation_id, booked),
            booked.line.transaction_id,
            Deadline(monotonic() + CALL_S),
        )
        return story.outcome_of(booked, finding)
