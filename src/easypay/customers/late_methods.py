"""Removes from the vault what it stored after we had called its creation `failed`.

The shop was told that nothing was stored, so nobody would ever find such a card again. A worker
looks for it during the day after the creation, each time after twice as long: `mending` calls
`LateMethods`. If a customer is deleted, its profiles go at the processor with all that is in them,
also a profile whose creation was called `failed` (`vault_calls`).

Only the profile that the method was meant for is looked at, which has our reference. What is
removed there is unknown to us and can be nothing but this method: the vault has no card twice in
one profile, so the same digits and expiry are the same card. The vault tells neither when it stored
a method nor for whom. So if nothing is known of the digits, because the card came as a token, or if
more appeared than methods were called `failed`, it may be somebody else's. Then nothing is removed,
and the work is parked until a person has looked. The profile is held during a look, so no request
can be storing there: it would find the late card and take it for its own.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, assert_never

from easypay.customers import method_rows, profile_rows
from easypay.customers.model import Method, Profile
from easypay.customers.vault_calls import VaultCalls, why_not_deleted
from easypay.db.work_list import Work
from easypay.db.work_loop import Done, End, GiveUp, Later, Schedule
from easypay.processors.base import Account
from easypay.processors.customer_vault import (
    FoundProfile,
    NoProfile,
    VaultedMethod,
    VaultNotSent,
    VaultUnknown,
)

log = logging.getLogger(__name__)

LOOKED_FOR_S: Final = 86_400.0
"""How long after its creation a method is looked for, in seconds."""
LOOKING: Final = "it was not stored; looks whether the processor stores it late"
_LEAST_PAUSE_S: Final = 60.0
_ASK_AGAIN_S: Final = 10.0
_AGE: Final = "SELECT db_now() - $1::timestamptz"


async def next_look(runner: Any, method: Method) -> End:
    """Return when a failed method is looked for again: when it is twice as old."""
    age: timedelta = await runner.fetchval(_AGE, method.created_at)
    age_s = age.total_seconds()
    if age_s >= LOOKED_FOR_S:
        return Done()
    return Later(max(age_s, _LEAST_PAUSE_S), LOOKING)


class LateMethods:
    """Looks for failed methods. `schedule` says when an unanswered call is repeated."""

    def __init__(self, calls: VaultCalls, schedule: Schedule) -> None:
        self._calls = calls
        self._schedule = schedule

    async def look_for(self, work: Work, method: Method) -> End:
        """Look once for what the vault may have stored of a failed method, and remove it."""
        calls, who = self._calls, (method.merchant_id, method.mode)
        profile = await profile_rows.get(calls.pool, *who, method.profile_id)
        if profile.state == "deleted" and profile.customer_profile_id is not None:
            return Done()
        account = await calls.account_of(method.merchant_id, method.login_id)
        if account is None:
            return self._schedule.after(work, "the processor account cannot be used")
        if profile.customer_profile_id is not None and not await self._hold(method):
            return Later(_ASK_AGAIN_S, "another method is being stored in the profile")
        why_not = await self._remove(method, profile, account)
        if isinstance(why_not, str):
            return self._schedule.after(work, why_not)
        await profile_rows.release(calls.pool, method)
        return await next_look(calls.pool, method) if why_not is None else why_not

    async def _hold(self, method: Method) -> bool:
        async with self._calls.pool.acquire() as connection:
            return await profile_rows.hold(connection, method)

    async def _remove(
        self, method: Method, profile: Profile, account: Account
    ) -> str | GiveUp | None:
        """Remove what can only be the method. Return why that is not certain; None if it is."""
        found = await self._calls.look_at(profile, account)
        match found:
            case FoundProfile() if profile.customer_profile_id is None:
                log.warning("profile %s was made late; it is removed", profile.id)
                vault = self._calls.vault(profile.processor)
                answer = await vault.delete_profile(
                    account, found.customer_profile_id, self._calls.deadline()
                )
                return why_not_deleted(answer)
            case FoundProfile():
                return await self._remove_some(method, found, account)
            case NoProfile():
                return None
            case VaultNotSent() | VaultUnknown():
                return found.reason
            case _:
                assert_never(found)

    async def _remove_some(
        self, method: Method, found: FoundProfile, account: Account
    ) -> str | GiveUp | None:
        known = await method_rows.known_ids(self._calls.pool, method)
        vault = self._calls.vault(method.processor)
        late = unknown_like(method, found, known)
        never_shown = await method_rows.never_shown(self._calls.pool, method)
        if late and (method.last4 is None or len(late) > never_shown):
            return GiveUp(_may_be_anothers(found.customer_profile_id, late))
        for each in late:
            log.warning("payment method %s was stored late; it is removed", method.id)
            answer = await vault.delete_method(account, each.ids, self._calls.deadline())
            why_not = why_not_deleted(answer)
            if why_not is not None:
                return why_not
        return None


def _may_be_anothers(profile: str, late: Sequence[VaultedMethod]) -> str:
    named = ", ".join(each.ids.payment_profile_id for each in late)
    return (
        f"at the processor, profile {profile} has unknown payment profiles ({named}): this method, "
        "stored late, or somebody else's"
    )


def unknown_like(method: Method, found: FoundProfile, known: set[str]) -> list[VaultedMethod]:
    """Return the methods of a profile that are not known here and can be this one. Pure."""
    return [
        each
        for each in found.methods
        if each.ids.payment_profile_id not in known and _shows(each, method)
    ]


def _shows(method: VaultedMethod, of: Method) -> bool:
    """Whether a method of the vault can be this one, by what is known of it."""
    return all(
        known is None or there is None or known == there
        for known, there in (
            (of.last4, method.last4),
            (of.exp_month, method.exp_month),
            (of.exp_year, method.exp_year),
        )
    )
