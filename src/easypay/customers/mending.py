"""What a worker does about a method or profile whose outcome nobody recorded.

    a method that is `making`     look for it in the vault, adopt it, or end it as `failed`
    a method that wants a change  make the change again: it is the same change
    a method that a payment was   look whether the vault has it; if not, it was deleted there
    told to be unknown
    a method that is `deleting`   delete it again: what is gone counts as deleted
    a profile that is `deleting`  the same, with all of its methods
    a method that has `failed`    look whether the vault stored it late: `late_methods`; also if
                                  the shop has deleted it since

A method is sought in the profile that it was meant for: by our reference if the profile was to be
made with it, and among the methods of the profile that are not ours yet otherwise. Only one method
at a time is stored in a profile, so what appeared there is this one. For a minute the vault may not
know a profile that it has made: until then nothing is called absent.
"""

import logging
from collections.abc import Callable
from typing import Final, assert_never
from uuid import UUID

from easypay.customers import method_rows, profile_rows, store
from easypay.customers.late_methods import LateMethods, next_look, unknown_like
from easypay.customers.model import Failure, Method, Profile, State, key_of
from easypay.customers.refusals import AMBIGUOUS, NOT_STORED
from easypay.customers.vault_calls import VaultCalls
from easypay.db.work_list import Work
from easypay.db.work_loop import Done, End, Later, Schedule
from easypay.mode import MODE, Mode
from easypay.processors.customer_vault import (
    NEW_FOR_S,
    FoundProfile,
    NoProfile,
    VaultDone,
    VaultedMethod,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
)

log = logging.getLogger(__name__)

SCHEDULE: Final = Schedule(first_s=5.0, factor=2.0, most_s=900.0, attempts=40)
"""When unanswered work is tried again. After about eight hours it is parked: a person decides."""
AT_ONCE: Final = 8
_ASK_AGAIN_S: Final = 10.0
"""How soon a profile is asked for again that the vault may not know yet."""

_AGE_S: Final = """
    SELECT extract(epoch FROM db_now() - greatest(m.created_at, p.created_at))::float8
      FROM payment_methods m
      JOIN customer_profiles p ON p.merchant_id = m.merchant_id AND p.mode = m.mode
           AND p.id = m.profile_id
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
"""


