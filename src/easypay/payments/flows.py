"""Begin, call, record: how a payment is created, captured, voided, refunded and reviewed.

Each flow makes two short commits with a network call between them. It holds no connection, lock or
transaction during the call, and responds once the outcome is committed. A key that was used before
leads to the first reply, or to an operation to resume (`reply_or_operation`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import replace

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.db import archived_months
from easypay.db.connections import LOST
from easypay.db.group_commit import GroupCommitter
from easypay.errors import (
    EasyPayError,
    IdempotencyKeyReused,
    NotFound,
    ProcessorUnavailable,
    RequestInProgress,
    ValidationFailed,
)
from easypay.failpoints import reach
from easypay.merchants.model import Caller, Login
from easypay.merchants.vault import VaultError
from easypay.payments import authorization_expiry, queue_rows, store
from easypay.payments.account_alarms import AccountAlarm
from easypay.payments.begin import (
    Ask,
    FollowUp,
    NewPayment,
    authorize_request,
    follow_up_request,
    new_follow_up,
    new_operation,
    new_payment,
)
from easypay.payments.duplicates import DuplicateChecks, checked_payment
from easypay.payments.model import (
    Event,
    Kind,
    Operation,
    Payment,
    PaymentKey,
    Spent,
    State,
    Status,
    advance,
)
from easypay.payments.refusals import archived, not_sent, why_not
from easypay.payments.requests import CreatePayment, StoredPaymentMethod
from easypay.payments.resolver import Resolver
from easypay.payments.restored import refuse_repeated_charge, refuse_repeated_refund
from easypay.payments.statements import LOST_OPERATION, Recorder
from easypay.payments.stored_methods import NOT_KNOWN_YET, StoredCharge, StoredMethods
from easypay.payments.unrecorded_outcomes import UnrecordedOutcomes, provisional_reply
from easypay.payments.views import body_of, payment_view, refund_view
from easypay.processors.base import (
    Account,
    Deadline,
    NotSent,
    Outcome,
    Processors,
    follow_up,
)

log = logging.getLogger(__name__)

Call = Callable[[Account, Deadline], Awaitable[Outcome]]


class Reply(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The reply to the merchant. `spent` is None for a replay, which does nothing."""

    status: int
    body: bytes
    payment_id: UUID
    operation_id: UUID
    replayed: bool = False
    spent: Spent | None = None
    queued: Kind | None = None
    """The kind of the operation, if it is queued and has no reply of its own yet."""


Flow = Coroutine[Any, Any, Reply]


class Begun(msgspec.Struct, frozen=True, gc=False):
    """An operation that may be sent, because its intent is committed."""

    operation: Operation
    payment: Payment


