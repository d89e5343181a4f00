"""Calls to the vault about what rows say, each with the record of what it answered.

Requests (`flows`, `erasure`) make them at once, and a worker (`mending`) again where no clear
answer came. Each may be made twice. `ends_work`: the caller does not hold the row of the work list.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, assert_never
from uuid import UUID

import msgspec

from easypay import failpoints
from easypay.clock import monotonic
from easypay.customers import method_changes, method_rows, profile_rows, vault_work
from easypay.customers.model import Method, MethodChange, Profile, key_of
from easypay.db.failures import is_passing
from easypay.errors import ProcessorNotSetUp
from easypay.merchants.model import Login
from easypay.merchants.vault import VaultError
from easypay.mode import Mode
from easypay.processors.base import Account, Deadline, Processor
from easypay.processors.customer_vault import (
    NEW_FOR_S,
    ChangeAnswer,
    CustomerVault,
    FindAnswer,
    FoundProfile,
    MethodIds,
    NoProfile,
    UpdateRequest,
    VaultDone,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
    vault_of,
)

log = logging.getLogger(__name__)

Vaults = Callable[[str], CustomerVault]
"""Returns the vault of a processor, by its name. Raises ProcessorNotSetUp if it has none."""
LoginOf = Callable[[UUID, UUID], Awaitable[Login | None]]

GRACE_S: Final = 15.0
"""How long after a call's deadline a worker looks after what was not recorded, in seconds."""
SOON_S: Final = 2.0
"""How soon a worker looks after a call whose answer was not clear, in seconds."""
NOT_SHOWN: Final = "the processor does not show the new payment method yet; ask in a minute"
_IS_YOUNG: Final = "SELECT db_now() < $1::timestamptz + make_interval(secs => $2)"
_NOT_FOUND: Final = ("method_not_found", "profile_not_found")


