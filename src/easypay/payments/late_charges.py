"""Operations that were called absent and that the processor carried out after all.

The merchant was told that the payment failed, and may have taken the money another way since. So
by default a late charge is given back, by an operation that is begun and recorded like any other,
while the payment stays failed. A merchant who prefers to keep the money sets `late_charges` to
`keep`.

Late captures, voids and refunds correct the payment if the money rules allow it. If they do not,
or if the match is in doubt, a person has to decide. Every late charge has a row in `late_charges`,
an event, and a critical log line.
"""

import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.clock import monotonic, rfc3339
from easypay.errors import InvalidState
from easypay.payments import store
from easypay.payments.model import CREATES, Kind, Operation, Payment, PaymentKey, State, Status
from easypay.payments.outcome_changes import Evidence, Learned
from easypay.payments.resolver_rows import Case
from easypay.payments.statements import EndState, Recorder
from easypay.processors.base import (
    Account,
    Approved,
    Deadline,
    HeldForReview,
    Outcome,
    Processors,
    RefundRequest,
    VoidRequest,
)

log = logging.getLogger(__name__)


class LateState(StrEnum):
    """What became of a late charge."""

    RETURNING = "returning"
    RETURNED = "returned"
    KEPT = "kept"
    CORRECTED = "corrected"  # the payment was made to say what happened
    NEEDS_PERSON = "needs_person"
    CLOSED = "closed"  # by a person


_WATCH_RETURN_S: Final = 200 * 24 * 3600.0
"""Longer than the 180 days in which a refund is possible."""

_FOUND: Final = """
    WITH late AS (
        INSERT INTO late_charges (merchant_id, operation_id, payment_id, mode, kind,
            transaction_id, amount_minor, currency, state, reason, evidence, found_at, changed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, db_now(), db_now())
        ON CONFLICT DO NOTHING
        RETURNING 1
    ), happened AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        SELECT $1, $12, $3, $2, $4, 'late_charge.found', $13, $7, $8, $14 FROM late
    )
    SELECT count(*) FROM late
"""
_CARD: Final = """
    UPDATE payments
       SET card_last4 = $4, card_brand = coalesce(card_brand, $5), version = version + 1
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND card_last4 IS NULL
"""
_MOVE: Final = """
    UPDATE late_charges SET state = $3, reason = coalesce($4, reason), changed_at = db_now()
     WHERE merchant_id = $1 AND operation_id = $2 AND state = $5
"""
# `changed_at` is the fence: of two processes that read the same row, only one begins.
_BEGIN: Final = """
    WITH taken AS (
        UPDATE late_charges l
           SET changed_at = greatest(db_now(), changed_at + interval '1 microsecond')
         WHERE l.merchant_id = $1 AND l.operation_id = $2 AND l.state = 'returning'
           AND l.changed_at = $6
           AND NOT EXISTS (SELECT FROM operations o
                            WHERE o.merchant_id = l.merchant_id AND o.payment_id = l.payment_id
                              AND o.gives_back = l.operation_id
                              AND o.state IN ('in_flight', 'unknown', 'not_sent', 'approved'))
        RETURNING l.*
    ), begun AS (
        INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
            currency, reference, parent_transaction_id, begun_at, gives_back)
        SELECT l.merchant_id, $3, l.payment_id, l.mode, $4, 'in_flight', l.amount_minor,
               l.currency, $5, l.transaction_id, db_now(), l.operation_id
          FROM taken l
        RETURNING 1
    )
    SELECT count(*) FROM begun
"""


