"""Payments with a stored payment method: which method and account, and what the processor knows.

`flows` begins a payment in the statement that finds the method (`stored_begin`); `queueing`, and
whatever needs more checks, look it up before. A worker looks again before it sends, as the method
may have been deleted while the payment waited.

For a minute a processor may not know a method that it has just stored. A payment with it is then
answered as if there were no such method: nothing began, so it may be sent again. That is done until
the request's deadline; then the payment is left to the queue, and the shop is answered 202. No
other answer allows a second send.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.customers import after_payments
from easypay.customers.paying import (
    METHODS_OF_I,
    PAYABLE_COLUMNS,
    NotPayable,
    PayableMethod,
    PaymentMethodGone,
    PaymentMethodNotFound,
    payable_of,
)
from easypay.db.connections import LOST
from easypay.db.group_commit import GroupCommitter
from easypay.errors import (
    EasyPayError,
    FieldError,
    ProcessorUnavailable,
    ValidationFailed,
)
from easypay.merchants.model import Login
from easypay.merchants.vault import Box, VaultError
from easypay.mode import Mode
from easypay.payments import queue_rows
from easypay.payments.begin import Ask, NewPayment, new_payment
from easypay.payments.model import Operation
from easypay.payments.queue_room import QueueRoom
from easypay.payments.queued_requests import seal_request
from easypay.payments.requests import CreatePayment, StoredPaymentMethod, without_cvc
from easypay.payments.statements import Statement
from easypay.payments.stored_begin import filled, found_in, is_usual, not_read_yet
from easypay.processors.base import (
    Approved,
    AuthorizeRequest,
    Deadline,
    NotSent,
    Outcome,
    Processor,
    Rejected,
)

log = logging.getLogger(__name__)

NEW_FOR_S: Final = 120.0
"""How long a payment waits for the processor to know a method, from when it was stored: twice as
long as the processor says that it takes."""
WAITS_IN_QUEUE_S: Final = 180.0
"""How long a payment that was left to the queue may wait: until the method is new no more, and for
some attempts after that."""
_UNKNOWN_METHOD: Final = "stored_method_not_found"
"""The decline code of a payment whose method the processor does not know."""
NOT_KNOWN_YET: Final = NotSent(reason="the processor does not know the payment method yet")
"""The outcome of a payment that is to be left to the queue."""

_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 2.0
_LEAST_CALL_S: Final = 1.0
"""No call begins with less time than this before its deadline."""
_AT: Final = "#/payment_method/stored"


class MethodKey(NamedTuple):
    """Identifies a stored method."""

    merchant_id: UUID
    mode: Mode
    method_id: UUID


_LOOK_UP: Final = f"""
    SELECT {PAYABLE_COLUMNS}, i.place
      FROM unnest($1::uuid[], $2::text[], $3::uuid[])
           WITH ORDINALITY AS i(merchant_id, mode, payment_method_id, place)
         {METHODS_OF_I}
