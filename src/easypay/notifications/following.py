"""Follows a notification: makes due what finds out what happened, or wants the books to be read.

Nothing here changes a payment. The resolver asks the processor and records what it learns, as it
would have done later by itself; what no operation of ours explains is found by reading the
account's books. So it does not matter whether notifications come twice, late, in another order, or
not at all.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final, assert_never

from easypay.db.work_list import Work
from easypay.db.work_loop import Done, End, Schedule
from easypay.notifications import store
from easypay.notifications.model import Known, Step, step_for
from easypay.payments import resolver_rows

log = logging.getLogger(__name__)

SCHEDULE: Final = Schedule(first_s=1.0, factor=2.0, most_s=300.0, attempts=20)
"""When following is tried again that failed."""
AT_ONCE: Final = 8
LEASE_S: Final = 30.0
_TRIES: Final = 12
"""After so many tries nothing more is made due: the resolver goes on by its own schedule, and the
books have the rest."""
_OURS_WITHIN: Final = 3
"""So often an operation is looked for that has one of our references and is not there."""


class Follower:
    """Does the work of `notification_work`. `abandoned_after_s`: how long the answer to a call may
    take."""

    def __init__(self, pool: Any, *, abandoned_after_s: float) -> None:
        self._pool = pool
        self._abandoned_after_s = abandoned_after_s

    async def do(self, work: Work) -> End:
        """Do one piece of work, and say how it ended."""
        account, notification_id = work.key
        happened, reference, charge_reference = work.payload
        known = await self._known(account, [reference, charge_reference])
        if known is None:
            may_come = (reference or charge_reference) and work.attempt < _OURS_WITHIN
            step = Step.WAIT if may_come else Step.READ_BOOKS
        else:
            step = step_for(known, happened)
        match step:
            case Step.DONE:
                return Done()
            case Step.READ_BOOKS:
                await store.read_books_soon(self._pool, account)
                log.info("notification %s: no operation of ours explains it", notification_id)
                return Done()
            case Step.LOOK_AGAIN:
                assert known is not None, "only what is known can be absent"
                await resolver_rows.look_now(self._pool, known.merchant_id, known.payment_id)
                await store.read_books_soon(self._pool, account)
                return Done()
            case Step.ASK:
                assert known is not None, "only what is known can be open"
                await store.ask_now(self._pool, known, abandoned_after_s=self._abandoned_after_s)
            case Step.WAIT:
                pass
            case _:
                assert_never(step)
        if work.attempt >= _TRIES:
            await store.read_books_soon(self._pool, account)
            return Done()
        return SCHEDULE.after(work, f"{step}: its outcome is not known yet")

    async def _known(self, account: bytes, references: Sequence[str | None]) -> Known | None:
        """Return the operation that a notification names: that of the call, or else the charge."""
        for reference in dict.fromkeys(references):
            if reference is not None:
                known = await store.find(
                    self._pool, account, reference, abandoned_after_s=self._abandoned_after_s
                )
                if known is not None:
                    return known
        return None
