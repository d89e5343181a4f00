"""Ends every unknown: asks the processor by reference until there is proof.

- Found: the outcome is adopted, through the same door as any reply.
- Absent, twice, the later time `absent_after_s` or more after the call began: it never happened,
  and the payment fails (or the hold on it is lifted) with the evidence stored.
- Anything else: it stays as it is, is counted, and is asked about again.

What is held for review is not unknown, and is asked about too, seldom, until somebody at the
processor has decided or it ran out. It was seen there, so absence proves nothing of it.

Work comes from `unresolved_operations`: rows written with every unknown and everything held, and
rows the sweep adds for operations whose process died between begin and record. Any number of
processes may run this.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.clock import monotonic, rfc3339
from easypay.db.connections import LOST
from easypay.errors import EasyPayError
from easypay.payments import store
from easypay.payments.changes import Evidence
from easypay.payments.model import CREATES, REVIEWS, Operation, Payment, PaymentKey
from easypay.payments.recorder import Recorder
from easypay.processors.base import (
    Absent,
    Account,
    Deadline,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    InquiryRequest,
    Processor,
)

log = logging.getLogger(__name__)

_LEASE_S: Final = 30
_AT_ONCE: Final = 16
_INQUIRY_DEADLINE_S: Final = 20.0
_SENT_MARGIN_S: Final = 2.0

# Operations that began long enough ago for their process to have ended them, and are still in
# flight: that process is gone. `swept_below` makes each id be looked at about once; ids are stamped
# by the gateway's clock and begun_at by the database's, so a wide sweep goes further back now and
# then, for hosts whose clocks differ.
_SWEEP: Final = """
    WITH lost AS (
        SELECT merchant_id, id, payment_id FROM operations
         WHERE id >= least((SELECT swept_below FROM sweeps), $1) AND id < $2
           AND state = 'in_flight' AND begun_at < now() - make_interval(secs => $3)
    ), listed AS (
        INSERT INTO unresolved_operations
            (merchant_id, operation_id, payment_id, since, next_inquiry_at)
        SELECT merchant_id, id, payment_id, now(), now() FROM lost
        ON CONFLICT DO NOTHING
        RETURNING 1
    ), swept AS (
        UPDATE sweeps SET swept_below = $4 WHERE swept_below < $4
    )
    SELECT count(*) FROM listed
"""
# A gateway of an older version writes no row for what is held, and takes away those it meets.
_SWEEP_HELD: Final = """
    INSERT INTO unresolved_operations
        (merchant_id, operation_id, payment_id, since, next_inquiry_at, held)
    SELECT o.merchant_id, o.id, o.payment_id, now(), now(), true
      FROM operations o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
     WHERE o.id >= $1 AND o.id < $2 AND o.state = 'held'
       AND p.id >= $3 AND p.status = 'in_review'
    ON CONFLICT DO NOTHING