class Payments:
    """The payment flows. One per process."""

    def __init__(
        self,
        *,
        begin: GroupCommitter[NewPayment, bool],
        follow_up: GroupCommitter[FollowUp, Payment | None],
        read: GroupCommitter[PaymentKey, Payment | None],
        recorder: Recorder,
        unrecorded: UnrecordedOutcomes,
        resolver: Resolver,
        processors: Processors,
        pool: Any,
        duplicates: DuplicateChecks,
        stored: StoredMethods,
        login_of: Callable[[UUID, UUID], Awaitable[Login | None]],
        card_fingerprint: Callable[[str], bytes],
        deadline_s: float,
    ) -> None:
        self._begin = begin
        self._follow_up = follow_up
        self._read = read
        self._recorder = recorder
        self._unrecorded = unrecorded
        self._resolver = resolver
        self._processors = processors
        self._pool = pool
        self._duplicates = duplicates
        self._stored = stored
        self._login_of = login_of
        self._card_fingerprint = card_fingerprint
        self._deadline_s = deadline_s
        self._account_alarm = AccountAlarm()
        self._running = 0
        self._quiet = asyncio.Event()

    async def drain(self) -> None:
        """Wait for every running flow, so that none stops between its call and its record."""
        while self._running:
            self._quiet.clear()
            await self._quiet.wait()

    # requests of merchants -------------------------------------------------------------------

    async def get(self, caller: Caller, payment_id: UUID) -> Payment:
        """Return one of the caller's payments, in the key's mode. Raises NotFound or Archived."""
        return await self._find(_key(caller, payment_id))

    async def _find(self, key: PaymentKey) -> Payment:
        payment = await self._read.submit(key)
        if payment is None:
            month = await archived_months.of_id(self._pool, key.payment_id)
            if month is not None:
                raise archived(key.payment_id, month.month, month.label)
            raise NotFound(f"there is no payment {ids.typed(ids.PAYMENT, key.payment_id)}")
        return payment

    def create(self, ask: Ask, body: CreatePayment) -> Flow:
        """Take a payment, or only authorize it if `capture` is manual. The body is validated.

        Raises the reason if the request is refused; a decline or an unknown outcome is a Reply.
        A merchant may have the payment compared with its latest ones (`duplicates`).
        """
        if isinstance(body.payment_method, StoredPaymentMethod):
            return self._run(self._create_by_stored(ask, body))
        return self._run(self._create(ask, body))

    def capture(self, ask: Ask, payment_id: UUID, amount: int | None, version: int | None) -> Flow:
        """Capture all (`amount` None) or part of an authorization. `version` is If-Match's."""
        return self._run(self._follow(ask, Kind.CAPTURE, payment_id, amount, version))

    def void(self, ask: Ask, payment_id: UUID, version: int | None) -> Flow:
        """Void an authorization, or a capture that has not settled."""
        return self._run(self._follow(ask, Kind.VOID, payment_id, None, version))

    def refund(self, ask: Ask, payment_id: UUID, amount: int | None, version: int | None) -> Flow:
        """Refund `amount`, or all that is left. Before settlement only a full refund, as a void."""
        return self._run(self._follow(ask, Kind.REFUND, payment_id, amount, version))

    def review(self, ask: Ask, payment_id: UUID, version: int | None, *, approve: bool) -> Flow:
        """Approve or decline a payment in review."""
        kind = Kind.APPROVE if approve else Kind.DECLINE
        return self._run(self._follow(ask, kind, payment_id, None, version))

    # begin, call, record ---------------------------------------------------------------------

    async def _run(self, flow: Flow) -> Reply:
        """Run a flow and count it as running. Nobody cancels it: what was sent is recorded."""
        self._running += 1
        try:
            return await flow
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    async def _create_by_stored(self, ask: Ask, body: CreatePayment) -> Reply:
        """Take a payment with a stored method, and let the method learn afterwards.

        Usually the payment begins as the method is found. If not, the method is looked up first;
        the operation's id is the same then, as the first begin may be committed all the same.
        """
        ask = replace(ask, operation_id=ask.operation_id or ids.new_id())
        charge = await self._stored.begin(ask, body)
        if charge is None:
            try:
                ask, method = await self._stored.chosen(ask, body)
            except EasyPayError:
                # The method may have been usable when this was first sent: then that reply stands.
                first = await first_reply(self._pool, ask)
                if first is None:
                    raise
                return first
            charge = StoredCharge(self._stored, ask, body, method)
        reply = await self._create(ask, body, charge)
        await charge.learn()
        return reply

    async def _create(
        self, ask: Ask, body: CreatePayment, charge: StoredCharge | None = None
    ) -> Reply:
        started = monotonic()
        caller = ask.caller
        stored = None if charge is None else charge.method
        if caller.login is None:
            first = await first_reply(self._pool, ask)
            if first is not None:
                return first
        checked, claimed = None, True
        if charge is not None and charge.begun is not None:
            new, started = charge.begun
        else:
            processor = login_of(caller).account.processor
            new = new_payment(ask, body, processor, self._card_fingerprint, clock.now(), stored)
            if caller.restored:
                await refuse_repeated_charge(self._pool, ask, new.payment)
            checked = None if caller.duplicates == "off" else checked_payment(ask, new)
            if checked is None:
                claimed = await self._begin.submit(new)
            else:
                new, claimed = await self._duplicates.begin(ask, checked)
        begun = Begun(new.operation, new.payment)
        if not claimed:
            use = await _use_of(self._pool, ask)
            earlier = await self._resume(ask, new.operation.id, use)
            if isinstance(earlier, Reply):
                return earlier
            begun = earlier

        def authorize(account: Account, deadline: Deadline) -> Awaitable[Outcome]:
            request = authorize_request(account, begun.operation, begun.payment, body, stored)
            processor = self._processors[account.processor]
            if charge is not None:
                return charge.authorize(processor, request, deadline)
            return processor.authorize(request, deadline)

        begin_again: Callable[[], Awaitable[object]] | None = None
        if claimed and checked is not None:
            begin_again = partial(self._duplicates.begin_again, checked)
        elif claimed:
            begin_again = partial(self._begin.submit, new)
        return await self._call_and_record(caller, begun, authorize, started, begin_again, charge)

    async def _follow(
        self, ask: Ask, kind: Kind, payment_id: UUID, amount: int | None, version: int | None
    ) -> Reply:
        started = monotonic()
        intent = new_follow_up(ask, kind, payment_id, amount, version, clock.now())
        if ask.caller.restored and kind is Kind.REFUND and amount is not None:
            await refuse_repeated_refund(self._pool, ask, payment_id, amount)
        begun = await self._begin_follow_up(ask, intent)
        if isinstance(begun, Reply):
            return begun

        def call(account: Account, deadline: Deadline) -> Awaitable[Outcome]:
            request = follow_up_request(account, begun.operation, begun.payment)
            return follow_up(self._processors[account.processor], request, deadline)

        reply = await self._call_and_record(ask.caller, begun, call, started)
        if kind is Kind.CAPTURE and reply.status >= 400:  # the authorization may have expired
            await authorization_expiry.ask_soon(self._pool, begun.payment)
        return reply

    async def _begin_follow_up(self, ask: Ask, intent: FollowUp) -> Begun | Reply:
        """Commit the intent, or return what its key leads to if it was used before.

        If the payment has an operation with an unknown outcome, ask the processor about it and try
        once more. Raises the reason if the payment does not allow the operation.
        """
        key = _key(ask.caller, intent.payment_id)
        for last_try in (False, True):
            begun = await (self._refund_the_rest(intent) if intent.whole else self._try(intent))
            if begun is not None:
                if intent.kind is Kind.REFUND and _others_open(begun):
                    # First ask about the other refunds with an unknown outcome.
                    await self._resolver.resolve_payment(key)
                return begun
            use = await _use_of(self._pool, ask)
            if use is not None:
                return await self._resume(ask, intent.operation_id, use)
            if intent.kind is Kind.VOID:
                cancelled = await self.cancel_queued(ask, intent)
                if cancelled is not None:
                    return cancelled
            if last_try or not await self._resolver.resolve_payment(key):
                break
        payment = await self.get(ask.caller, intent.payment_id)
        amount = None if intent.whole else intent.asked_minor
        raise why_not(payment, intent.kind, amount, intent.expected_version)

    async def cancel_queued(self, ask: Ask, intent: FollowUp) -> Reply | None:
        """Void a payment that was accepted and not sent: it ends without a call. None if there is
        no such payment, or it is being sent."""
        key = _key(ask.caller, intent.payment_id)
        payment = await store.find_payment(self._pool, key)
        if payment is None or payment.active_operation is None:
            return None
        if payment.status not in (Status.PENDING, Status.PROCESSING):
            return None
        if intent.expected_version not in (None, payment.version):
            return None
        what = _cancelled(payment, ask, intent, clock.now_after(payment.updated_at))
        try:
            if not await queue_rows.cancel(self._pool, what):
                return None
        except (asyncpg.UniqueViolationError, asyncpg.CheckViolationError):
            return None  # the key was used, or a worker was quicker: what follows finds that out
        self._recorder.changed(key)
        return Reply(
            status=201, body=what.reply, payment_id=payment.id, operation_id=intent.operation_id
        )

    async def _try(self, intent: FollowUp) -> Begun | None:
        """Commit the intent, or return None if the payment or the key does not allow it."""
        payment = await self._follow_up.submit(intent)
        if payment is None:
            return None
        asked = intent.asked_minor
        if asked is None:
            capture = intent.kind is Kind.CAPTURE
            asked = payment.authorized_minor if capture else payment.amount_minor
        operation = new_operation(payment, intent.operation_id, intent.kind, asked, clock.now())
        return Begun(operation, payment)

    async def _refund_the_rest(self, intent: FollowUp) -> Begun | None:
        """Commit a refund without an amount: of all that no other refund has reserved."""
        key = PaymentKey(intent.merchant_id, intent.mode, intent.payment_id)
        left = (await self._find(key)).refundable_minor
        return await self._try(replace(intent, asked_minor=left)) if left else None

    async def _resume(
        self, ask: Ask, operation_id: UUID, use: store.KeyUse | None
    ) -> Begun | Reply:
        """Return the reply of a used key, or its operation to resume: see `reply_or_operation`."""
        earlier = await reply_or_operation(self._pool, ask, operation_id, use)
        if isinstance(earlier, Reply):
            return earlier
        key = PaymentKey(earlier.merchant_id, earlier.mode, earlier.payment_id)
        payment = await store.find_payment(self._pool, key)
        assert payment is not None, "an operation and its payment are written together"
        return Begun(earlier, payment)

    async def _call_and_record(
        self,
        caller: Caller,
        intent: Begun,
        call: Call,
        started: float,
        begin_again: Callable[[], Awaitable[object]] | None = None,
        charge: StoredCharge | None = None,
    ) -> Reply:
        operation, payment = intent.operation, intent.payment
        reach("after_begin")
        begun = monotonic()
        reach("before_send")
        login = caller.login
        account: Account | None
        if login is not None and login.id is payment.login_id:  # true of every new payment
            account = login.account
        else:
            account = await self._account_of(caller, payment)
        outcome: Outcome
        if account is None:
            outcome = NotSent(reason="the processor account that took the payment cannot be used")
        else:
            outcome = await call(account, Deadline(started + self._deadline_s))
        reach("after_reply")
        answered = monotonic()
        if outcome is NOT_KNOWN_YET and charge is not None and await charge.queue(operation):
            return present_reply(operation, payment)
        processor_us = int((answered - begun) * 1e6)
        try:
            recorded = await self._recorder.record(
                operation, payment, outcome, processor_us=processor_us
            )
            if recorded.state == LOST_OPERATION:
                if begin_again is not None:
                    # A standby without the intent took over. Write the intent again, under the same
                    # ids, so that neither the money nor the key is forgotten.
                    await begin_again()
                    recorded = await self._recorder.record(
                        operation, payment, outcome, processor_us=processor_us
                    )
                if recorded.state == LOST_OPERATION:
                    recorded = provisional_reply(operation, payment, outcome)
        except Exception as error:  # noqa: BLE001 - whatever it is, keep the outcome
            self._unrecorded.keep(operation, payment, outcome, processor_us, error)
            recorded = provisional_reply(operation, payment, outcome)
        reach("after_record")
        if recorded.reply_status is None or recorded.reply_body is None:
            if isinstance(outcome, NotSent):
                if outcome.account_refusal is not None:
                    self._account_alarm.refused(operation, outcome.account_refusal)
                raise not_sent(operation.mode, outcome)
            raise RequestInProgress("Another process is finishing this request.", retry_after_s=2)
        return Reply(
            status=recorded.reply_status,
            body=recorded.reply_body,
            payment_id=operation.payment_id,
            operation_id=operation.id,
            spent=Spent(begun - started, answered - begun, monotonic() - answered),
        )

    async def _account_of(self, caller: Caller, payment: Payment) -> Account | None:
        """Return the account that took the payment, whichever takes new payments today. None if it
        cannot be used, or is at another processor than the payment."""
        login = caller.login
        if payment.login_id is not None and (login is None or login.id != payment.login_id):
            try:
                login = await self._login_of(payment.merchant_id, payment.login_id)
            except (*LOST, asyncpg.PostgresError, VaultError) as error:
                log.error("the account of payment %s cannot be read: %s", payment.id, error)
                return None
        if login is None or login.account.processor != payment.processor:
            return None
        return login.account