"""


def _look_up_arguments(items: Sequence[MethodKey]) -> Sequence[object]:
    """Return one list per column."""
    return [[key[n] for key in items] for n in range(3)]


def _look_up_results(
    items: Sequence[MethodKey], rows: list[asyncpg.Record]
) -> Sequence[tuple[Any, ...] | None]:
    """Return for each item the columns that `payable_of` reads, or None."""
    found: list[tuple[Any, ...] | None] = [None] * len(items)
    for *columns, place in rows:
        found[place - 1] = tuple(columns)
    return found


LOOK_UP: Final = Statement[MethodKey, tuple[Any, ...] | None](
    "stored-method",
    _LOOK_UP,
    _look_up_arguments,
    _look_up_results,
    order=lambda key: key.method_id,
    touches=lambda key: (),
    months=lambda key: (),
)
"""The methods of many payments in one read: one by one, each would take longer than all that its
gateway does with the payment."""


class StoredMethods:
    """What payments need of stored methods. One per process."""

    def __init__(
        self,
        *,
        lookups: GroupCommitter[MethodKey, Any],
        begin: GroupCommitter[NewPayment, Any],
        pool: Any,
        login_of: Callable[[UUID, UUID], Awaitable[Login | None]],
        card_fingerprint: Callable[[str], bytes],
        box: Box,
        room: QueueRoom,
    ) -> None:
        self._lookups = lookups
        self._begin = begin
        self._card_fingerprint = card_fingerprint
        self.pool = pool
        self.box = box
        self.room = room
        self._login_of = login_of

    async def begin(self, ask: Ask, body: CreatePayment) -> "StoredCharge | None":
        """Begin the payment in the statement that finds its method.

        None: nothing was written, because more is to be checked, the method cannot be used, the key
        was used, or the answer to this same begin was lost.
        """
        started, caller, method = monotonic(), ask.caller, body.payment_method
        if not is_usual(caller, body):
            return None
        assert isinstance(method, StoredPaymentMethod)
        assert caller.login is not None
        method_id, processor = method_id_of(method), caller.login.account.processor
        unread = not_read_yet(method_id, caller.login.id, processor)
        new = new_payment(ask, body, processor, self._card_fingerprint, clock.now(), unread)
        row = await self._begin.submit(new)
        if row is None:
            return None
        found = found_in(row, unread)
        return StoredCharge(self, ask, body, found, (filled(new, found), started))

    async def chosen(self, ask: Ask, body: CreatePayment) -> tuple[Ask, PayableMethod]:
        """Return the method that the body names, in one read, and the request with the account that
        stored it: no other account can charge it, whichever takes new payments today.

        Raises ValidationFailed if the merchant has no such method in this mode or it cannot be
        used, and ProcessorUnavailable if its account cannot be used.
        """
        assert isinstance(body.payment_method, StoredPaymentMethod)
        named = body.payment_method.stored
        caller = ask.caller
        method_id = method_id_of(body.payment_method)
        row = await self._lookups.submit(MethodKey(caller.merchant_id, caller.mode, method_id))
        try:
            method = payable_of(row, method_id)
        except (PaymentMethodNotFound, PaymentMethodGone) as gone:
            unknown = isinstance(gone, PaymentMethodNotFound)
            code = "unknown_payment_method" if unknown else "unusable_payment_method"
            raise ValidationFailed.of([FieldError(f"{_AT}/id", code, gone.detail)]) from None
        errors = _broken_rules(body, method, named.cvc)
        if errors:
            raise ValidationFailed.of(errors)
        login = caller.login
        if login is None or login.id != method.login_id:
            login = await self._account_of(caller.merchant_id, method)
            ask = replace(ask, caller=replace(caller, login=login, login_unusable=""))
        return ask, method

    async def look_again(self, merchant_id: UUID, mode: Mode, method: PayableMethod) -> None:
        """Raise NotPayable if a method was deleted since it was read."""
        row = await self._lookups.submit(MethodKey(merchant_id, mode, method.method_id))
        payable_of(row, method.method_id)

    async def _account_of(self, merchant_id: UUID, method: PayableMethod) -> Login:
        why = "it is not known any more"
        try:
            login = await self._login_of(merchant_id, method.login_id)
        except VaultError as error:
            login, why = None, str(error)
        if login is None:
            shown = ids.typed(ids.PAYMENT_METHOD, method.method_id)
            raise ProcessorUnavailable(
                f"The processor account that stored {shown} cannot be used: {why} Nothing was "
                "sent. After the operator has corrected that, repeat the request with the same "
                "Idempotency-Key."
            )
        return login


def method_id_of(method: StoredPaymentMethod) -> UUID:
    """Return the id of the method that a request names. The request's type has checked its form."""
    found = ids.parse(ids.PAYMENT_METHOD, method.stored.id)
    assert found is not None, "the pattern of the field allows no other text"
    return found


def _broken_rules(body: CreatePayment, method: PayableMethod, cvc: str | None) -> list[FieldError]:
    """Return what in the body does not fit the method."""
    errors = []
    if method.type == "bank_account":
        if body.stored_credential is not None:
            why = "stored_credential is for cards; leave it out for a bank account."
            errors.append(FieldError("#/stored_credential", "contradiction", why))
        if cvc is not None:
            why = "payment_method.stored.cvc is for cards; leave it out for a bank account."
            errors.append(FieldError(f"{_AT}/cvc", "contradiction", why))
    elif (
        cvc is not None and method.brand is not None and (len(cvc) == 4) != (method.brand == "amex")
    ):
        why = "payment_method.stored.cvc must have 4 digits for American Express, 3 for all others."
        errors.append(FieldError(f"{_AT}/cvc", "invalid_cvc", why))
    return errors