class VaultCalls:
    """The calls. One per process."""

    def __init__(self, *, pool: Any, vaults: Vaults, login_of: LoginOf, deadline_s: float) -> None:
        self.pool = pool
        self.vault = vaults
        self._login_of = login_of
        self.deadline_s = deadline_s
        self.recorded_within_s = 2 * deadline_s + GRACE_S
        """Within it an intent is recorded, unless this process dies: a call may be made twice."""

    def deadline(self) -> Deadline:
        """Return the deadline of a call that begins now."""
        return Deadline(monotonic() + self.deadline_s)

    async def account_of(self, merchant_id: UUID, login_id: UUID) -> Account | None:
        """Return the account that stored something. None if it cannot be used just now."""
        try:
            login = await self._login_of(merchant_id, login_id)
        except VaultError as error:
            log.error("a processor account of stored payment methods cannot be opened: %s", error)
            return None
        return None if login is None else login.account

    async def may_still_come(self, answer: ChangeAnswer, stored_at: datetime | None) -> bool:
        """Whether the vault knew nothing of it, and may only not know it yet."""
        if isinstance(answer, VaultDone):
            unknown_there = answer.was_gone
        else:
            unknown_there = isinstance(answer, VaultRefused) and answer.word in _NOT_FOUND
        return unknown_there and await self.is_young(stored_at)

    async def is_young(self, stored_at: datetime | None) -> bool:
        """Whether the vault may not show yet what it stored then."""
        return bool(await self.pool.fetchval(_IS_YOUNG, stored_at, NEW_FOR_S))

    async def delete_profiles(
        self, merchant_id: UUID, mode: Mode, profiles: Sequence[UUID]
    ) -> None:
        """Delete profiles of a deleted customer at the processor; a worker repeats what fails."""
        for profile_id in profiles:
            try:
                if not await self.delete_profile(merchant_id, mode, profile_id):
                    break  # the processor does not answer: a worker goes on
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("a worker has to delete profile %s: %s", profile_id, error)
                break

    async def delete_profile(
        self, merchant_id: UUID, mode: Mode, profile_id: UUID, *, ends_work: bool = True
    ) -> bool:
        """Delete a profile at the processor, and record that. False if no clear answer came."""
        profile = await profile_rows.get(self.pool, merchant_id, mode, profile_id)
        account = await self.account_of(merchant_id, profile.login_id)
        if account is None or not await self._is_deleted(profile, account):
            return False
        async with self.pool.acquire() as connection:
            await method_rows.record_profile_gone(
                connection, merchant_id, mode, profile_id, ends_work=ends_work
            )
        return True

    async def _is_deleted(self, profile: Profile, account: Account) -> bool:
        """Delete what the processor has of a profile. False if something may be left."""
        named = profile.customer_profile_id
        if named is None:  # its creation was not answered
            found = await self.look_at(profile, account)
            if not isinstance(found, FoundProfile):
                return isinstance(found, NoProfile)
            named = found.customer_profile_id
        answer = await self.vault(profile.processor).delete_profile(account, named, self.deadline())
        failpoints.reach("profile_gone")
        if _is_gone(answer) and not await self.may_still_come(answer, profile.made_at):
            return True
        log.info("profile %s is not deleted yet: %s", profile.id, _told(answer))
        return False

    async def look_at(self, profile: Profile, account: Account) -> FindAnswer:
        """Ask the vault for a profile: by our reference if its own id is not known."""
        vault = self.vault(profile.processor)
        if profile.customer_profile_id is None:
            return await vault.find_profile(account, profile.reference, self.deadline())
        return await vault.show_profile(account, profile.customer_profile_id, self.deadline())

    async def delete_method(self, method: Method, *, ends_work: bool = True) -> bool:
        """Delete a method at the processor, and record that. False if no clear answer came."""
        account = await self.account_of(method.merchant_id, method.login_id)
        if account is None:
            return False
        answer = await self.vault(method.processor).delete_method(
            account, ids_of(method), self.deadline()
        )
        failpoints.reach("method_gone")
        if not _is_gone(answer) or await self.may_still_come(answer, method.stored_at):
            log.info("method %s is not deleted yet: %s", method.id, _told(answer))
            return False
        async with self.pool.acquire() as connection:
            await method_rows.record_deleted(connection, key_of(method), ends_work=ends_work)
        return True

    async def change_method(
        self, method: Method, deadline: Deadline, *, ends_work: bool = True
    ) -> ChangeAnswer:
        """Make the change that a method's row wants at the processor, and record what came of it.
        The same change may be made twice."""
        assert method.wanted is not None
        change = msgspec.json.decode(method.wanted, type=MethodChange)
        account = await self.account_of(method.merchant_id, method.login_id)
        if account is None:
            return VaultUnknown(reason="the processor account cannot be used")
        request = UpdateRequest(
            account=account,
            ids=ids_of(method),
            exp_month=change.exp_month,
            exp_year=change.exp_year,
            billing_address=change.billing_address,
        )
        answer = await self.vault(method.processor).update(request, deadline)
        failpoints.reach("method_changed")
        if await self.may_still_come(answer, method.stored_at):
            answer = VaultUnknown(reason=NOT_SHOWN)
        key = key_of(method)
        async with self.pool.acquire() as connection:
            match answer:
                case VaultDone():
                    await method_changes.record_changed(
                        connection, key, method.wanted, ends_work=ends_work
                    )
                case VaultRefused():
                    await method_changes.unwant(connection, key, method.wanted, ends_work=ends_work)
                    if answer.word == "method_not_found":
                        await method_rows.record_gone(connection, key)
                case VaultNotSent():
                    if ends_work:  # the shop is told; a worker tries again
                        await method_changes.unwant(connection, key, method.wanted)
                case VaultUnknown():
                    if ends_work:
                        await vault_work.begin(connection, "method", *method_rows.of(key), SOON_S)
                case _:
                    assert_never(answer)
        return answer


def ids_of(method: Method) -> MethodIds:
    """Return the processor's ids of a method that was stored."""
    assert method.customer_profile_id is not None
    assert method.payment_profile_id is not None
    return MethodIds(method.customer_profile_id, method.payment_profile_id)


def vaults_of(processors: Mapping[str, Processor]) -> Vaults:
    """Return what finds the vault of a processor by the processor's name."""

    def vault(name: str) -> CustomerVault:
        processor = processors.get(name)
        found = None if processor is None else vault_of(processor)
        if found is None:
            raise ProcessorNotSetUp(f"The processor {name} stores no payment methods.")
        return found

    return vault


def why_not_deleted(answer: ChangeAnswer) -> str | None:
    """Return why an answer to a deletion does not say that nothing is left; None if it does."""
    return None if _is_gone(answer) else _told(answer)


def _is_gone(answer: ChangeAnswer) -> bool:
    return isinstance(answer, VaultDone) or (
        isinstance(answer, VaultRefused) and answer.word in _NOT_FOUND
    )


def _told(answer: ChangeAnswer) -> str:
    match answer:
        case VaultRefused():
            return f"{answer.code} {answer.message}"
        case VaultNotSent() | VaultUnknown():
            return answer.reason
        case VaultDone():
            return "the vault does not know it yet"
        case _:
            assert_never(answer)