class LateCharges:
    """Handles late charges. One per process."""

    def __init__(
        self,
        *,
        pool: Any,
        recorder: Recorder,
        processors: Processors,
        call_deadline_s: float,
    ) -> None:
        self._pool = pool
        self._recorder = recorder
        self._processors = processors
        self._call_deadline_s = call_deadline_s
        self.found_late = 0

    async def found(
        self, operation: Operation, payment: Payment, learned: Learned, evidence: str
    ) -> bool:
        """Handle a found operation that was called absent. Returns whether its watch may end."""
        if operation.state is not State.ABSENT:
            return True
        if isinstance(learned, HeldForReview):
            await self._needs_person(
                operation, payment, learned.transaction_id, "it is held for review", evidence
            )
            return True
        if not isinstance(learned, Approved):
            return True  # no money moved, so absent was right
        if operation.kind not in CREATES:
            return await self._correct(operation, payment, learned, evidence)
        doubt = _doubt(payment, learned)
        if doubt is not None:
            await self._needs_person(operation, payment, learned.transaction_id, doubt, evidence)
            return True
        preference = await self._pool.fetchval(
            "SELECT late_charges FROM merchants WHERE merchant_id = $1", operation.merchant_id
        )
        if preference == "keep":
            return await self._correct(operation, payment, learned, evidence)
        if await self._note(
            operation, payment, learned.transaction_id, LateState.RETURNING, None, evidence
        ):
            log.critical(
                "late charge: operation %s was called absent, and the processor has charged it as "
                "%s; it is being given back",
                operation.reference,
                learned.transaction_id,
            )
        if payment.card_last4 is None and learned.card_last4 is not None:
            # Paid with a token: only the charge shows the card, and a refund must name it.
            await self._pool.execute(
                _CARD,
                payment.merchant_id,
                payment.mode,
                payment.id,
                learned.card_last4,
                learned.card_brand,
            )
            self._recorder.changed(PaymentKey(payment.merchant_id, payment.mode, payment.id))
        # The watch goes on, to give the charge back. Its first step is due at once.
        await self._pool.execute(
            "UPDATE watched_operations SET purpose = 'return', next_look_at = db_now(),"
            " until = db_now() + make_interval(secs => $3)"
            " WHERE merchant_id = $1 AND operation_id = $2",
            operation.merchant_id,
            operation.id,
            _WATCH_RETURN_S,
        )
        return False

    async def _correct(
        self, operation: Operation, payment: Payment, learned: Approved, evidence: str
    ) -> bool:
        """Correct the rows to what happened, if the money rules allow it."""
        seen_on_payment = operation.kind is not Kind.REFUND or learned.voided
        if operation.kind not in CREATES:
            if payment.active_operation is not None:
                return False  # the active operation goes first
            if seen_on_payment and not can_explain(operation.kind, payment.status):
                return True  # a later operation has done the same, and perhaps not this one
        # Note it first: if the process dies after the correction, nothing would note it later.
        state = LateState.KEPT if operation.kind in CREATES else LateState.CORRECTED
        await self._note(operation, payment, learned.transaction_id, state, None, evidence)
        why = Evidence(source="inquiry", finding=f"late: {evidence}", at=rfc3339(clock.now()))
        try:
            recorded = await self._recorder.record(operation, payment, learned, evidence=why)
        except (InvalidState, asyncpg.CheckViolationError) as error:
            reason = f"the payment has moved on: {error}"
            await self._move(
                operation.merchant_id, operation.id, LateState.NEEDS_PERSON, reason, were=state
            )
            _log_needs_person(operation, learned.transaction_id, reason)
            return True
        if recorded.state == State.ABSENT:
            return False  # another process is working on it
        log.critical(
            "late charge: operation %s was called absent, and the processor did it as %s; the "
            "payment says so now",
            operation.reference,
            learned.transaction_id,
        )
        return True

    async def _needs_person(
        self,
        operation: Operation,
        payment: Payment,
        transaction_id: str,
        reason: str,
        evidence: str,
    ) -> None:
        state = LateState.NEEDS_PERSON
        if await self._note(operation, payment, transaction_id, state, reason, evidence):
            _log_needs_person(operation, transaction_id, reason)

    async def _note(
        self,
        operation: Operation,
        payment: Payment,
        transaction_id: str,
        state: LateState,
        reason: str | None,
        evidence: str,
    ) -> bool:
        """Write the late charge's row and event. Returns whether they are new."""
        current = await store.find_payment(
            self._pool, PaymentKey(payment.merchant_id, payment.mode, payment.id)
        )
        new = await self._pool.fetchval(
            _FOUND,
            operation.merchant_id,
            operation.id,
            operation.payment_id,
            operation.mode,
            operation.kind,
            transaction_id,
            operation.amount_minor,
            operation.currency,
            state,
            reason,
            evidence,
            ids.new_id(),
            payment.status if current is None else current.status,
            clock.now(),
        )
        self.found_late += bool(new)
        return bool(new)

    # giving back -------------------------------------------------------------------------------

    async def give_back_again(self, case: Case, account: Account) -> bool:
        """Take the next step of giving a late charge back. Returns whether it was the last."""
        row = await self._pool.fetchrow(
            "SELECT state, changed_at FROM late_charges"
            " WHERE merchant_id = $1 AND operation_id = $2",
            case.merchant_id,
            case.operation_id,
        )
        if row is None or row["state"] != LateState.RETURNING:
            return True
        payment = await store.find_payment(
            self._pool, PaymentKey(case.merchant_id, case.mode, case.payment_id)
        )
        assert payment is not None, "payments are never deleted"
        kind = _return_kind(case.kind, payment)
        deadline = Deadline(monotonic() + self._call_deadline_s)  # set before the operation's begin
        operation_id = ids.new_id()
        begun = await self._pool.fetchval(
            _BEGIN,
            case.merchant_id,
            case.operation_id,
            operation_id,
            kind,
            ids.reference(operation_id),
            row["changed_at"],
        )
        if not begun:  # an open operation ends by itself; an approved one settles the late charge
            await self._settle_approved(case)
            return False
        operation = await store.find_operation(self._pool, case.merchant_id, operation_id)
        assert operation is not None, "the operation was begun above"
        outcome = await self._send(operation, payment, account, deadline)
        recorded = await self._recorder.record(operation, payment, outcome)
        await self.returned(operation, recorded.state, outcome)
        return recorded.state == State.APPROVED

    async def _send(
        self, operation: Operation, payment: Payment, account: Account, deadline: Deadline
    ) -> Outcome:
        assert operation.parent_transaction_id is not None
        if operation.kind is Kind.VOID:
            return await self._processors[account.processor].void(
                VoidRequest(
                    account=account,
                    reference=operation.reference,
                    transaction_id=operation.parent_transaction_id,
                ),
                deadline,
            )
        assert operation.kind is Kind.REFUND, operation.kind
        return await self._processors[account.processor].refund_or_void(
            RefundRequest(
                account=account,
                reference=operation.reference,
                transaction_id=operation.parent_transaction_id,
                amount_minor=operation.amount_minor,
                currency=operation.currency,
                card_last4=payment.card_last4 or "",
                captured_minor=operation.amount_minor,
            ),
            deadline,
        )

    async def returned(self, operation: Operation, state: EndState, outcome: Learned) -> None:
        """Update a late charge after the operation that gives it back has ended."""
        assert operation.gives_back is not None
        if state == State.APPROVED:
            await self._move(operation.merchant_id, operation.gives_back, LateState.RETURNED, None)
            log.warning("late charge given back by operation %s", operation.reference)
        elif state in (State.REJECTED, State.DECLINED) and not getattr(
            outcome, "not_settled", False
        ):
            refused = getattr(outcome, "message", "") or "see the operation"
            if operation.kind is Kind.VOID:
                reason = f"it cannot be voided any more: {refused}"
            else:
                reason = f"the refund was refused: {refused}"
            await self._move(
                operation.merchant_id, operation.gives_back, LateState.NEEDS_PERSON, reason
            )
            log.critical(
                "late charge: giving it back by operation %s was refused (%s); needs a person",
                operation.reference,
                refused,
            )

    async def _settle_approved(self, case: Case) -> None:
        done = await self._pool.fetchval(
            "SELECT true FROM operations WHERE merchant_id = $1 AND payment_id = $2"
            " AND gives_back = $3 AND state = 'approved'",
            case.merchant_id,
            case.payment_id,
            case.operation_id,
        )
        if done:
            await self._move(case.merchant_id, case.operation_id, LateState.RETURNED, None)

    async def _move(
        self,
        merchant_id: UUID,
        operation_id: UUID,
        state: LateState,
        reason: str | None,
        *,
        were: LateState = LateState.RETURNING,
    ) -> None:
        await self._pool.execute(_MOVE, merchant_id, operation_id, state, reason, were)


