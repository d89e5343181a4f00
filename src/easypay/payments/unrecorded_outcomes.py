"""Outcomes that the database could not take yet: kept in memory until it can.

A lock, a full disk, a changed password or an unreachable database says nothing about the payment,
so recording is retried for as long as this process lives. Only a broken constraint or a bug ends
that, with a critical log line that holds what is known. A process that stops logs what it leaves
unrecorded: that is in flight in the database, where the sweep finds it.

The opposite case: an intent that was written after its caller had been refused is withdrawn as
never sent, so that the same key can begin at once instead of after an inquiry.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final
from uuid import UUID

from easypay import clock
from easypay.clock import monotonic
from easypay.db.failures import is_passing
from easypay.payments import store
from easypay.payments.begin import FollowUp, NewPayment
from easypay.payments.duplicates import CheckedPayment
from easypay.payments.model import Operation, Payment, PaymentKey, State
from easypay.payments.outcome_changes import decide
from easypay.payments.statements import Recorded, Recorder
from easypay.processors.base import NotSent, Outcome, Unknown

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 2.0
_WITHDRAW_FOR_S: Final = 60.0
"""After that the sweep has found it."""


class UnrecordedOutcomes:
    """The known, unrecorded outcomes of one process. `set_gauge` gets their number."""

    def __init__(
        self, recorder: Recorder, pool: Any, set_gauge: Callable[[float], None] = lambda _: None
    ) -> None:
        self._recorder = recorder
        self._pool = pool
        self._set_gauge = set_gauge
        self._outcomes: dict[UUID, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._outcomes)

    def keep(
        self,
        operation: Operation,
        payment: Payment,
        outcome: Outcome,
        processor_us: int,
        error: Exception,
    ) -> None:
        """Retry recording an outcome in the background, after it failed with `error`."""
        described = _description(operation, outcome)
        if not is_passing(error):
            _give_up(described, error)
            return
        log.error("%s: not recorded yet: %s: %s", described, type(error).__name__, error)
        self._outcomes[operation.id] = described
        self._set_gauge(len(self))
        self._begin(self._record(operation, payment, outcome, processor_us))

    def withdraw(self, item: NewPayment | CheckedPayment | FollowUp) -> None:
        """Withdraw an intent that may be written, whose caller was refused: it is never sent."""
        self._begin(self._withdraw(item.merchant_id, item.operation_id))

    async def drain(self, give_up_at: float) -> None:
        """Wait until all is recorded, at most until `give_up_at` (monotonic); log the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.1, give_up_at - monotonic()))
        if self._outcomes:
            log.critical(
                "stopping with %d outcomes unrecorded; they are in flight in the database, and "
                "the sweep of another process asks about them",
                len(self),
            )
            for described in self._outcomes.values():
                log.critical("unrecorded: %s", described)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(
        self, operation: Operation, payment: Payment, outcome: Outcome, processor_us: int
    ) -> None:
        described = self._outcomes[operation.id]
        tries = 0
        while True:
            await asyncio.sleep(_pause_s(tries))
            tries += 1
            try:
                recorded = await self._recorder.record(
                    operation, payment, outcome, processor_us=processor_us
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, keep the outcome
                if is_passing(error):
                    continue
                _give_up(described, error)
            else:
                log.warning("%s: recorded after retries: it is %s", described, recorded.state)
            break
        del self._outcomes[operation.id]
        self._set_gauge(len(self))

    async def _withdraw(self, merchant_id: UUID, operation_id: UUID) -> None:
        tries = 0
        give_up_at = monotonic() + _WITHDRAW_FOR_S
        while monotonic() < give_up_at:
            await asyncio.sleep(_pause_s(tries))
            tries += 1
            try:
                operation = await store.find_operation(self._pool, merchant_id, operation_id)
                if operation is None or operation.attempt != 1:
                    return
                if operation.state is not State.IN_FLIGHT:
                    return
                key = PaymentKey(operation.merchant_id, operation.mode, operation.payment_id)
                payment = await store.find_payment(self._pool, key)
                assert payment is not None, "an operation and its payment are written together"
                not_sent = NotSent(reason="the database took too long to write the intent")
                await self._recorder.record(operation, payment, not_sent)
            except Exception as error:
                if is_passing(error):
                    continue
                log.exception("operation %s was not withdrawn: the sweep finds it", operation_id)
            return


def provisional_reply(operation: Operation, payment: Payment, outcome: Outcome) -> Recorded:
    """Return the reply for the meantime: 202, as for an unknown outcome. It is not stored under the
    key, whose reply is the outcome's own. A request that was not sent is answered as such.
    """
    if isinstance(outcome, NotSent):
        return Recorded(State.IN_FLIGHT, None, None)
    unknown = Unknown(reason="not recorded yet")
    change = decide(operation, payment, unknown, at=clock.now(), first_inquiry_s=0)
    return Recorded(State.IN_FLIGHT, change.effect.reply_status, change.effect.reply_body)


def _pause_s(tries: int) -> float:
    return min(_LONGEST_PAUSE_S, 0.05 * 2.0 ** min(tries, 10)) * (0.5 + random.random())  # noqa: S311


def _description(operation: Operation, outcome: Outcome) -> str:
    """Return what a person needs to find the operation, at the processor and here."""
    transaction = getattr(outcome, "transaction_id", None) or "none"
    return (
        f"{type(outcome).__name__} of {operation.kind} {operation.reference} "
        f"(merchant {operation.merchant_id}, transaction {transaction})"
    )


def _give_up(described: str, error: Exception) -> None:
    log.critical(
        "%s cannot be recorded (%s: %s): needs a person", described, type(error).__name__, error
    )