# the call ---------------------------------------------------------------------------------------


def if_known(outcome: Outcome, method: PayableMethod) -> Outcome:
    """Return the outcome, or NOT_KNOWN_YET if it only says that the processor does not know a new
    method. Such an answer proves that nothing began; a missing answer would not."""
    if not _denies(outcome):
        return outcome
    age_s = clock.now().timestamp() - method.stored_at_ms / 1000
    return NOT_KNOWN_YET if age_s < NEW_FOR_S else outcome


def _denies(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.decline_code == _UNKNOWN_METHOD


class StoredCharge:
    """One payment with a stored method, from its begin to its outcome."""

    def __init__(
        self,
        methods: StoredMethods,
        ask: Ask,
        body: CreatePayment,
        method: PayableMethod,
        begun: tuple[NewPayment, float] | None = None,
    ) -> None:
        self.method = method
        self.begun = begun
        """The payment if it has begun, and when its request came (monotonic)."""
        self._methods = methods
        self._merchant_id = ask.caller.merchant_id
        self._mode = ask.caller.mode
        self._body = body
        self._outcome: Outcome | None = None

    async def authorize(
        self, processor: Processor, request: AuthorizeRequest, deadline: Deadline
    ) -> Outcome:
        """Send the payment; again while the processor says that it does not know the new method.
        NOT_KNOWN_YET if there is no time left for that. A method that was deleted meanwhile is sent
        no more: then that answer is the outcome."""
        pause_s = _FIRST_PAUSE_S
        while True:
            answer = await processor.authorize(request, deadline)
            self._outcome = outcome = if_known(answer, self.method)
            if outcome is not NOT_KNOWN_YET:
                return outcome
            if deadline.left(monotonic()) < pause_s + _LEAST_CALL_S:
                return outcome
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                await self._methods.look_again(self._merchant_id, self._mode, self.method)
            except NotPayable:
                return answer
            except (*LOST, asyncpg.PostgresError, EasyPayError):
                return outcome  # a worker looks again

    async def queue(self, operation: Operation) -> bool:
        """Leave the payment to the queue, without its card code, which may not be stored. False if
        there is no room, or the operation is not in flight any more."""
        methods, method = self._methods, self._body.payment_method
        assert isinstance(method, StoredPaymentMethod)
        try:
            await methods.room.take(self._merchant_id)
        except EasyPayError:
            return False
        queued = False
        try:
            sealed = seal_request(methods.box, without_cvc(self._body, method), operation.id)
            queued = await queue_rows.queue_begun(
                methods.pool, operation, sealed, WAITS_IN_QUEUE_S, NOT_KNOWN_YET.reason
            )
        except (*LOST, asyncpg.PostgresError) as error:
            log.warning("payment %s cannot be queued: %s", operation.reference, error)
        finally:
            if not queued:
                methods.room.give_back(self._merchant_id)
        return queued

    async def learn(self) -> None:
        """Let the method keep what the recorded outcome says about it."""
        if self._outcome is not None:
            await learn(
                self._methods.pool, self._merchant_id, self._mode, self.method, self._outcome
            )


# afterwards -------------------------------------------------------------------------------------


async def learn(
    runner: Any, merchant_id: UUID, mode: Mode, method: PayableMethod, outcome: Outcome
) -> None:
    """Let a method keep the network's id of its first payment, or note that the processor denies
    it. The payment's outcome is recorded, so a failure is only logged."""
    try:
        if isinstance(outcome, Approved):
            network_id = outcome.network_transaction_id
            if network_id is not None and method.network_transaction_id is None:
                await after_payments.remember_network_transaction(
                    runner, merchant_id, mode, method.method_id, network_id
                )
        elif _denies(outcome):
            log.warning(
                "payment method %s is not known to the processor any more",
                ids.typed(ids.PAYMENT_METHOD, method.method_id),
            )
            await after_payments.needs_mending(runner, merchant_id, mode, method.method_id, _DENIED)
    except (*LOST, asyncpg.PostgresError, EasyPayError) as error:
        log.warning(
            "what a payment said about %s was not kept: %s",
            *(ids.typed(ids.PAYMENT_METHOD, method.method_id), error),
        )


_DENIED: Final = "the processor answered a payment that it does not know the method"