def login_of(caller: Caller) -> Login:
    """Return the account that takes the caller's new payments. Raises the reason if there is none,
    or it cannot be used."""
    if caller.login_unusable:
        raise ProcessorUnavailable(
            f"The {caller.mode} processor account of this merchant cannot be used. "
            f"{caller.login_unusable} Nothing was sent. After the operator has done that, repeat "
            "the request with the same Idempotency-Key."
        )
    if caller.login is None:
        raise ValidationFailed(
            f"This merchant has no {caller.mode} processor account yet. Set one with "
            "`easypay merchant account` or PUT /api/v1/admin/merchants/{id}/accounts/{mode}."
        )
    return caller.login


def _key(caller: Caller, payment_id: UUID) -> PaymentKey:
    return PaymentKey(caller.merchant_id, caller.mode, payment_id)


def _others_open(begun: Begun) -> bool:
    """Whether other refunds of the payment are open: more is reserved than this one's amount."""
    return begun.payment.refund_reserved_minor > begun.operation.amount_minor


# a key that was used before -----------------------------------------------------------------------


async def _use_of(pool: Any, ask: Ask) -> store.KeyUse | None:
    """Return what the request's key was used for, or None."""
    return await store.find_key(pool, ask.caller.merchant_id, ask.caller.mode, ask.key)


