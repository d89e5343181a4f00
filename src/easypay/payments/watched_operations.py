"""Operations that are still watched although no request waits for them, by purpose.

- `absent`: an operation that was called absent is looked for after ten minutes, after two hours,
  and after each batch until three days have passed: reporting may lag, or the charge may come late.
  `late_charges` handles what is found.
- `return`: a late charge, until it has been given back.
- `expiry`: an authorization so old that it may have expired (`authorization_expiry`).
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, get_args

from easypay.clock import monotonic
from easypay.db.failures import is_passing
from easypay.payments import authorization_expiry
from easypay.payments import resolver_rows as store
from easypay.payments.late_charges import LateCharges, can_explain
from easypay.payments.model import CREATES, Kind, PaymentKey
from easypay.payments.resolver_rows import Case, Missed
from easypay.processors.base import Account, Deadline, Processors

log = logging.getLogger(__name__)

_AT_ONCE: Final = 8
_SEE_TO_S: Final = 20.0
WATCH_S: Final = 72 * 3600.0
_FIRST_LOOKS_S: Final = (600.0, 7200.0)
"""After an operation was called absent."""
_NEW_BATCH_EVERY_S: Final = 3600.0
"""How often to ask whether there is a new batch to search."""
_NOT_LEARNED_S: Final = 300.0
_RETURN_S: Final = 300.0
_EXPIRY_EVERY_S: Final = 24 * 3600.0
_QUESTION_S: Final = 20.0


_Turn = Literal["see to", "open", "over", "look", "new batch"]
_TURNS: Final[tuple[_Turn, ...]] = get_args(_Turn)
"""What is done about a watched operation that is due: `see_to` sees to it; it waits, since its
outcome is open; it is over; it is looked for now; or that only if there is a new batch."""


def _turn(case: Case, now: datetime) -> _Turn:
    if case.purpose != "absent":
        return "see to"
    if case.state in store.STILL_OPEN:  # it was about to be called absent, and was not
        return "open"
    if case.state != "absent" or _is_overtaken(case):
        return "over"
    if case.looks < len(_FIRST_LOOKS_S) or (case.until is not None and case.until <= now):
        return "look"
    return "new batch"


class Watching:
    """Schedules watched operations and does what is due."""

    def __init__(
        self,
        *,
        pool: Any,
        processors: Processors,
        late: LateCharges,
        changed: Callable[[PaymentKey], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._processors = processors
        self._late = late
        self._changed = changed

    async def begin(self, account: bytes, cases: Sequence[Case]) -> None:
        """Watch operations that are about to be called absent."""
        await store.watch(
            self._pool,
            cases,
            account,
            purpose="absent",
            for_s=WATCH_S,
            first_in_s=_FIRST_LOOKS_S[0],
        )

    async def due(self, watched: Sequence[Case], account: Account) -> tuple[list[Case], list[Case]]:
        """Split due cases into those to look for now and those for `see_to`; postpone the rest."""
        if not watched:
            return [], []
        now = await self._pool.fetchval("SELECT db_now()")
        by_turn: dict[_Turn, list[Case]] = {turn: [] for turn in _TURNS}
        for case in watched:
            by_turn[_turn(case, now)].append(case)
        asked = await self._with_new_batch(by_turn["new batch"], account, now)
        await store.close(self._pool, by_turn["over"])
        await store.postpone(
            self._pool,
            [
                *(self.not_learned(case, "its outcome is open") for case in by_turn["open"]),
                *(
                    self.missed(case, "no new batch", case.searched)
                    for case, new in asked
                    if not new
                ),
            ],
        )
        return [*by_turn["look"], *(case for case, new in asked if new)], by_turn["see to"]

    async def _with_new_batch(
        self, cases: Sequence[Case], account: Account, now: datetime
    ) -> list[tuple[Case, bool]]:
        """Return each case with whether there is a batch in which it was not looked for yet. One
        question serves all cases; if it is not answered, all of them are looked for."""
        if not cases:
            return []
        oldest = min(case.begun_at for case in cases)
        batches = await self._processors[account.processor].closed_batches(
            account,
            int(oldest.timestamp() * 1000),
            int(now.timestamp() * 1000),
            Deadline(monotonic() + _QUESTION_S),
        )
        return [(case, batches is None or bool(batches - set(case.searched))) for case in cases]

    async def see_to(self, others: Sequence[Case], account: Account) -> list[Missed]:
        """Give charges back and check old authorizations, for `_SEE_TO_S`. The rest stays due."""
        room = asyncio.Semaphore(_AT_ONCE)
        ends = monotonic() + _SEE_TO_S

        async def one(case: Case) -> Missed | None:
            async with room:
                if monotonic() >= ends:
                    return None
                try:
                    return await self._step(case, account)
                except Exception as error:
                    log.error(
                        "watching operation %s failed: %s",
                        *(case.reference, error),
                        exc_info=not is_passing(error),
                    )
                    return self.not_learned(case, f"failed: {type(error).__name__}")

        missed = await asyncio.gather(*map(one, others))
        return [each for each in missed if each is not None]

    async def _step(self, case: Case, account: Account) -> Missed | None:
        if case.purpose == "return":
            done = await self._late.give_back_again(case, account)
            again_in_s = _RETURN_S * _jitter()
            again = Missed(case, again_in_s, "not given back yet", counts=False)
        else:
            done = await authorization_expiry.look(
                self._pool, self._processors[account.processor], case, account
            )
            again = self.missed(case, "still authorized", [])
            if done:
                self._changed(PaymentKey(case.merchant_id, case.mode, case.payment_id))
        if done:
            await store.close(self._pool, [case])
        return None if done else again

    def missed(self, case: Case, finding: str, searched: list[str]) -> Missed:
        """Return when to look again for a case that was not there."""
        if case.purpose == "expiry":
            again_in_s = _EXPIRY_EVERY_S
        elif case.looks == 0:
            again_in_s = _FIRST_LOOKS_S[1] - _FIRST_LOOKS_S[0]
        else:
            again_in_s = _NEW_BATCH_EVERY_S
        return Missed(case, again_in_s * _jitter(), finding, searched=searched)

    def not_learned(self, case: Case, finding: str) -> Missed:
        """Return when to ask again after a question without an answer: soon. It does not count."""
        again_in_s = _NOT_LEARNED_S * _jitter()
        return Missed(case, again_in_s, finding, searched=case.searched, counts=False)


def _is_overtaken(case: Case) -> bool:
    """Whether a later operation has changed the transaction that this one would have changed."""
    changes = case.kind is not Kind.REFUND and case.kind not in CREATES
    return changes and not can_explain(case.kind, case.status)


def _jitter() -> float:
    return random.uniform(0.95, 1.05)  # noqa: S311 - so that not everything is due at once