def _log_needs_person(operation: Operation, transaction_id: str, reason: str) -> None:
    log.critical(
        "late charge: operation %s was called absent, and the processor has it as %s: %s; "
        "needs a person",
        operation.reference,
        transaction_id,
        reason,
    )


def _doubt(payment: Payment, learned: Approved) -> str | None:
    """Return why a charge with our reference may still not be this payment's, or None."""
    if payment.card_last4 and learned.card_last4 and payment.card_last4 != learned.card_last4:
        return f"its card ends in {learned.card_last4}, not {payment.card_last4}"
    if payment.status is not Status.FAILED:
        return f"the payment is {payment.status}"
    return None


_BEGINS_AT: Final[Mapping[Kind, tuple[Status, ...]]] = {
    Kind.CAPTURE: (Status.AUTHORIZED,),
    Kind.VOID: (Status.AUTHORIZED, Status.CAPTURED, Status.IN_REVIEW),
    Kind.REFUND: (Status.CAPTURED,),  # that was done by a void
    Kind.APPROVE: (Status.IN_REVIEW,),
    Kind.DECLINE: (Status.IN_REVIEW,),
}


def can_explain(kind: Kind, status: Status) -> bool:
    """Whether the payment has the status in which such an operation begins. If not, a later
    operation has changed it."""
    return status in _BEGINS_AT[kind]


def _return_kind(kind: Kind, payment: Payment) -> Kind:
    """Return how to give a charge back. An authorization is voided; a sale is refunded, which is a
    void before settlement. A bank account's sale is only voided: once settled, a person decides."""
    assert kind in CREATES, f"a late {kind} corrects the payment and is not given back"
    by_void = kind is Kind.AUTHORIZE or payment.is_by_bank
    return Kind.VOID if by_void else Kind.REFUND