async def first_reply(pool: Any, ask: Ask) -> Reply | None:
    """Return the reply to the first request with this key, if this one would be refused today.

    None if the refusal stands: the key is unused, or belongs to another request, or its operation
    was never sent and would be sent now. Raises RequestInProgress.
    """
    use = await _use_of(pool, ask)
    if use is None or use.fingerprint != ask.fingerprint:
        return None
    if use.operation.reply_status is None and use.operation.state is State.NOT_SENT:
        return None
    reply = await reply_or_operation(pool, ask, ids.new_id(), use)
    assert isinstance(reply, Reply), "an operation that was not sent is excluded above"
    return reply


# queued operations --------------------------------------------------------------------------------


async def present_state(pool: Any, operation: Operation) -> Reply:
    """Return the answer to a request whose operation is queued or being sent by a worker: 202 with
    its payment or refund as it is now."""
    key = PaymentKey(operation.merchant_id, operation.mode, operation.payment_id)
    payment = await store.find_payment(pool, key)
    assert payment is not None, "an operation and its payment are written together"
    return present_reply(operation, payment)


def present_reply(operation: Operation, payment: Payment) -> Reply:
    """Return the same for an operation and its payment as they are now."""
    refund = operation.kind is Kind.REFUND
    return Reply(
        status=202,
        body=body_of(
            refund_view(operation, payment.processor) if refund else payment_view(payment)
        ),
        payment_id=payment.id,
        operation_id=operation.id,
        queued=operation.kind,
    )


