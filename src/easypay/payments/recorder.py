"""The one door: every outcome of every operation, whoever learned it, is recorded here.

Safe to call again with the same outcome, and by two at once: the row decides who was first.
"""

import logging
from typing import Any

import asyncpg
import msgspec

from easypay import clock
from easypay.db.group_commit import GroupCommitter
from easypay.errors import InvalidState
from easypay.payments import store
from easypay.payments.changes import REVIEW_INTERVAL_S, Change, Evidence, Learned, decide
from easypay.payments.model import Operation, Payment, PaymentKey
from easypay.processors.base import Approved

log = logging.getLogger(__name__)


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """The reply that stands for an operation now. No status: not answered yet, or not sent."""

    state: str
    reply_status: int | None
    reply_body: bytes | None


class Recorder:
    """Decides what a learned outcome changes, and commits it together with what it implies."""

    def __init__(
        self,
        committer: GroupCommitter[Change, bool],
        pool: Any,
        *,
        first_inquiry_s: float,
        review_interval_s: float = REVIEW_INTERVAL_S,
    ) -> None:
        self._committer = committer
        self._pool = pool
        self._first_inquiry_s = first_inquiry_s
        self._review_interval_s = review_interval_s

    async def record(
        self,
        operation: Operation,
        payment: Payment,
        learned: Learned,
        *,
        processor_us: int | None = None,
        evidence: Evidence | None = None,
    ) -> Recorded:
        """Commit what was learned and return the reply that stands, ours or an earlier one's.

        `operation` and `payment` are as they were when the operation began. `evidence` says why
        an outcome that is not the call's own reply is believed.
        """
        change = decide(
            operation,
            payment,
            learned,
            at=clock.now(),
            first_inquiry_s=self._first_inquiry_s,
            review_interval_s=self._review_interval_s,
            processor_us=processor_us,
            evidence=evidence,
        )
        if await self._committer.submit(change):
            return Recorded(change.state, change.reply_status, change.reply_body)
        return await self._after_another(operation, learned, processor_us)

    async def _after_another(
        self, operation: Operation, learned: Learned, processor_us: int | None
    ) -> Recorded:
        """Somebody recorded before us: their word stands, unless it denies money that moved."""
        current = await store.find_operation(self._pool, operation.merchant_id, operation.id)
        assert current is not None, "operations are never deleted"
        if current.state == "absent" and isinstance(learned, Approved):
            return await self._correct(current, learned, processor_us)
        if current.state != "approved" and isinstance(learned, Approved):
            log.critical(
                "operation %s is %s, but the processor approved it as %s: needs a person",
                operation.reference,
                current.state,
                learned.transaction_id,
            )
        return Recorded(current.state, current.reply_status, current.reply_body)

    async def _correct(
        self, current: Operation, learned: Approved, processor_us: int | None
    ) -> Recorded:
        log.error("operation %s was believed absent and is approved", current.reference)
        key = PaymentKey(current.merchant_id, current.mode, current.payment_id)
        payment = await store.find_payment(self._pool, key)
        assert payment is not None, "payments are never deleted"
        try:
            return await self.record(
                current,
                payment,
                learned,
                processor_us=processor_us,
                evidence=Evidence(
                    source="late reply", finding=f"approved {learned.transaction_id}"
                ),
            )
        except (InvalidState, asyncpg.CheckViolationError) as error:
            # What it was given up for was used otherwise meanwhile: no rule here can mend that.
            log.critical(
                "operation %s was approved as %s after all, and the payment has moved on (%s): "
                "needs a person",
                current.reference,
                learned.transaction_id,
                error,
            )
            return Recorded(current.state, current.reply_status, current.reply_body)
