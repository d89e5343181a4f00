"""Accepts money requests that are sent later, by a worker (`queue_worker`).

A request is checked as if it were sent at once, its key is claimed, and its operation is queued, in
one commit. From then on it happens, or ends with a reason. Only what may be stored is accepted: a
payment by token or by a stored method, or an operation of a payment. A card, a bank account or a
card code never is.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import clock, ids
from easypay.db.group_commit import GroupCommitter
from easypay.errors import (
    FieldError,
    NotFound,
    Overloaded,
    TooManyQueued,
    ValidationFailed,
)
from easypay.payments import queue_acceptance, store
from easypay.payments.begin import Ask, new_follow_up, new_payment
from easypay.payments.flows import (
    Payments,
    Reply,
    first_reply,
    login_of,
    present_state,
    reply_or_operation,
)
from easypay.payments.model import Kind, Operation, Payment, State, Status
from easypay.payments.queue_acceptance import QueuedPayment
from easypay.payments.queue_rows import Link
from easypay.payments.queued_requests import seal_request
from easypay.payments.refusals import why_not
from easypay.payments.requests import AcceptTokenMethod, CreatePayment, StoredPaymentMethod
from easypay.payments.restored import refuse_repeated_charge, refuse_repeated_refund
from easypay.payments.stored_methods import StoredMethods
from easypay.payments.views import body_of, payment_view

PAYMENT_LIVES_S: Final = 900.0
"""How long a payment may wait to be sent. An Accept.js token is dead 15 minutes after it was made,
and it was made before it came here."""
_OVER: Final = (Status.DECLINED, Status.FAILED, Status.VOIDED, Status.EXPIRED)
"""Statuses of payments that allow nothing any more."""

_NOT_QUEUED: Final = FieldError(
    "#/payment_method/type",
    "cannot_be_queued",
    "payment_method.type must be accept_token or stored with Prefer: respond-async: a card or bank "
    "account is never stored, so it cannot wait in a queue. Send a token or the id of a stored "
    "method, or leave the header out.",
)
_CVC_NOT_QUEUED: Final = FieldError(
    "#/payment_method/stored/cvc",
    "cannot_be_queued",
    "payment_method.stored.cvc cannot wait in a queue: a card code is never stored. Leave it out, "
    "or leave the header Prefer: respond-async out.",
)


def _cannot_wait(body: CreatePayment) -> FieldError | None:
    """Return why a payment cannot wait in the queue; None if it can."""
    method = body.payment_method
    if isinstance(method, AcceptTokenMethod):
        return None
    if isinstance(method, StoredPaymentMethod):
        return None if method.stored.cvc is None else _CVC_NOT_QUEUED
    return _NOT_QUEUED


class Queueing:
    """The acceptance of requests. One per process. `link` returns the trace of the request, from
    which the trace of its sending shall be found.

    Each method returns None if the request must run at once after all: its operation was begun by
    an earlier request, and proven never sent.
    """

    def __init__(
        self,
        *,
        committer: GroupCommitter[QueuedPayment, bool],
        payments: Payments,
        pool: Any,
        stored: StoredMethods,
        card_fingerprint: Callable[[str], bytes],
        link: Callable[[], Link | None] = lambda: None,
    ) -> None:
        self._room = stored.room
        self._committer = committer
        self._payments = payments
        self._pool = pool
        self._stored = stored
        self._box = stored.box
        self._card_fingerprint = card_fingerprint
        self._link = link

    async def create(self, ask: Ask, body: CreatePayment) -> Reply | None:
        """Accept a payment: 202, `pending`. The body is validated.

        Raises ValidationFailed for a card or bank account and for a stored method that cannot be
        used, and Overloaded or TooManyQueued if the queue is full, before anything is written.
        """
        method = None
        try:
            if (why_not_queued := _cannot_wait(body)) is not None:
                raise ValidationFailed.of([why_not_queued])
            if isinstance(body.payment_method, StoredPaymentMethod):
                ask, method = await self._stored.chosen(ask, body)
        except ValidationFailed:
            # The same request may have been answered before: then that stands.
            first = await first_reply(self._pool, ask)
            if first is None:
                raise
            return first
        if ask.caller.login is None:
            first = await first_reply(self._pool, ask)
            if first is not None:
                return first
        processor = login_of(ask.caller).account.processor
        new = new_payment(ask, body, processor, self._card_fingerprint, clock.now(), method)
        if ask.caller.restored:
            await refuse_repeated_charge(self._pool, ask, new.payment)
        payment = msgspec.structs.replace(new.payment, status=Status.PENDING)
        operation = msgspec.structs.replace(new.operation, state=State.QUEUED)
        item = QueuedPayment(
            msgspec.structs.replace(new, payment=payment, operation=operation),
            seal_request(self._box, body, operation.id),
            PAYMENT_LIVES_S,
            ids.new_id(),
            self._link(),
        )
        merchant_id, accepted = ask.caller.merchant_id, False
        try:
            await self._room.take(merchant_id)
        except (Overloaded, TooManyQueued):
            if await store.find_key(self._pool, merchant_id, ask.caller.mode, ask.key) is None:
                raise
            return await self._earlier(ask, operation.id)
        try:
            accepted = await self._committer.submit(item)
        finally:
            if not accepted:
                self._room.give_back(merchant_id)
        if accepted:
            return accepted_reply(operation, payment)
        return await self._earlier(ask, operation.id)

    async def follow(
        self, ask: Ask, kind: Kind, payment_id: UUID, amount: int | None, version: int | None
    ) -> Reply | None:
        """Accept an operation of a payment. What the payment allows is decided when it is sent.

        Raises the reason if the payment can never allow it again, and Overloaded or TooManyQueued
        if the queue is full. A void of a payment that was not sent is done at once, all the same.
        """
        intent = new_follow_up(ask, kind, payment_id, amount, version, clock.now())
        use = await store.find_key(self._pool, intent.merchant_id, intent.mode, ask.key)
        if use is not None:
            return await self._earlier(ask, intent.operation_id)
        payment = await self._payments.get(ask.caller, payment_id)
        if ask.caller.restored and kind is Kind.REFUND and amount is not None:
            await refuse_repeated_refund(self._pool, ask, payment_id, amount)
        if kind is Kind.VOID:
            cancelled = await self._payments.cancel_queued(ask, intent)
            if cancelled is not None:
                return cancelled
        changed = version not in (None, payment.version)
        if changed or (payment.status in _OVER and payment.active_operation is None):
            # If it has changed, waiting for what is in progress does not help.
            raise why_not(
                msgspec.structs.replace(payment, active_operation=None), kind, amount, version
            )
        await self._room.take(intent.merchant_id)
        accepted = False
        try:
            accepted = await queue_acceptance.enqueue_follow_up(self._pool, intent, self._link())
        finally:
            if not accepted:
                self._room.give_back(intent.merchant_id)
        if not accepted:
            return await self._earlier(ask, intent.operation_id)
        operation = await store.find_operation(self._pool, intent.merchant_id, intent.operation_id)
        if operation is None:
            raise NotFound(f"there is no payment {ids.typed(ids.PAYMENT, payment_id)}")
        return await present_state(self._pool, operation)

    async def _earlier(self, ask: Ask, operation_id: UUID) -> Reply | None:
        """Return the answer to an earlier request with this key. Raises IdempotencyKeyReused."""
        use = await store.find_key(self._pool, ask.caller.merchant_id, ask.caller.mode, ask.key)
        if use is not None and use.fingerprint == ask.fingerprint:
            operation = use.operation
            if operation.reply_status is None:
                if operation.state is State.NOT_SENT:
                    return None
                return await present_state(self._pool, operation)
        reply = await reply_or_operation(self._pool, ask, operation_id, use)
        assert isinstance(reply, Reply), "an operation without a reply is handled above"
        return reply


def accepted_reply(operation: Operation, payment: Payment) -> Reply:
    """Return the answer to a payment that was accepted just now."""
    return Reply(
        status=202,
        body=body_of(payment_view(payment)),
        payment_id=payment.id,
        operation_id=operation.id,
        queued=operation.kind,
    )