def _cancelled(payment: Payment, ask: Ask, intent: FollowUp, at: datetime) -> queue_rows.Cancelled:
    """Return what the void of a payment writes that was not sent."""
    after = replace(
        payment,
        status=advance(payment.status, Event.CANCELLED),
        version=payment.version + 1,
        active_operation=None,
        updated_at=at,
    )
    return queue_rows.Cancelled(
        payment=payment,
        void=new_operation(payment, intent.operation_id, Kind.VOID, payment.amount_minor, at),
        key=ask.key,
        fingerprint=ask.fingerprint,
        reply=body_of(payment_view(after)),
        event_id=ids.new_id_from(at),
        at=at,
    )


async def reply_or_operation(
    pool: Any, ask: Ask, operation_id: UUID, use: store.KeyUse | None
) -> Reply | Operation:
    """Return the stored reply of a used key, or the operation to resume.

    The operation is our own (`operation_id`) if its begin committed but the answer was lost, or one
    that was proven never sent and is restarted.

    A queued operation has no reply of its own yet: the answer is its present state.

    Raises IdempotencyKeyReused if the key belongs to another request, and RequestInProgress while
    the first request is running.
    """
    if use is None:
        raise RequestInProgress("The key was released just now. Try again.", retry_after_s=1)
    operation = use.operation
    if use.fingerprint != ask.fingerprint:
        raise IdempotencyKeyReused(
            "This key belongs to another request, with another body or path. "
            "Use a new key for a new request."
        )
    if operation.id == operation_id:
        return operation
    if operation.reply_status is not None and operation.reply_body is not None:
        return Reply(
            status=operation.reply_status,
            body=operation.reply_body,
            payment_id=operation.payment_id,
            operation_id=operation.id,
            replayed=True,
        )
    if operation.state is State.NOT_SENT:
        login = ask.caller.login
        reopened = await store.reopen(pool, operation, None if login is None else login.id)
        if reopened is not None:
            return reopened
    if operation.state is State.QUEUED or await queue_rows.is_queued(pool, operation):
        return await present_state(pool, operation)
    raise RequestInProgress("The first request with this key is still running.", retry_after_s=1)
