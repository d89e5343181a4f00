"""Sends what was queued: claim, begin, call, record. Any number of these may run, on any host.

A claim is a lease of rows and permits nothing. The begin commits that the operation is in flight,
and only one worker ever gets that. From then on the operation is like that of any request: if this
process dies, its lease ends, and the next worker hands the operation over to the resolver, which
asks the processor. It is not sent a second time.
If the database does not say whether a begin was committed, the worker asks until it knows: nobody
else knows that nothing was sent.
Just before the bytes leave, the client looks at the clock once more: a worker that was stopped and
goes on later sends nothing.

If it is proven that nothing left, or that nothing began because the processor does not know a new
stored method yet, the operation is queued again and waits for its next attempt. It is given up when
its token has expired.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.customers.paying import (
    PayableMethod,
    PaymentMethodGone,
    PaymentMethodNotFound,
    payable_method,
)
from easypay.db import work_list
from easypay.db.claim_loop import ClaimLoop, Traced
from easypay.db.connections import LOST, Lane
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.db.work_list import Work, backoff_s
from easypay.errors import EasyPayError, RequestInProgress
from easypay.failpoints import reach
from easypay.merchants.model import Login
from easypay.merchants.vault import Box, VaultError
from easypay.payments import authorization_expiry, queue_endings, queue_rows, store
from easypay.payments.account_alarms import AccountAlarm
from easypay.payments.begin import FollowUp, authorize_request, follow_up_request
from easypay.payments.model import CREATES, KIND, Kind, Operation, Payment, PaymentKey, State
from easypay.payments.outcome_changes import Change
from easypay.payments.queue_claims import QueueClaims
from easypay.payments.queue_rows import QUEUED, QueuedWork, Rows, Turn
from easypay.payments.queued_requests import open_request
from easypay.payments.refusals import why_not
from easypay.payments.requests import CreatePayment, StoredPaymentMethod
from easypay.payments.resolver import SENT_MARGIN_S
from easypay.payments.statements import Recorder
from easypay.payments.stored_methods import if_known, learn, method_id_of
from easypay.payments.unrecorded_outcomes import UnrecordedOutcomes
from easypay.processors.base import (
    Absent,
    Account,
    Deadline,
    Finding,
    Inconclusive,
    InquiryRequest,
    NotSent,
    Outcome,
    Processors,
    Rejected,
    Unknown,
    follow_up,
)

log = logging.getLogger(__name__)

AT_ONCE: Final = 256
"""How many operations one worker has claimed at a time."""
_LEAST_LEASE_S: Final = 30.0
"""A claim lasts twice as long as a call, and at least so long."""
_BUSY_S: Final = 0.05
_AGAIN_S: Final = 2.0
"""When to look again at an operation that another worker began and did not end."""
_MOST_LOOKING: Final = 4
"""Questions at a time whether a refused token was used by the same payment. Beyond that, the
resolver asks, which reads the processor's lists once for many."""
_LEAST_CALL_S: Final = 1.0
"""A call is not begun in the last second of its time: its outcome would likely be unknown."""
_ASK_AGAIN_S: Final = 0.25
"""How soon a question is repeated that the database did not answer."""

T = TypeVar("T")


class _TakenBack(Exception):
    """An operation was begun and not sent. It is queued again, or another worker has it."""


