"""Begin, call, record: how a payment is taken, captured, voided, refunded and reviewed.

Two short commits with a network call between them. No connection, lock or transaction is held
while the processor is asked. A reply leaves only after the commit it speaks of.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.db.connections import LOST
from easypay.db.group_commit import GroupCommitter
from easypay.errors import (
    IdempotencyKeyReused,
    NotFound,
    ProcessorUnavailable,
    RequestInProgress,
    ValidationFailed,
)
from easypay.failpoints import reach
from easypay.merchants.model import Caller, Login
from easypay.merchants.vault import VaultError
from easypay.payments import authorization_expiry, statements, store
from easypay.payments.account_alarms import AccountAlarm
from easypay.payments.begin import (
    authorize_request,
    new_operation,
    new_payment,
    numbers_of,
    text,
)
from easypay.payments.model import Operation, Payment, PaymentKey, Spent
from easypay.payments.recorder import LOST_OPERATION, Recorder
from easypay.payments.refusals import not_sent, why_not
from easypay.payments.requests import CreatePayment
from easypay.payments.resolver import Resolver
from easypay.payments.unrecorded_outcomes import Kept, provisional_reply
from easypay.processors.base import (
    Account,
    CaptureRequest,
    Deadline,
    NotSent,
    Outcome,
    Processor,
    RefundRequest,
    ReviewRequest,
    VoidRequest,
)

log = logging.getLogger(__name__)

Call = Callable[[Account, Deadline], Awaitable[Outcome]]


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One money request: who asks, under which key, and the fingerprint of what is asked."""

    caller: Caller
    key: str
    fingerprint: bytes


