"""Customers and their stored methods: write the intent, call the vault, record what it answered.

    store      `making` is committed -> the vault stores it -> `active` or `failed` is recorded
    change     what is wanted is committed -> the vault changes it -> recorded
    delete     `deleting` is committed -> the vault deletes it -> `deleted` is recorded

No connection and no lock is held during a call. If this process dies, or no clear answer comes, the
row stays as it is, and `mending` ends it: it finds out what the vault has, and asks again where
that does no harm. Nothing here moves money.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, assert_never
from uuid import UUID

import msgspec

from easypay import failpoints
from easypay.customers import method_changes, method_rows, store, vault_work
from easypay.customers.method_rows import Begun
from easypay.customers.model import (
    Asked,
    Customer,
    CustomerFields,
    Failure,
    FromPayment,
    Method,
    MethodChange,
    MethodKey,
    NewMethod,
    State,
    key_of,
)
from easypay.customers.refusals import why_failed
from easypay.customers.store import CustomerChange
from easypay.customers.vault_calls import NOT_SHOWN, SOON_S, VaultCalls, ids_of
from easypay.db.failures import is_passing
from easypay.errors import (
    InvalidState,
    ProcessorAccountRefused,
    ProcessorUnavailable,
)
from easypay.merchants.model import Login
from easypay.mode import Mode
from easypay.processors.base import Account, Deadline
from easypay.processors.customer_vault import (
    CustomerVault,
    FoundProfile,
    StoreAnswer,
    Stored,
    StoreFromTransactionRequest,
    StoreRequest,
    VaultDone,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_ROOM: Final = ("profile_full", "profile_not_found")
"""Refusals of a profile, not of the method: another profile takes it."""


class MethodRefused(Exception):
    """The processor refused to change a stored payment method."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(why_failed(failure))
        self.failure = failure


class Kept(msgspec.Struct, frozen=True):
    """What came of a request to store a method. `replayed`: it repeats an earlier request.
    `existed`: the customer had the same card already, and `method` is that one."""

    method: Method
    replayed: bool = False
    existed: bool = False


class Validity(msgspec.Struct, frozen=True):
    """What the issuer says of a stored card. `valid` None: nobody answered."""

    valid: bool | None
    failure: Failure | None = None
    reason: str | None = None