class QueueWorker:
    """One process's part in sending what is queued. Without work it looks for some every `poll_s`
    seconds. `settles_s`: how long a begin may still be repeated and committed after its caller was
    refused. `ended` is called with `done`, `later` or
    `lost` (another worker has claimed it) at the end of each claim."""

    def __init__(
        self,
        *,
        lane: Lane,
        pool: Any,
        begin: GroupCommitter[Turn, Rows | None],
        begin_follow_up: GroupCommitter[queue_rows.FollowUpTurn, Rows | None],
        leave: GroupCommitter[queue_rows.Leaving, bool],
        recorder: Recorder,
        unrecorded: UnrecordedOutcomes,
        processors: Processors,
        login_of: Callable[[UUID, UUID], Awaitable[Login | None]],
        box: Box,
        deadline_s: float,
        settles_s: float = 10.0,
        poll_s: float = 1.0,
        ended: Callable[[str], None] = lambda _: None,
        traced: Traced | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self._pool = pool
        self._begin = begin
        self._begin_follow_up = begin_follow_up
        self._leave = leave
        self._recorder = recorder
        self._unrecorded = unrecorded
        self._processors = processors
        self._login_of = login_of
        self._box = box
        self._deadline_s = deadline_s
        self._settles_s = settles_s
        self._call_s = deadline_s + min(SENT_MARGIN_S, deadline_s)
        self._ended = ended
        self._traced = traced
        self._at_once = at_once
        lease_s = max(_LEAST_LEASE_S, 2 * deadline_s)
        self._claims = QueueClaims(lane, at_once=at_once, lease_s=lease_s)
        self._account_alarm = AccountAlarm()
        self._looking = 0
        self._loop: ClaimLoop[Work] = ClaimLoop(
            "queued operations", QUEUED, pool, self._claim, work_of=lambda work: work, poll_s=poll_s
        )

    def wake(self) -> None:
        """Look at the list now: something was queued in this process."""
        self._loop.wake()

    async def run(self) -> None:
        """Claim and send until `stop` or until cancelled."""
        await self._loop.run()

    async def stop(self, within_s: float) -> None:
        """Claim no more, and wait for what is claimed. Give back what is not done in time: the next
        worker sends it, or if it was begun hands it over to the resolver."""
        await self._loop.stop(within_s)

    async def _claim(self) -> None:
        """Claim as many as there is room for, and begin with them."""
        held = self._loop.under_way
        room = self._at_once - len(held)
        if room < max(1, self._at_once // 4):  # a claim of few costs as much as one of many
            return
        for work in await self._claims.next(room, held):
            doing = self._do(work)
            if self._traced is not None:
                item = QueuedWork(*work.key, *work.payload)
                about = {ids.OPERATION: item.operation_id, ids.PAYMENT: item.payment_id}
                doing = self._traced("queued operation", about, doing, item.link)
            self._loop.begin(work, doing)

    # one operation -------------------------------------------------------------------------------

    async def _do(self, work: Work) -> None:
        item = QueuedWork(*work.key, *work.payload)
        reach("queue_claimed")
        try:
            if KIND[item.kind] in CREATES:
                await self._send_payment(work, item)
            else:
                await self._send_follow_up(work, item)
        except _TakenBack:
            self._ended("later")
        except Exception as error:
            # Whatever it was: before the begin it is tried again until it is too late, after it the
            # resolver asks.
            why = f"{type(error).__name__}: {error}"
            expected = isinstance(error, (*LOST, asyncpg.PostgresError, EasyPayError))
            log.warning(
                "queued operation %s is tried again later: %s",
                *(ids.reference(item.operation_id), why),
                exc_info=not expected,
            )
            with suppress(*LOST, asyncpg.PostgresError, EasyPayError):
                await (self._later(work, why) if expected else self._not_begun(work, item, why))

    async def _send_payment(self, work: Work, item: QueuedWork) -> None:
        started = monotonic()
        assert item.sealed is not None, "a new payment is queued with its request"
        try:
            body = open_request(self._box, item.sealed, item.operation_id)
        except VaultError as error:
            await self._not_begun(work, item, why=str(error))
            return
        method = None
        if isinstance(body.payment_method, StoredPaymentMethod):
            method_id = method_id_of(body.payment_method)
            try:
                method = await payable_method(self._pool, item.merchant_id, item.mode, method_id)
            except (PaymentMethodNotFound, PaymentMethodGone) as gone:
                await self._not_begun(work, item, gone.detail, method_is_gone=True)
                return
        turn = queue_rows.turn_of(item, self._deadline_s)
        find = partial(queue_rows.begun_by, self._pool, turn)

        async def begin() -> Rows | None:
            return await self._begin.submit(turn) or await find()

        begun = await self._answer_to(work, begin, find)
        if begun is None:
            await self._not_begun(work, item)
            return
        await self._call_and_record(work, begun, started, body, method)

    async def _send_follow_up(self, work: Work, item: QueuedWork) -> None:
        started = monotonic()
        if work.attempt > 1:  # another worker may have begun it and sent it
            operation = await store.find_operation(self._pool, *work.key)
            if operation is None or operation.state is not State.QUEUED:
                await self._not_begun(work, item)
                return
        asked = item.asked_minor
        if item.whole:
            payment = await store.find_payment(self._pool, _payment_key(item))
            asked = None if payment is None else payment.refundable_minor
        if asked == 0:
            await self._not_begun(work, item)
            return
        intent = FollowUp(
            merchant_id=item.merchant_id,
            mode=item.mode,
            key="",  # it was claimed with the acceptance
            fingerprint=b"",
            payment_id=item.payment_id,
            operation_id=item.operation_id,
            kind=KIND[item.kind],
            asked_minor=asked,
            whole=item.whole,
            expected_version=item.expected_version,
            reference=ids.reference(item.operation_id),
            at=clock.now(),
        )
        turn = queue_rows.FollowUpTurn(intent, work.attempt)
        find = partial(queue_rows.in_flight_under, self._pool, work)

        async def begin() -> Rows | None:
            begun = await self._begin_follow_up.submit(turn)
            if begun is None and (unsent := await find()) is not None:
                raise await self._taken_back(unsent, "the answer to its begin was lost")
            return begun

        begun = await self._answer_to(work, begin, find)
        if begun is None:
            await self._not_begun(work, item)
            return
        await self._call_and_record(work, begun, started, None)
        if KIND[item.kind] is Kind.CAPTURE:  # if it failed, the authorization may have expired
            operation = await store.find_operation(self._pool, *work.key)
            if operation is not None and (operation.reply_status or 0) >= 400:
                await authorization_expiry.ask_soon(self._pool, begun[1])

    async def _answer_to(
        self,
        work: Work,
        begin: Callable[[], Awaitable[Rows | None]],
        find: Callable[[], Awaitable[Rows | Operation | None]],
    ) -> Rows | None:
        """Return what a begin has led to. It takes effect once, so it is repeated if its answer is
        missing, for as long as the claim holds. After that, raises _TakenBack if it was committed,
        and else the last error: then the operation is still queued."""
        while True:
            try:
                return await begin()
            except Exception as error:
                if not is_passing(error):
                    raise
                last = error
            if not work.still_held():
                break
            await asyncio.sleep(_ASK_AGAIN_S)
        if (found := await _until_answered(find)) is None:
            # The database is there again, and may still carry out what it was sent before.
            await asyncio.sleep(self._settles_s)
            found = await _until_answered(find)
        if found is None:
            raise last
        operation = found if isinstance(found, Operation) else found[0]
        raise await self._taken_back(operation, f"{type(last).__name__}: {last}")

    async def _taken_back(self, operation: Operation, why: str) -> _TakenBack:
        """Queue an operation again that this worker has begun, but did not send. Returns what to
        raise."""
        log.warning("queued operation %s was begun and not sent: %s", operation.reference, why)
        await _until_answered(partial(queue_rows.queue_again, self._pool, operation, 0.0, why))
        return _TakenBack()

    async def _call_and_record(
        self,
        work: Work,
        begun: Rows,
        started: float,
        body: CreatePayment | None,
        method: PayableMethod | None = None,
    ) -> None:
        operation, payment = begun
        reach("after_begin")
        account = await self._account_of(payment)
        sent = monotonic()
        reach("before_send")
        deadline = Deadline(min(started + self._deadline_s, work.held_until))
        if account is None:
            outcome: Outcome = NotSent(
                reason="the processor account that took the payment cannot be used"
            )
        elif deadline.left(sent) < min(_LEAST_CALL_S, self._deadline_s / 4):
            outcome = NotSent(reason="the database took too long: no time was left for the call")
        else:
            outcome = await self._send(account, begun, body, method, deadline)
        reach("after_reply")
        processor_us = int((monotonic() - sent) * 1e6)
        if isinstance(outcome, NotSent) and await self._again(work, operation, outcome):
            self._ended("later")
            return
        try:
            recorded = await self._recorder.record(
                operation, payment, outcome, processor_us=processor_us
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, keep the outcome
            self._unrecorded.keep(operation, payment, outcome, processor_us, error)
            return
        reach("after_record")
        if method is not None:
            await learn(self._pool, payment.merchant_id, payment.mode, method, outcome)
        if not recorded.first:
            await self._leave.submit(_leaving(operation))
        self._ended("done")

    async def _send(
        self,
        account: Account,
        begun: Rows,
        body: CreatePayment | None,
        method: PayableMethod | None,
        deadline: Deadline,
    ) -> Outcome:
        """Call the processor, and read its answer by what is known here of the payment."""
        if method is not None and method.login_id != begun[1].login_id:
            return NotSent(reason="another processor account has the payment method now")
        outcome = await self._call(account, begun, body, method, deadline)
        if method is not None:
            outcome = if_known(outcome, method)
        if body is not None and isinstance(outcome, Rejected):
            outcome = await self._unless_used_here(account, begun, outcome)
        return outcome

    def _call(
        self,
        account: Account,
        begun: Rows,
        body: CreatePayment | None,
        method: PayableMethod | None,
        deadline: Deadline,
    ) -> Awaitable[Outcome]:
        operation, payment = begun
        processor = self._processors[account.processor]
        if body is not None:
            return processor.authorize(
                authorize_request(account, operation, payment, body, method), deadline
            )
        return follow_up(processor, follow_up_request(account, operation, payment), deadline)

    async def _unless_used_here(
        self, account: Account, begun: Rows, refusal: Rejected
    ) -> Rejected | Unknown:
        """Return a refusal, unless the token may have been used by this very operation: if it was
        begun and sent before, and then a standby took over that knew nothing of the begin."""
        if refusal.decline_code != "invalid_payment_token":
            return refusal
        operation, payment = begun
        finding: Finding = Inconclusive(reason="many tokens are refused just now")
        if self._looking < _MOST_LOOKING:
            self._looking += 1
            try:
                finding = await self._processors[account.processor].inquire(
                    InquiryRequest(
                        account=account,
                        kind=operation.kind,
                        reference=operation.reference,
                        amount_minor=operation.amount_minor,
                        currency=operation.currency,
                        transaction_id=None,
                        sent_at_ms=int(payment.created_at.timestamp() * 1000),
                    ),
                    Deadline(monotonic() + self._deadline_s),
                )
            finally:
                self._looking -= 1
        if isinstance(finding, Absent):
            return refusal
        return Unknown(
            reason=f"{refusal.message} It may have been used by this payment.", code=refusal.code
        )

    async def _again(self, work: Work, operation: Operation, outcome: NotSent) -> bool:
        """Queue again what never left. False if it was ended meanwhile."""
        if outcome.account_refusal is not None:
            self._account_alarm.refused(operation, outcome.account_refusal)
        again = partial(queue_rows.queue_again, self._pool, operation)
        return await _until_answered(partial(again, _backoff_s(work.attempt), outcome.reason))

    async def _account_of(self, payment: Payment) -> Account | None:
        """Return the account that took the payment. None if it cannot be used."""
        if payment.login_id is None:
            return None
        try:
            login = await self._login_of(payment.merchant_id, payment.login_id)
        except (*LOST, asyncpg.PostgresError, VaultError) as error:
            log.error("the account of payment %s cannot be read: %s", payment.id, error)
            return None
        if login is None or login.account.processor != payment.processor:
            return None
        return login.account

    # what did not begin --------------------------------------------------------------------------

    async def _not_begun(
        self,
        work: Work,
        item: QueuedWork,
        why: str | None = None,
        *,
        method_is_gone: bool = False,
    ) -> None:
        """End an operation that cannot be sent any more, or look at it again later. `why` says it,
        if it is known."""
        operation = await store.find_operation(self._pool, *work.key)
        payment = await store.find_payment(self._pool, _payment_key(item))
        assert operation is not None, "it was written with the row"
        assert payment is not None, "it was written with its operation"
        if operation.state is not State.QUEUED:
            if not await self._leave.submit(_leaving(operation)):
                # The worker that began it is dead or stopped. It ends, or is queued again.
                await queue_rows.hand_over(self._pool, operation, self._call_s)
                await self._later(work, None, _AGAIN_S)
            return
        if method_is_gone:
            at = clock.now_after(payment.updated_at)
            change: Change | None = queue_endings.without_method(operation, payment, why or "", at)
        else:
            change = await self._end_of(operation, payment, item, why)
        if change is None:
            busy = payment.active_operation not in (None, operation.id)
            await self._later(work, why, _BUSY_S if busy and work.attempt < 10 else None)
        elif await self._recorder.end_queued(change):
            self._ended("done")

    async def _end_of(
        self, operation: Operation, payment: Payment, item: QueuedWork, why: str | None
    ) -> Change | None:
        """Return the end of a queued operation. None if it can still be sent."""
        at = clock.now_after(payment.updated_at)
        needs_s = self._deadline_s if operation.kind in CREATES else 0.0
        if await queue_rows.is_too_late(self._pool, operation, needs_s):
            return queue_endings.expired(operation, payment, why, at)
        if operation.kind in CREATES:
            return None
        amount = None if item.whole else item.asked_minor
        refusal = why_not(payment, operation.kind, amount, item.expected_version)
        if isinstance(refusal, RequestInProgress):
            return None
        return queue_endings.refused(operation, payment, refusal, at)

    async def _later(self, work: Work, why: str | None, delay_s: float | None = None) -> None:
        delay_s = _backoff_s(work.attempt) if delay_s is None else delay_s
        later = [(work.key, work.attempt, delay_s, why)]
        self._ended("later" if await work_list.postpone(self._pool, QUEUED, later) else "lost")


async def _until_answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the database until it answers: for as long as it is away, or until this worker stops."""
    while True:
        try:
            return await ask()
        except Exception as error:
            if not is_passing(error):
                raise
        await asyncio.sleep(_ASK_AGAIN_S)


def _backoff_s(attempt: int) -> float:
    return backoff_s(attempt, first=0.5, factor=2.0, most=15.0)


def _payment_key(item: QueuedWork) -> PaymentKey:
    return PaymentKey(item.merchant_id, item.mode, item.payment_id)


def _leaving(operation: Operation) -> queue_rows.Leaving:
    return queue_rows.Leaving(operation.merchant_id, operation.id, operation.payment_id)