class Reply(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the merchant is answered. `spent` is None where nothing was done: a replay."""

    status: int
    body: bytes
    payment_id: UUID
    replayed: bool = False
    spent: Spent | None = None


class Payments:
    """The flows over their committers. One per process."""

    def __init__(
        self,
        *,
        begin: GroupCommitter[statements.NewPayment, bool],
        follow_up: GroupCommitter[statements.FollowUp, Payment | None],
        read: GroupCommitter[PaymentKey, Payment | None],
        recorder: Recorder,
        kept: Kept,
        resolver: Resolver,
        processor: Processor,
        pool: Any,
        login_of: Callable[[UUID, UUID], Awaitable[Login | None]],
        card_fingerprint: Callable[[str], bytes],
        deadline_s: float,
    ) -> None:
        self._begin = begin
        self._follow_up = follow_up
        self._read = read
        self._recorder = recorder
        self._kept = kept
        self._resolver = resolver
        self._processor = processor
        self._pool = pool
        self._login_of = login_of
        self._card_fingerprint = card_fingerprint
        self._deadline_s = deadline_s
        self._account_alarm = AccountAlarm()
        self._running = 0
        self._quiet = asyncio.Event()

    async def drain(self) -> None:
        """Wait for every running flow: none is abandoned between its call and its record."""
        while self._running:
            self._quiet.clear()
            await self._quiet.wait()

    # what merchants ask ----------------------------------------------------------------------

    async def get(self, caller: Caller, payment_id: UUID) -> Payment:
        """One payment of the caller's, in the key's mode. Raises NotFound."""
        payment = await self._read.submit(_key(caller, payment_id))
        if payment is None:
            raise _no_payment(payment_id)
        return payment

    async def create(self, ask: Ask, body: CreatePayment) -> Reply:
        """Take a payment (`capture: automatic`) or hold it. The body has passed its checks.

        Raises what refuses it; a decline or an unknown outcome is a Reply.
        """
        return await self._to_the_end(self._create(ask, body))

    async def capture(
        self, ask: Ask, payment_id: UUID, amount: int | None, version: int | None
    ) -> Reply:
        """Capture all (`amount` None) or part of an authorization. `version` is If-Match's."""
        return await self._to_the_end(self._follow(ask, "capture", payment_id, amount, version))

    async def void(self, ask: Ask, payment_id: UUID, version: int | None) -> Reply:
        """Undo an authorization, or a capture that has not settled."""
        return await self._to_the_end(self._follow(ask, "void", payment_id, None, version))

    async def refund(
        self, ask: Ask, payment_id: UUID, amount: int | None, version: int | None
    ) -> Reply:
        """Give back `amount`, or all that is left. What has not settled is voided, all of it."""
        return await self._to_the_end(self._follow(ask, "refund", payment_id, amount, version))

    async def review(
        self, ask: Ask, payment_id: UUID, version: int | None, *, approve: bool
    ) -> Reply:
        """Let a payment in review go ahead, or end it."""
        kind = "approve" if approve else "decline"
        return await self._to_the_end(self._follow(ask, kind, payment_id, None, version))

    # how it is done --------------------------------------------------------------------------

    async def _to_the_end(self, flow: Coroutine[Any, Any, Reply]) -> Reply:
        """Count a flow for as long as it runs. Nobody cancels it: what was sent is recorded."""
        self._running += 1
        try:
            return await flow
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    async def _create(self, ask: Ask, body: CreatePayment) -> Reply:
        started, at = monotonic(), clock.now()
        caller = ask.caller
        if caller.login is None and (earlier := await self.earlier(ask)) is not None:
            return earlier
        _require_account(caller)
        payment, operation = new_payment(caller, body, self._processor.name, at)
        numbers = numbers_of(body)
        intent = statements.NewPayment(
            merchant_id=caller.merchant_id,
            mode=caller.mode,
            key=ask.key,
            fingerprint=ask.fingerprint,
            payment_id=payment.id,
            operation_id=operation.id,
            kind=operation.kind,
            amount_minor=body.amount,
            currency=body.currency,
            capture=body.capture,
            method_type=payment.method_type,
            card_brand=payment.card_brand,
            card_last4=payment.card_last4,
            card_exp_month=payment.card_exp_month,
            card_exp_year=payment.card_exp_year,
            card_fingerprint=None if numbers is None else self._card_fingerprint(numbers),
            processor=self._processor.name,
            order_reference=body.order_reference,
            customer_reference=payment.customer_reference,
            description=body.description,
            statement_descriptor=body.statement_descriptor,
            customer=text(body.customer),
            billing_address=text(body.billing_address),
            metadata=payment.metadata,
            reference=operation.reference,
            at=at,
            login_id=payment.login_id,
        )
        claimed = await self._begin.submit(intent)
        if not claimed:
            standing = await self._standing(ask, operation.id, await self._use_of(ask))
            if isinstance(standing, Reply):
                return standing
            operation = standing
            payment = await self._payment_of(operation)

        def authorize(account: Account, deadline: Deadline) -> Awaitable[Outcome]:
            request = authorize_request(account, operation, body)
            return self._processor.authorize(request, deadline)

        begin = partial(self._begin.submit, intent) if claimed else None
        return await self._call_and_record(caller, operation, payment, authorize, started, begin)

    async def _follow(
        self, ask: Ask, kind: str, payment_id: UUID, amount: int | None, version: int | None
    ) -> Reply:
        started = monotonic()
        operation_id = ids.new_id()
        taken = await self._take(ask, kind, payment_id, operation_id, amount, version)
        if isinstance(taken, store.KeyUse):
            standing = await self._standing(ask, operation_id, taken)
            if isinstance(standing, Reply):
                return standing
            operation = standing
            payment = await self._payment_of(operation)
        else:
            payment, asked = taken
            if asked is None:
                asked = payment.authorized_minor if kind == "capture" else payment.amount_minor
            operation = new_operation(payment, operation_id, kind, asked, clock.now())
            if kind == "refund" and payment.refund_reserved_minor > asked:
                # Other refunds are open; those whose outcome is unknown are asked about first.
                await self._resolver.resolve_payment(_key(ask.caller, payment_id))
        call = self._follow_up_call(kind, operation, payment)
        reply = await self._call_and_record(ask.caller, operation, payment, call, started)
        if kind == "capture" and reply.status >= 400:
            await authorization_expiry.ask_soon(
                self._pool, payment
            )  # the processor may have let it go
        return reply

    async def _take(
        self,
        ask: Ask,
        kind: str,
        payment_id: UUID,
        operation_id: UUID,
        amount: int | None,
        version: int | None,
    ) -> tuple[Payment, int | None] | store.KeyUse:
        """Begin: the payment as taken and the amount asked for, which of a refund without one is
        what was left beside the open ones; or what the key was used for before.

        Raises why not. An unknown on the payment is asked about first, and then it is tried once
        more.
        """
        for last_try in (False, True):
            whole = kind == "refund" and amount is None
            asked = amount
            if whole:
                asked = (await self.get(ask.caller, payment_id)).refundable_minor
            payment = None
            if not whole or asked:
                payment = await self._follow_up.submit(
                    statements.FollowUp(
                        merchant_id=ask.caller.merchant_id,
                        mode=ask.caller.mode,
                        key=ask.key,
                        fingerprint=ask.fingerprint,
                        payment_id=payment_id,
                        operation_id=operation_id,
                        kind=kind,
                        asked_minor=asked,
                        whole=whole,
                        expected_version=version,
                        reference=ids.reference(operation_id),
                        at=clock.now(),
                    )
                )
            if payment is not None:
                return payment, asked
            use = await self._use_of(ask)
            if use is not None:
                return use
            if last_try or not await self._resolver.resolve_payment(_key(ask.caller, payment_id)):
                break
        payment = await self.get(ask.caller, payment_id)
        raise why_not(payment, kind, amount, version)

    async def earlier(self, ask: Ask) -> Reply | None:
        """What the first request with this key was told, where this one would be refused today.

        None where the refusal stands: the key was not used, or for another request, or what it
        began was never sent and would be sent now. Raises RequestInProgress.
        """
        use = await self._use_of(ask)
        if use is None or use.fingerprint != ask.fingerprint:
            return None
        if use.operation.reply_status is None and use.operation.state == "not_sent":
            return None
        standing = await self._standing(ask, ids.new_id(), use)
        assert isinstance(standing, Reply), "what was not sent is not taken up here"
        return standing

    async def _use_of(self, ask: Ask) -> store.KeyUse | None:
        return await store.find_key(self._pool, ask.caller.merchant_id, ask.caller.mode, ask.key)

    async def _standing(
        self, ask: Ask, operation_id: UUID, use: store.KeyUse | None
    ) -> Reply | Operation:
        """What stands under a key that was used before: its reply, or an operation to carry on.

        The operation is our own where the begin had committed though its answer was lost, or one
        that was proven never sent, taken up again. Raises IdempotencyKeyReused for another
        request's key and RequestInProgress while the first is running.
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
                replayed=True,
            )
        if operation.state == "not_sent":
            login = ask.caller.login
            reopened = await store.reopen(
                self._pool,
                operation.merchant_id,
                operation.id,
                None if login is None else login.id,
            )
            if reopened is not None:
                return reopened
        raise RequestInProgress(
            "The first request with this key is still running.", retry_after_s=1
        )

    async def _payment_of(self, operation: Operation) -> Payment:
        key = PaymentKey(operation.merchant_id, operation.mode, operation.payment_id)
        payment = await store.find_payment(self._pool, key)
        assert payment is not None, "an operation and its payment are written together"
        return payment

    async def _call_and_record(
        self,
        caller: Caller,
        operation: Operation,
        payment: Payment,
        call: Call,
        started: float,
        begin_again: Callable[[], Awaitable[object]] | None = None,
    ) -> Reply:
        reach("after_begin")
        begun = monotonic()
        reach("before_send")
        login = caller.login
        account: Account | None
        if login is not None and login.id is payment.login_id:  # as of every new payment
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
        processor_us = int((answered - begun) * 1e6)
        try:
            recorded = await self._recorder.record(
                operation, payment, outcome, processor_us=processor_us
            )
            if recorded.state == LOST_OPERATION:
                if begin_again is not None:
                    # A standby took over that had not received the intent. It is written once more,
                    # under the same ids, so that neither the money nor the key is forgotten.
                    await begin_again()
                    recorded = await self._recorder.record(
                        operation, payment, outcome, processor_us=processor_us
                    )
                if recorded.state == LOST_OPERATION:
                    recorded = provisional_reply(operation, payment, outcome)
        except Exception as error:  # noqa: BLE001 - what the processor said is known, and kept
            self._kept.keep(operation, payment, outcome, processor_us, error)
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
            spent=Spent(begun - started, answered - begun, monotonic() - answered),
        )

    async def _account_of(self, caller: Caller, payment: Payment) -> Account | None:
        """The account that took the payment, whichever takes new ones today."""
        login = caller.login
        if payment.login_id is not None and (login is None or login.id != payment.login_id):
            try:
                login = await self._login_of(payment.merchant_id, payment.login_id)
            except (*LOST, asyncpg.PostgresError, VaultError) as error:
                log.error("the account of payment %s cannot be read: %s", payment.id, error)
                return None
        return None if login is None else login.account

    def _follow_up_call(self, kind: str, operation: Operation, payment: Payment) -> Call:
        transaction_id = payment.transaction_id
        assert transaction_id is not None, "only what the processor took can be followed up"
        match kind:
            case "capture":
                return lambda account, deadline: self._processor.capture(
                    CaptureRequest(
                        account=account,
                        reference=operation.reference,
                        transaction_id=transaction_id,
                        amount_minor=operation.amount_minor,
                        currency=operation.currency,
                    ),
                    deadline,
                )
            case "void":
                return lambda account, deadline: self._processor.void(
                    VoidRequest(
                        account=account,
                        reference=operation.reference,
                        transaction_id=transaction_id,
                    ),
                    deadline,
                )
            case "approve" | "decline":
                return lambda account, deadline: self._processor.review(
                    ReviewRequest(
                        account=account,
                        reference=operation.reference,
                        transaction_id=transaction_id,
                        approve=kind == "approve",
                    ),
                    deadline,
                )
            case _:
                return lambda account, deadline: self._processor.refund_or_void(
                    RefundRequest(
                        account=account,
                        reference=operation.reference,
                        transaction_id=transaction_id,
                        amount_minor=operation.amount_minor,
                        currency=operation.currency,
                        card_last4=payment.card_last4 or "",
                        method_type=(
                            "bank_account" if payment.method_type == "bank_account" else "card"
                        ),
                        captured_minor=payment.voidable_minor,
                    ),
                    deadline,
                )


def _require_account(caller: Caller) -> None:
    if caller.login_unreadable:
        raise ProcessorUnavailable(
            f"The {caller.mode} processor account of this merchant cannot be read with the "
            "gateway's encryption key. Nothing was sent. The operator has to restore "
            "EASYPAY_ENCRYPTION_KEY or set the account again; then repeat the request with the "
            "same Idempotency-Key."
        )
    if caller.login is None:
        raise ValidationFailed(
            f"This merchant has no {caller.mode} processor account yet. Set one with "
            "`easypay merchant account` or PUT /api/v1/admin/merchants/{id}/accounts/{mode}."
        )


def _key(caller: Caller, payment_id: UUID) -> PaymentKey:
    return PaymentKey(caller.merchant_id, caller.mode, payment_id)


def _no_payment(payment_id: UUID) -> NotFound:
    return NotFound(f"there is no payment {ids.typed(ids.PAYMENT, payment_id)}")