class Mender:
    """Does the work of `vault_work`."""

    def __init__(self, calls: VaultCalls, *, changed: Callable[[UUID, Mode, UUID], None]) -> None:
        self._calls = calls
        self._pool = calls.pool
        self._late = LateMethods(calls, SCHEDULE)
        self._absent_after_s = NEW_FOR_S + calls.deadline_s
        self._changed = changed

    async def do(self, work: Work) -> End:
        """Do one piece of work, and say how it ended."""
        merchant_id, mode_text, kind, row_id = work.key
        mode = MODE[mode_text]
        if kind == "profile":
            gone = await self._calls.delete_profile(merchant_id, mode, row_id, ends_work=False)
            return Done() if gone else SCHEDULE.after(work, "the profile is not deleted yet")
        method = await store.find_method(self._pool, merchant_id, mode, row_id)
        if method is None:
            return Done()
        end = await self._mend(work, method)
        self._changed(merchant_id, mode, method.customer_id)
        return end

    async def _mend(self, work: Work, method: Method) -> End:
        match method.state:
            case State.MAKING:
                return await self._find(work, method)
            case State.ACTIVE:
                return await self._change(work, method)
            case State.DELETING:
                gone = await self._calls.delete_method(method, ends_work=False)
                return Done() if gone else SCHEDULE.after(work, "the method is not deleted yet")
            case State.DELETED if method.payment_profile_id is not None:
                return Done()
            case State.FAILED | State.DELETED:
                return await self._late.look_for(work, method)
            case _:
                assert_never(method.state)

    async def _change(self, work: Work, method: Method) -> End:
        if method.wanted is None:
            return await self._look_for(work, method)
        deadline = self._calls.deadline()
        answer = await self._calls.change_method(method, deadline, ends_work=False)
        match answer:
            case VaultDone():
                return Later(0.0, None) if await self._wants_more(method) else Done()
            case VaultRefused():
                log.warning(
                    "method %s cannot be changed as a shop wanted: %s %s",
                    *(method.id, answer.code, answer.message),
                )
                return Done()
            case VaultNotSent() | VaultUnknown():
                return SCHEDULE.after(work, answer.reason)
            case _:
                assert_never(answer)

    async def _wants_more(self, method: Method) -> bool:
        found = await store.find_method(self._pool, method.merchant_id, method.mode, method.id)
        return found is not None and found.wanted is not None

    async def _look_for(self, work: Work, method: Method) -> End:
        """Look whether the vault still has an active method: a payment was told that it has not."""
        who = (method.merchant_id, method.mode)
        profile = await profile_rows.get(self._pool, *who, method.profile_id)
        account = await self._calls.account_of(method.merchant_id, method.login_id)
        if account is None:
            return SCHEDULE.after(work, "the processor account cannot be used")
        answer = await self._calls.look_at(profile, account)
        match answer:
            case FoundProfile():
                ids = [each.ids.payment_profile_id for each in answer.methods]
                if method.payment_profile_id in ids:
                    return Done()
            case NoProfile():
                pass
            case VaultNotSent() | VaultUnknown():
                return SCHEDULE.after(work, answer.reason)
            case _:
                assert_never(answer)
        if await self._is_too_young(method):
            return Later(_ASK_AGAIN_S, "the vault does not show it yet")
        log.warning("payment method %s was deleted at the processor", method.id)
        async with self._pool.acquire() as connection:
            await method_rows.record_gone(connection, key_of(method))
        return Done()

    async def _find(self, work: Work, method: Method) -> End:
        who = (method.merchant_id, method.mode)
        profile = await profile_rows.get(self._pool, *who, method.profile_id)
        account = await self._calls.account_of(method.merchant_id, method.login_id)
        if account is None:
            return SCHEDULE.after(work, "the processor account cannot be used")
        answer = await self._calls.look_at(profile, account)
        match answer:
            case FoundProfile():
                return await self._adopt(work, method, answer)
            case NoProfile():
                return await self._absent(method, profile)
            case VaultNotSent() | VaultUnknown():
                return SCHEDULE.after(work, answer.reason)
            case _:
                assert_never(answer)

    async def _adopt(self, work: Work, method: Method, found: FoundProfile) -> End:
        """Record the one method of the profile that can be this one."""
        known = await method_rows.known_ids(self._pool, method)
        candidates = unknown_like(method, found, known)
        if not candidates:
            if await self._is_too_young(method):
                return Later(_ASK_AGAIN_S, "the vault does not show it yet")
            return await self._fail(method, NOT_STORED)
        if len(candidates) > 1:
            log.error(
                "method %s may be any of %d that appeared in profile %s at the processor",
                *(method.id, len(candidates), found.customer_profile_id),
            )
            return await self._fail(method, AMBIGUOUS)
        await self._record(method, candidates[0])
        return Done()

    async def _record(self, method: Method, found: VaultedMethod) -> None:
        async with self._pool.acquire() as connection:
            await method_rows.record_stored(connection, key_of(method), found, ends_work=False)

    async def _absent(self, method: Method, profile: Profile) -> End:
        if await self._is_too_young(method):
            return Later(_ASK_AGAIN_S, "the vault does not know the profile yet")
        end = await self._fail(method, NOT_STORED)
        if profile.customer_profile_id is not None:
            log.warning("profile %s was deleted at the processor", profile.id)
            async with self._pool.acquire() as connection:
                await method_rows.record_profile_gone(
                    connection, method.merchant_id, method.mode, profile.id
                )
        return end

    async def _fail(self, method: Method, word: str) -> End:
        """Call a method `failed`. The vault may still store it: that is looked for from now on."""
        async with self._pool.acquire() as connection:
            await method_rows.record_failed(
                connection, key_of(method), Failure(word), ends_work=False
            )
        return await next_look(self._pool, method)

    async def _is_too_young(self, method: Method) -> bool:
        """Whether the vault may still come to know it, or its call may still run."""
        age_s: float | None = await self._pool.fetchval(
            _AGE_S, method.merchant_id, method.mode, method.id
        )
        return age_s is not None and age_s < self._absent_after_s
