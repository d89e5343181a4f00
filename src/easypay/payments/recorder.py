"""The one door: every outcome of every operation is recorded here, whatever its source.

The same outcome may be recorded again, even at the same time: the row decides which was first.
"""

import logging
from typing import Any, Final

import msgspec

from easypay import clock, ids
from easypay.db.group_commit import GroupCommitter
from easypay.payments import store
from easypay.payments.model import Operation, Payment, State
from easypay.payments.outcome_changes import (
    NOT_SENT_S,
    REVIEW_INTERVAL_S,
    Change,
    Evidence,
    Learned,
    decide,
)
from easypay.processors.base import Approved

log = logging.getLogger(__name__)

LOST_OPERATION: Final = "lost"
"""The reported state of an operation that is no longer in the database."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An operation's stored reply. `reply_status` is None if it has none yet or was not sent."""

    state: str
    reply_status: int | None
    reply_body: bytes | None


class Recorder:
    """Decides what an outcome changes, and commits that with everything that follows from it."""

    def __init__(
        self,
        committer: GroupCommitter[Change, bool],
        pool: Any,
        *,
        first_inquiry_s: float,
        review_interval_s: float = REVIEW_INTERVAL_S,
        not_sent_s: float = NOT_SENT_S,
    ) -> None:
        self._committer = committer
        self._pool = pool
        self._first_inquiry_s = first_inquiry_s
        self._review_interval_s = review_interval_s
        self._not_sent_s = not_sent_s

    async def record(
        self,
        operation: Operation,
        payment: Payment,
        learned: Learned,
        *,
        processor_us: int | None = None,
        evidence: Evidence | None = None,
    ) -> Recorded:
        """Commit an outcome and return the stored reply: this outcome's, or an earlier one's.

        `operation` and `payment` are as they were when the operation began. `evidence` says why
        we believe an outcome that is not the call's own reply.
        """
        change = decide(
            operation,
            payment,
            learned,
            at=clock.now(),
            first_inquiry_s=self._first_inquiry_s,
            review_interval_s=self._review_interval_s,
            not_sent_s=self._not_sent_s,
            processor_us=processor_us,
            evidence=evidence,
        )
        if await self._committer.submit(change):
            effect = change.effect
            return Recorded(effect.state, effect.reply_status, effect.reply_body)
        return await self._after_another(operation, learned)

    async def _after_another(self, operation: Operation, learned: Learned) -> Recorded:
        """Return what was recorded before us: that stands. If it says absent but the money moved,
        the operation is looked for again and handled as a late charge."""
        current = await store.find_operation(self._pool, operation.merchant_id, operation.id)
        if current is None:
            return _lost(operation, learned)
        if current.state is State.ABSENT and isinstance(learned, Approved):
            log.critical(
                "operation %s was called absent, and the processor approved it as %s",
                current.reference,
                learned.transaction_id,
            )
            await store.look_now(self._pool, current)
        elif current.state is not State.APPROVED and isinstance(learned, Approved):
            log.critical(
                "operation %s is %s, but the processor approved it as %s: needs a person",
                operation.reference,
                current.state,
                learned.transaction_id,
            )
        return Recorded(current.state, current.reply_status, current.reply_body)


def _lost(operation: Operation, learned: Learned) -> Recorded:
    """Log an outcome whose committed operation is no longer in the database, because a standby
    without it took over. The processor's answer must not be lost with it."""
    log.critical(
        "operation %s of %s is not in the database any more; the processor said %s, transaction "
        "%s, amount %d %s: needs a person",
        operation.reference,
        ids.typed(ids.PAYMENT, operation.payment_id),
        type(learned).__name__.lower(),
        getattr(learned, "transaction_id", None),
        operation.amount_minor,
        operation.currency,
    )
    return Recorded(LOST_OPERATION, None, None)