"""
_WIDE_EVERY_S: Final = 600.0
_WIDE: Final = timedelta(hours=6)

_CLAIM: Final = """
    WITH due AS (
        SELECT merchant_id, operation_id FROM unresolved_operations
         WHERE next_inquiry_at <= now()
         ORDER BY next_inquiry_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE unresolved_operations u
       SET next_inquiry_at = now() + make_interval(secs => $2)
      FROM due
     WHERE u.merchant_id = due.merchant_id AND u.operation_id = due.operation_id
    RETURNING u.merchant_id, u.operation_id, u.inquiries, u.absences, u.held
"""
_OPEN: Final = frozenset({"in_flight", "unknown", "not_sent"})


class Case(msgspec.Struct, frozen=True):
    """One unresolved operation, claimed for an inquiry."""

    merchant_id: UUID
    operation_id: UUID
    inquiries: int
    absences: int
    held: bool


class Resolver:
    """Asks about unresolved operations, on a schedule and on demand."""

    def __init__(
        self,
        *,
        pool: Any,
        recorder: Recorder,
        processor: Processor,
        account_of: Callable[[UUID, str], Awaitable[Account | None]],
        deadline_s: float,
        interval_s: float,
        absent_after_s: float,
        review_interval_s: float,
        poll_s: float,
    ) -> None:
        self._pool = pool
        self._recorder = recorder
        self._processor = processor
        self._account_of = account_of
        self._abandoned_after_s = deadline_s + _SENT_MARGIN_S
        self._interval_s = interval_s
        self._absent_after_s = absent_after_s
        self._review_interval_s = review_interval_s
        self._poll_s = poll_s
        self._inquiries: set[asyncio.Task[None]] = set()
        self.inconclusive = 0

    async def run(self) -> None:
        """Sweep and inquire until cancelled; a database that is away is waited for."""
        next_wide = monotonic()
        try:
            while True:
                try:
                    wide = monotonic() >= next_wide
                    swept = await self.sweep(wide=wide)
                    if wide and swept is not None:
                        next_wide = monotonic() + _WIDE_EVERY_S
                    await self.inquire_due()
                except (*LOST, asyncpg.PostgresError, EasyPayError) as error:
                    log.warning("the resolver waits: %s: %s", type(error).__name__, error)
                await asyncio.sleep(self._poll_s)
        finally:
            for task in self._inquiries:
                task.cancel()
            await asyncio.gather(*self._inquiries, return_exceptions=True)

    async def sweep(self, *, wide: bool = True) -> int | None:
        """List operations whose process died. Returns how many were new, None when another
        process is at it.

        A wide sweep looks through the last hours again, a narrow one only at what is new.
        """
        now = clock.now()
        abandoned = timedelta(seconds=self._abandoned_after_s)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock(hashtext('easypay sweep'))"
            ):
                return None
            listed: int = await connection.fetchval(
                _SWEEP,
                ids.lowest_id_at(now - _WIDE if wide else now),
                ids.lowest_id_at(now),
                self._abandoned_after_s,
                ids.lowest_id_at(now - 2 * abandoned),
            )
            if wide:
                await connection.execute(
                    _SWEEP_HELD,
                    ids.lowest_id_at(now - _WIDE),
                    ids.lowest_id_at(now),
                    ids.lowest_id_at(now - _WIDE - timedelta(days=1)),
                )
        if listed:
            log.warning("%d operations were left in flight by a process that died", listed)
        return listed

    async def inquire_due(self) -> int:
        """Begin to ask about what is due, each on its own: a slow answer holds up no other.

        Returns how many cases were taken up.
        """
        room = _AT_ONCE - len(self._inquiries)
        if room <= 0:
            return 0
        rows = await self._pool.fetch(_CLAIM, room, _LEASE_S)
        for row in rows:
            task = asyncio.create_task(self._inquire_safely(Case(*row)))
            self._inquiries.add(task)
            task.add_done_callback(self._inquiries.discard)
        return len(rows)

    async def _inquire_safely(self, case: Case) -> None:
        """One inquiry whose failure is the case's own: it is tried again after the interval."""
        try:
            await self._inquire(case)
        except Exception as error:  # noqa: BLE001 - whatever it was, the others go on
            log.error(
                "inquiry about operation %s failed: %s: %s",
                case.operation_id,
                type(error).__name__,
                error,
            )
            with suppress(*LOST, asyncpg.PostgresError):  # the lease ends by itself
                await self._postpone(case, f"failed: {type(error).__name__}", absent=False)

    async def resolve_payment(self, key: PaymentKey) -> bool:
        """Ask now about every open operation of a payment that nobody is working on.

        Returns whether any was ended, so that the caller may try again.
        """
        rows = await self._pool.fetch(
            "SELECT merchant_id, operation_id, inquiries, absences, held"
            "  FROM unresolved_operations"
            " WHERE merchant_id = $1 AND payment_id = $2",
            key.merchant_id,
            key.payment_id,
        )
        ended = [await self._inquire(Case(*row)) for row in rows]
        return any(ended)

    async def _inquire(self, case: Case) -> bool:
        """One inquiry about one operation. Returns whether it is ended."""
        operation = await store.find_operation(self._pool, case.merchant_id, case.operation_id)
        assert operation is not None, "operations are never deleted"
        if operation.state not in (*_OPEN, "held"):
            await self._close(case)
            return True
        key = PaymentKey(operation.merchant_id, operation.mode, operation.payment_id)
        payment = await store.find_payment(self._pool, key)
        assert payment is not None, "an operation and its payment are written together"
        if operation.state == "held":
            return await self._inquire_held(case, operation, payment)

        age_s = await store.age_of(self._pool, operation)
        if operation.state == "not_sent":
            finding: Finding = Absent(searched="nothing: the request never left this gateway")
            proven = age_s >= self._absent_after_s
        else:
            finding = await self._ask(operation, payment)
            proven = case.absences >= 1 and age_s >= self._absent_after_s
        if (
            operation.kind in REVIEWS
            and isinstance(finding, Found)
            and isinstance(finding.outcome, HeldForReview)
        ):
            finding = Absent(searched=f"what has been decided: {finding.evidence}")
        match finding:
            case Found():
                return await self._end(case, operation, payment, finding, finding.evidence)
            case Absent() if proven:
                return await self._end(case, operation, payment, finding, finding.searched)
            case Absent():
                await self._postpone(case, f"absent from {finding.searched}", absent=True)
            case Inconclusive():
                self.inconclusive += 1
                await self._postpone(case, finding.reason, absent=False)
        return False

    async def _inquire_held(self, case: Case, operation: Operation, payment: Payment) -> bool:
        """Has the review ended? Returns whether it has."""
        if payment.status != "in_review":  # voided, or decided by another operation
            await self._close(case)
            return True
        if payment.active_operation is not None:
            await self._postpone(case, "another operation has the payment", absent=False)
            return False
        finding = await self._ask(operation, payment)
        match finding:
            case Found() if isinstance(finding.outcome, HeldForReview):
                await self._postpone(case, "still held for review", absent=False)
            case Found():
                try:
                    return await self._end(case, operation, payment, finding, finding.evidence)
                except asyncpg.CheckViolationError:  # taken since it was read: that one goes first
                    await self._postpone(case, "another operation has the payment", absent=False)
            case Absent():
                log.error("operation %s is held, and was not found", operation.reference)
                await self._postpone(case, f"absent from {finding.searched}", absent=True)
            case Inconclusive():
                await self._postpone(case, finding.reason, absent=False)
        return False

    async def _ask(self, operation: Operation, payment: Payment) -> Finding:
        reviewed = operation.state == "held" or operation.kind in REVIEWS
        account = await self._account_of(operation.merchant_id, operation.mode)
        if account is None:
            return Inconclusive(reason="the merchant has no processor account any more")
        return await self._processor.inquire(
            InquiryRequest(
                account=account,
                kind="review" if reviewed else operation.kind,
                reference=operation.reference,
                amount_minor=operation.amount_minor,
                currency=operation.currency,
                transaction_id=(
                    operation.transaction_id
                    if operation.state == "held"
                    else None
                    if operation.kind in CREATES
                    else operation.parent_transaction_id
                ),
                sent_at_ms=int(operation.begun_at.timestamp() * 1000),
                captured_minor=payment.voidable_minor if operation.kind == "refund" else None,
            ),
            Deadline(monotonic() + _INQUIRY_DEADLINE_S),
        )

    async def _end(
        self, case: Case, operation: Operation, payment: Payment, finding: Found | Absent, why: str
    ) -> bool:
        learned = finding.outcome if isinstance(finding, Found) else finding
        evidence = Evidence(
            source="inquiry",
            finding=f"{'found' if isinstance(finding, Found) else 'absent'}: {why}",
            inquiries=case.inquiries + 1,
            at=rfc3339(clock.now()),
        )
        recorded = await self._recorder.record(operation, payment, learned, evidence=evidence)
        if recorded.state in _OPEN:
            # A request with the same key took it up again meanwhile: look once more, soon.
            await self._postpone(case, "taken up again", absent=False)
            return False
        if recorded.state != "held":  # which stays on the list until its review ends
            await self._close(case)
        log.info("operation %s is %s: %s", operation.reference, recorded.state, evidence.finding)
        return True

    async def _close(self, case: Case) -> None:
        await self._pool.execute(
            "DELETE FROM unresolved_operations WHERE merchant_id = $1 AND operation_id = $2",
            case.merchant_id,
            case.operation_id,
        )

    async def _postpone(self, case: Case, finding: str, *, absent: bool) -> None:
        await self._pool.execute(
            "UPDATE unresolved_operations"
            "   SET inquiries = inquiries + 1, last_finding = $3,"
            "       absences = CASE WHEN $4 THEN absences + 1 ELSE 0 END,"
            "       next_inquiry_at = now() + make_interval(secs => $5)"
            " WHERE merchant_id = $1 AND operation_id = $2",
            case.merchant_id,
            case.operation_id,
            finding,
            absent,
            self._review_interval_s if case.held else self._interval_s,
        )