class Customers:
    """The flows. One per process. `changed` is called after each commit with the customer whose
    methods were changed."""

    def __init__(
        self,
        calls: VaultCalls,
        *,
        changed: Callable[[UUID, Mode, UUID], None] = lambda *_: None,
    ) -> None:
        self._calls = calls
        self._pool = calls.pool
        self._changed = changed
        self._running = 0
        self._quiet = asyncio.Event()

    async def drain(self) -> None:
        """Wait for every running flow, so that none stops between its call and its record."""
        while self._running:
            self._quiet.clear()
            await self._quiet.wait()

    async def _run(self, flow: Coroutine[Any, Any, T]) -> T:
        self._running += 1
        try:
            return await flow
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    # customers -----------------------------------------------------------------------------------

    async def create(self, asked: Asked, fields: CustomerFields) -> tuple[Customer, bool]:
        """Create a customer; see `store.create`."""
        async with self._pool.acquire() as connection:
            return await store.create(connection, asked, fields)

    async def update(
        self,
        merchant_id: UUID,
        mode: Mode,
        customer_id: UUID,
        change: CustomerChange,
        version: int | None,
    ) -> Customer:
        """Change a customer; see `store.update`."""
        async with self._pool.acquire() as connection:
            customer = await store.update(
                connection, merchant_id, mode, customer_id, change, version
            )
        self._changed(merchant_id, mode, customer_id)
        return customer

    async def delete(
        self, merchant_id: UUID, mode: Mode, customer_id: UUID, version: int | None
    ) -> None:
        """Delete a customer with its methods, here and at the processor. It is deleted for the shop
        when this returns; what the processor has not confirmed a worker repeats."""
        await self._run(self._delete(merchant_id, mode, customer_id, version))

    async def _delete(
        self, merchant_id: UUID, mode: Mode, customer_id: UUID, version: int | None
    ) -> None:
        async with self._pool.acquire() as connection:
            _, profiles = await store.delete(
                connection, merchant_id, mode, customer_id, version, self._calls.recorded_within_s
            )
        self._changed(merchant_id, mode, customer_id)
        failpoints.reach("customer_deleting")
        await self._calls.delete_profiles(merchant_id, mode, profiles)

    # storing a method ----------------------------------------------------------------------------

    async def store(self, asked: Asked, customer_id: UUID, login: Login, new: NewMethod) -> Kept:
        """Store a payment method of a customer in the vault of the account `login`. It is `active`,
        or `making` if no clear answer came, or `failed`. A repeat gets what its key has made.

        Raises NotFound, IdempotencyKeyReused and ValidationFailed; and ProcessorUnavailable or
        ProcessorAccountRefused if nothing was sent: then the key is unused.
        """
        return await self._run(self._store(asked, customer_id, login, new))

    async def first_kept(self, asked: Asked) -> Kept | None:
        """Return what a request to store a method has made before. None if its key is unused.
        Raises IdempotencyKeyReused."""
        async with self._pool.acquire() as connection:
            method = await method_rows.made_by(connection, asked)
            return None if method is None else await _kept_again(connection, method)

    async def _store(self, asked: Asked, customer_id: UUID, login: Login, new: NewMethod) -> Kept:
        vault = self._calls.vault(login.account.processor)
        # From before the intent: if this process is stopped in between and goes on when the method
        # has been called absent, nothing is sent any more.
        deadline = self._calls.deadline()
        async with self._pool.acquire() as connection:
            begun = await method_rows.begin_once(
                connection,
                asked,
                customer_id,
                *(login.id, login.account.processor, new, self._calls.recorded_within_s),
            )
            if isinstance(begun, Method):
                return await _kept_again(connection, begun)
            customer = await store.get(connection, asked.merchant_id, asked.mode, customer_id)
        failpoints.reach("method_begun")
        answer = await self._ask_to_store(vault, login.account, customer, begun, new, deadline)
        failpoints.reach("method_answered")
        if (
            isinstance(answer, VaultRefused)
            and answer.word in _NO_ROOM
            and begun.profile.customer_profile_id is not None
        ):
            deadline = self._calls.deadline()
            begun = await self._to_new_profile(begun, full=answer.word == "profile_full")
            if begun.method.state is State.MAKING:  # else a worker has ended it meanwhile
                answer = await self._ask_to_store(
                    vault, login.account, customer, begun, new, deadline
                )
        if isinstance(answer, Stored):
            answer = await self._with_details(vault, login.account, answer)
        method = await self._record_stored(key_of(begun.method), answer)
        self._changed(method.merchant_id, method.mode, method.customer_id)
        failpoints.reach("method_recorded")
        return Kept(method, existed=method.id != begun.method.id)

    async def _to_new_profile(self, begun: Begun, *, full: bool) -> Begun:
        """Let a method go into a new profile. If the vault does not know the one before, although
        that is old, somebody has deleted it there."""
        before, method = begun.profile, begun.method
        is_gone = not full and not await self._calls.is_young(before.made_at)
        async with self._pool.acquire() as connection:
            moved = await method_rows.to_new_profile(
                connection, begun, self._calls.recorded_within_s, full=full
            )
            if is_gone:
                log.warning("profile %s was deleted at the processor", before.id)
                await method_rows.record_profile_gone(
                    connection, method.merchant_id, method.mode, before.id
                )
        return moved

    def _ask_to_store(
        self,
        vault: CustomerVault,
        account: Account,
        customer: Customer,
        begun: Begun,
        new: NewMethod,
        deadline: Deadline,
    ) -> Awaitable[StoreAnswer]:
        profile = begun.profile
        if isinstance(new.pay_with, FromPayment):
            return vault.store_from_transaction(
                StoreFromTransactionRequest(
                    account=account,
                    reference=profile.reference,
                    customer_profile_id=profile.customer_profile_id,
                    transaction_id=new.pay_with.transaction_id,
                    email=customer.email,
                ),
                deadline,
            )
        return vault.store(
            StoreRequest(
                account=account,
                reference=profile.reference,
                customer_profile_id=profile.customer_profile_id,
                method=new.pay_with,
                email=customer.email,
                billing_address=new.billing_address,
                validate=new.validate,
            ),
            deadline,
        )

    async def _with_details(self, vault: CustomerVault, account: Account, stored: Stored) -> Stored:
        """Ask for what the answer did not tell: of a token, the brand, digits and expiry. If that
        fails, the method is stored all the same."""
        found = stored.method
        if found.last4 is not None and (found.type != "card" or found.exp_year is not None):
            return stored
        shown = await vault.show_profile(
            account, found.ids.customer_profile_id, self._calls.deadline()
        )
        if isinstance(shown, FoundProfile):
            for each in shown.methods:
                if each.ids == found.ids:
                    return Stored(method=each, existed=stored.existed)
        return stored

    async def _record_stored(self, key: MethodKey, answer: StoreAnswer) -> Method:
        """Record what the vault answered, and return what the shop is to see. Raises the reason if
        nothing was stored."""
        async with self._pool.acquire() as connection:
            match answer:
                case Stored():
                    method = await method_rows.record_stored(connection, key, answer.method)
                case VaultRefused():
                    method = await method_rows.record_failed(
                        connection, key, failure_of(answer), told=True
                    )
                case VaultNotSent():
                    await method_rows.forget(connection, key)
                    raise not_sent(answer)
                case VaultUnknown():
                    log.warning("method %s may be stored or not: %s", key.id, answer.reason)
                    await vault_work.begin(connection, "method", *method_rows.of(key), SOON_S)
                    return await store.get_method(connection, key.merchant_id, key.mode, key.id)
                case _:
                    assert_never(answer)
            return await method_rows.shown(connection, method)

    # what is stored ------------------------------------------------------------------------------

    async def delete_method(
        self, merchant_id: UUID, mode: Mode, method_id: UUID, version: int | None
    ) -> None:
        """Delete a stored method, here and at the processor. It is deleted for the shop when this
        returns; what the processor has not confirmed a worker repeats.

        Raises NotFound, PreconditionFailed, and RequestInProgress while it is being stored.
        """
        await self._run(self._delete_method(merchant_id, mode, method_id, version))

    async def _delete_method(
        self, merchant_id: UUID, mode: Mode, method_id: UUID, version: int | None
    ) -> None:
        async with self._pool.acquire() as connection:
            method = await method_rows.delete(
                connection, merchant_id, mode, method_id, version, self._calls.recorded_within_s
            )
        self._changed(merchant_id, mode, method.customer_id)
        failpoints.reach("method_deleting")
        if method.state is State.DELETING:
            try:
                await self._calls.delete_method(method)
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("a worker has to delete method %s: %s", method_id, error)

    async def change(
        self,
        merchant_id: UUID,
        mode: Mode,
        method_id: UUID,
        change: MethodChange,
        version: int | None,
        *,
        default: bool = False,
    ) -> tuple[Method, bool]:
        """Change a stored method at the processor, and make it its customer's default (`default`).
        Return it, and whether all is done: if no clear answer came, a worker repeats the change.

        Raises NotFound, PreconditionFailed, MethodRefused, and what says that nothing was sent.
        """
        flow = self._change(merchant_id, mode, method_id, change, version, default=default)
        return await self._run(flow)

    async def _change(
        self,
        merchant_id: UUID,
        mode: Mode,
        method_id: UUID,
        change: MethodChange,
        version: int | None,
        *,
        default: bool,
    ) -> tuple[Method, bool]:
        deadline = self._calls.deadline()  # from before the intent, as in `_store`
        async with self._pool.acquire() as connection:
            method, is_to_be_sent = await method_changes.want(
                connection,
                *(merchant_id, mode, method_id, change, version, self._calls.recorded_within_s),
                default=default,
            )
        self._changed(merchant_id, mode, method.customer_id)
        if not is_to_be_sent:
            return method, change == MethodChange()
        answer = await self._calls.change_method(method, deadline)
        self._changed(merchant_id, mode, method.customer_id)
        match answer:
            case VaultDone():
                pass
            case VaultRefused():
                raise MethodRefused(failure_of(answer))
            case VaultNotSent():
                raise not_sent(answer)
            case VaultUnknown():
                pass
            case _:
                assert_never(answer)
        found = await store.get_method(self._pool, merchant_id, mode, method_id)
        return found, isinstance(answer, VaultDone)

    async def validate(
        self, merchant_id: UUID, mode: Mode, method_id: UUID, cvc: str | None
    ) -> Validity:
        """Let the processor ask the issuer whether a stored card is good. Raises NotFound, and
        InvalidState if it is not active."""
        return await self._run(self._validate(merchant_id, mode, method_id, cvc))

    async def _validate(
        self, merchant_id: UUID, mode: Mode, method_id: UUID, cvc: str | None
    ) -> Validity:
        method = await store.get_method(self._pool, merchant_id, mode, method_id)
        if method.state is not State.ACTIVE:
            raise InvalidState(
                f"The payment method is {method.state}: only an active one can be validated."
            )
        account = await self._calls.account_of(merchant_id, method.login_id)
        if account is None:
            return Validity(None, reason="The processor account cannot be used just now.")
        vault = self._calls.vault(method.processor)
        answer = await vault.validate(account, ids_of(method), cvc, self._calls.deadline())
        match answer:
            case VaultDone():
                return Validity(True)
            case VaultRefused():
                if await self._calls.may_still_come(answer, method.stored_at):
                    return Validity(None, reason=f"Nobody was asked: {NOT_SHOWN}.")
                if answer.word == "method_not_found":
                    async with self._pool.acquire() as connection:
                        await method_rows.record_gone(connection, key_of(method))
                    self._changed(merchant_id, mode, method.customer_id)
                return Validity(False, failure_of(answer))
            case VaultNotSent() | VaultUnknown():
                return Validity(None, reason=f"Nobody answered: {answer.reason}. Ask again later.")
            case _:
                assert_never(answer)


async def _kept_again(connection: Any, method: Method) -> Kept:
    shown = await method_rows.shown(connection, method)
    return Kept(shown, replayed=True, existed=method.same_as is not None)


def failure_of(refused: VaultRefused) -> Failure:
    """Return why the vault refused, as it is kept."""
    return Failure(refused.word, refused.code, refused.message, refused.retry, refused.decline_code)


def not_sent(answer: VaultNotSent) -> ProcessorUnavailable | ProcessorAccountRefused:
    """Return the error for a call that is proven to have started nothing."""
    refusal = answer.account_refusal
    if refusal is not None:
        return ProcessorAccountRefused(
            f"The processor refused the merchant's account: {refusal.code} {refusal.message} "
            "Nothing was stored. When the operator has corrected it, repeat the request."
        )
    return ProcessorUnavailable(
        f"The processor cannot be reached: {answer.reason}. Nothing was sent. Repeat the request, "
        "with the same Idempotency-Key if it has one."
    )
