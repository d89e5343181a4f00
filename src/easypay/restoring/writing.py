"""Write what was lost: charges, what became of them, and refunds. Items tell what was done."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.clock import rfc3339
from easypay.failpoints import reach
from easypay.payments import store
from easypay.payments.model import CREATES, Kind, Operation, Payment, State
from easypay.payments.outcome_changes import Evidence, Learned
from easypay.payments.resolver_rows import STILL_OPEN
from easypay.payments.statements import Recorder
from easypay.processors.base import Approved, Finding, Found, HeldForReview
from easypay.processors.books import BookedTransaction, BookLine
from easypay.restoring import rows, story
from easypay.restoring.account import OpenAccount
from easypay.restoring.rows import Known
from easypay.restoring.story import Item, Owner

_OPEN: Final = STILL_OPEN | {State.QUEUED}


class Writer:
    """Writes to the database, or in a dry run only tells. `assigned` names the merchant of a
    reference where several share an account; `tell` is called with a line for a person."""

    def __init__(
        self,
        *,
        connection: Any,
        recorder: Recorder,
        dry_run: bool,
        assigned: Mapping[str, UUID],
        tell: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._dry_run = dry_run
        self._assigned = assigned
        self._tell = tell
        self.items: list[Item] = []

    # charges -------------------------------------------------------------------------------------

    async def lost(self, account: OpenAccount, booked: BookedTransaction, finding: Finding) -> None:
        """Bring a lost charge back. A refund waits until all charges are there."""
        line, operation_id = booked.line, story.operation_id_of(booked.line.reference)
        if operation_id is None:
            return
        if booked.asked == "refund":
            account.refunds.append(line.transaction_id)
            return
        if booked.asked is None or not story.asked_minor(booked):
            self._note("charge", "by_hand", booked, why=f"it is {line.status}, {booked.type}")
            return
        owner = self._owner(account, line.reference)
        if owner is None:
            if not self._dry_run and line.meaning not in story.NO_MONEY:
                await rows.remember_ownerless(
                    self._connection,
                    account.owners,
                    operation_id,
                    transaction_id=line.transaction_id,
                    amount_minor=story.asked_minor(booked),
                    currency=line.currency,
                    order_reference=booked.order_reference,
                    last4=line.last4,
                )
            shared = "several merchants share the account: name its own with --assign"
            self._note("charge", "by_hand", booked, why=shared)
            return
        if self._dry_run:
            self._note("charge", "restored", booked, owner=owner)
            return
        processor = account.login.account.processor
        payment, operation = story.lost_payment(owner, processor, operation_id, booked)
        digest, owners = account.login.digest, account.owners
        await rows.begin_charge(
            self._connection, digest, owners, payment, operation, line.transaction_id
        )
        payment = await self._ended(operation, finding)
        await self._told("charge", booked, operation, payment)
        await self.catch_up(account, payment, line)

    def _owner(self, account: OpenAccount, reference: str | None) -> Owner | None:
        """Return whose charge it is, if that can be told."""
        if len(account.owners) == 1:
            return account.owners[0]
        named = self._assigned.get(reference or "")
        mine = [owner for owner in account.owners if owner.merchant_id == named]
        return mine[0] if len(mine) == 1 else None

    async def known(self, account: OpenAccount, known: Known, line: BookLine) -> None:
        """End a known operation that is open here, and bring the payment of a charge up to date."""
        is_open = known.state in _OPEN
        if known.kind not in CREATES:
            if is_open and line.transaction_id not in account.known:
                account.refunds.append(line.transaction_id)
                account.known[line.transaction_id] = known
            return
        if is_open:
            await self._end_charge(account, known, line)
        elif line.meaning not in ("authorized", "held", "declined"):
            payment = await store.find_payment(self._connection, known.key)
            if payment is not None:
                await self.catch_up(account, payment, line)

    async def _end_charge(self, account: OpenAccount, known: Known, line: BookLine) -> None:
        """End a charge that was queued or open at the moment of the copy, or at that of a kill."""
        booked = await account.transaction(line.transaction_id)
        finding = await account.finding(booked)
        operation = await store.find_operation(
            self._connection, known.merchant_id, known.operation_id
        )
        payment = await store.find_payment(self._connection, known.key)
        assert operation is not None, "it was read just now"
        assert payment is not None, "an operation and its payment are written together"
        if not isinstance(finding, Found):
            return  # the resolver asks about it
        if self._dry_run:
            owner = Owner(payment.merchant_id, payment.mode, payment.login_id or payment.id)
            self._note("charge", "restored", booked, owner=owner)
            return
        if operation.state is State.QUEUED:
            await rows.take_from_queue(
                self._connection, account.login.digest, operation, operation.amount_minor, None
            )
        payment = await self._ended(operation, finding)
        await self._told("charge", booked, operation, payment)
        await self.catch_up(account, payment, line)

    async def catch_up(self, account: OpenAccount, payment: Payment, line: BookLine) -> None:
        """Write the capture or void that the payment lacks, and that the processor has done."""
        step = story.next_step(payment, line)
        if step is None or payment.answer.transaction_id != line.transaction_id:
            return
        kind, amount = step
        what: story.Did = "capture" if kind is Kind.CAPTURE else "void"
        if self._dry_run:
            self._note_line(what, "restored", line, payment=payment, amount=amount)
            return
        operation = story.unknown_operation(
            payment, ids.new_id(), kind, amount, line.transaction_id
        )
        if not await rows.begin_follow_up(
            self._connection, account.login.digest, operation, payment
        ):
            why = f"the payment is {payment.status}, and there it is {line.status}"
            self._note_line(what, "by_hand", line, payment=payment, amount=amount, why=why)
            return
        done = Approved(transaction_id=line.transaction_id, amount_minor=amount)
        finding = Found(outcome=done, evidence=f"{line.transaction_id}: {line.status}")
        after = await self._ended(operation, finding)
        self._note_line(what, "restored", line, payment=after, amount=amount)
        await self.catch_up(account, after, line)

    # refunds -------------------------------------------------------------------------------------

    async def refund(self, account: OpenAccount, transaction_id: str) -> None:
        """Bring a lost refund back to the payment that it refunds."""
        booked = await account.transaction(transaction_id)
        operation_id = story.operation_id_of(booked.line.reference)
        payment = await self._refunded(account, booked)
        if payment is None or operation_id is None:
            self._note("refund", "by_hand", booked, why="the payment that it refunds is not here")
            return
        owner = Owner(payment.merchant_id, payment.mode, payment.login_id or account.owners[0][2])
        if self._dry_run:
            self._note("refund", "restored", booked, owner=owner)
            return
        known = account.known.get(transaction_id)
        operation = story.unknown_operation(
            payment,
            operation_id if known is None else known.operation_id,
            Kind.REFUND,
            story.asked_minor(booked),
            booked.parent_id,
        )
        if not await self._begin_refund(account, operation, payment, booked):
            why = f"the payment is {payment.status} and does not allow it"
            self._note("refund", "by_hand", booked, owner=owner, why=why)
            return
        finding = await account.inquire(operation.id, booked)
        payment = await self._ended(operation, finding)
        await self._told("refund", booked, operation, payment)

    async def _begin_refund(
        self,
        account: OpenAccount,
        operation: Operation,
        payment: Payment,
        booked: BookedTransaction,
    ) -> bool:
        """Write a lost refund, or take it from the queue. True also if it is here and open."""
        digest = account.login.digest
        if account.known.get(booked.line.transaction_id) is None:
            transaction_id = booked.line.transaction_id
            return await rows.begin_follow_up(
                self._connection, digest, operation, payment, transaction_id
            )
        if account.known[booked.line.transaction_id].state is not State.QUEUED:
            return True
        return await rows.take_from_queue(
            self._connection, digest, operation, operation.amount_minor, booked.parent_id
        )

    async def _refunded(self, account: OpenAccount, booked: BookedTransaction) -> Payment | None:
        """Return the payment whose transaction a refund returns. In a dry run it may be lost."""
        if booked.parent_id is None:
            return None
        parent = await account.transaction(booked.parent_id)
        reference = parent.line.reference
        if story.operation_id_of(reference) is None or reference is None:
            return None
        merchants = sorted({owner.merchant_id for owner in account.owners})
        known = await rows.known(self._connection, [reference], merchants)
        if reference in known:
            return await store.find_payment(self._connection, known[reference].key)
        owner = self._owner(account, reference)
        if self._dry_run and owner is not None and parent.asked in ("sale", "authorize"):
            made = story.operation_id_of(reference)
            assert made is not None
            processor = account.login.account.processor
            return story.lost_payment(owner, processor, made, parent)[0]
        return None

    # recording -----------------------------------------------------------------------------------

    async def _ended(self, operation: Operation, finding: Finding) -> Payment:
        """Record what was found, and return the payment as it is then. What proves nothing stays
        open, and the resolver asks about it."""
        reach("after_restore_begun")
        operation, payment = await rows.present(self._connection, operation)
        if not isinstance(finding, Found) or operation.state not in STILL_OPEN:
            return payment
        learned: Learned = finding.outcome
        evidence = Evidence(
            source="restore",
            finding=f"found after a restore: {finding.evidence}",
            at=rfc3339(clock.now()),
        )
        try:
            await self._recorder.record(operation, payment, learned, evidence=evidence)
        except asyncpg.CheckViolationError as error:
            self._tell(f"operation {operation.reference} stays open: {error}")
            return payment
        if not isinstance(learned, HeldForReview):
            await rows.ended(self._connection, operation)
        return (await rows.present(self._connection, operation))[1]

    # telling -------------------------------------------------------------------------------------

    async def _told(
        self, what: story.Did, booked: BookedTransaction, operation: Operation, payment: Payment
    ) -> None:
        now, _ = await rows.present(self._connection, operation)
        state: story.Became = "open" if now.state in STILL_OPEN else "restored"
        owner = Owner(payment.merchant_id, payment.mode, payment.login_id or operation.id)
        self._note(what, state, booked, owner=owner, payment=payment)

    def _note(
        self,
        what: story.Did,
        state: story.Became,
        booked: BookedTransaction,
        *,
        owner: Owner | None = None,
        payment: Payment | None = None,
        why: str | None = None,
    ) -> None:
        line = booked.line
        self.items.append(
            Item(
                what=what,
                state=state,
                transaction_id=line.transaction_id,
                reference=line.reference,
                amount=story.asked_minor(booked),
                currency=line.currency,
                at=line.submitted_at,
                last4=line.last4,
                order_reference=booked.order_reference,
                merchant_id=None if owner is None else ids.typed(ids.MERCHANT, owner.merchant_id),
                payment_id=None if payment is None else ids.typed(ids.PAYMENT, payment.id),
                status=line.status if payment is None else payment.status,
                why=why,
            )
        )

    def _note_line(
        self,
        what: story.Did,
        state: story.Became,
        line: BookLine,
        *,
        payment: Payment,
        amount: int,
        why: str | None = None,
    ) -> None:
        self.items.append(
            Item(
                what=what,
                state=state,
                transaction_id=line.transaction_id,
                reference=line.reference,
                amount=amount,
                currency=line.currency,
                at=line.submitted_at,
                last4=payment.card_last4,
                order_reference=payment.details.order_reference,
                merchant_id=ids.typed(ids.MERCHANT, payment.merchant_id),
                payment_id=ids.typed(ids.PAYMENT, payment.id),
                status=line.status if self._dry_run else payment.status,
                why=why,
            )
        )
