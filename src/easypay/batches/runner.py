"""Runs batches: claims groups of lines, and sends each line through the flows of the API.

What keeps a line from being charged twice, or left out, whatever is killed:

1. A group's row is a lease. It goes only when all of its lines have ended, so the lines of a worker
   that died are found by the next one.
2. Before a line is sent, the id of its operation is committed in the line (`claims.begin_lines`).
   Whoever takes a line over asks for these operations first. If one was begun, its outcome is the
   line's, and nothing is sent; while it is unknown, the resolver asks the processor. Only one that
   ended without ever being sent (`ended_unsent`) is followed by another.
3. All attempts of a line have the same Idempotency-Key, so of two workers only one begins. It
   changes with each operation that ended without being sent.
4. A worker that was stopped begins nothing after its lease, and its call sends nothing after its
   deadline, which is shorter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.batches import claims, removal, store
from easypay.batches.claims import GROUPS, PAUSED, Group, LineEnd
from easypay.batches.group_run import GroupRun, Means
from easypay.batches.model import Batch
from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.claim_loop import ClaimLoop, Traced
from easypay.db.connections import Lane
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.db.work_list import backoff_s
from easypay.errors import EasyPayError, InvalidState
from easypay.failpoints import reach
from easypay.merchants.model import Caller
from easypay.merchants.vault import Box
from easypay.mode import Mode
from easypay.payments.flows import Payments

log = logging.getLogger(__name__)

GROUP: Final = 50
"""Lines of a group at most."""
LINES_AT_ONCE: Final = 256
"""Lines that one worker has under way."""
_GROUPS_AT_ONCE: Final = 16
_LEAST_LEASE_S: Final = 30.0
_MARGIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.25
"""How often a worker asks whether its batches may go on."""
_TIDY_EVERY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 600.0
"""Longer than leases and pauses are, unless a call may take minutes."""
_PROGRESS_EVERY_S: Final = 1.0
_AGAIN_S: Final = 1.0
_OPEN_FIRST_S: Final = 1.0
_OPEN_MOST_S: Final = 300.0
_BUSY_PAYMENT_MOST_S: Final = 60.0
_LONGEST_AGAIN_S: Final = 20.0
"""An operation that was not sent ends as failed if nobody repeats it for some time (a setting)."""
_PAUSE_AFTER_S: Final = 900.0
"""A batch is paused whose lines could not be sent for so long."""
_SAME_FAILURE_S: Final = 60.0
"""A failure that comes so long after the one before is a new one."""


class Runner:
    """One process's part in running batches. Without work it looks for some every `poll_s` seconds.

    `ended` is called with `done`, `later` or `lost` at the end of each claim of a group.
    """

    def __init__(
        self,
        *,
        lane: Lane,
        pool: Any,
        payments: Payments,
        caller_of: Callable[[UUID, Mode], Awaitable[Caller | None]],
        end: GroupCommitter[LineEnd, None],
        box: Box,
        deadline_s: float,
        keep_days: int,
        poll_s: float = 1.0,
        ended: Callable[[str], None] = lambda _: None,
        traced: Traced | None = None,
    ) -> None:
        self._lane = lane
        self._pool = pool
        self._means = Means(pool, payments, end, box, asyncio.Semaphore(LINES_AT_ONCE), traced)
        self._caller_of = caller_of
        self._keep_days = keep_days
        self._poll_s = poll_s
        self._needs_s = deadline_s + _MARGIN_S
        self._lease_s = max(_LEAST_LEASE_S, 2 * self._needs_s)
        self._ended = ended
        self._loop: ClaimLoop[Group] = ClaimLoop(
            "batches",
            GROUPS,
            pool,
            self._look,
            work_of=lambda group: group.work,
            poll_s=poll_s,
            gather_s=0.0,  # each claim is of one group of lines
        )
        self._states: dict[UUID, str] = {}
        """The states of the batches under way, by their ids. Looked at every `_LOOK_EVERY_S`."""
        self._failing: dict[UUID, tuple[float, float]] = {}
        """When lines of a batch could not be sent for the first time, and for the last time."""
        self._claim_again_at = self._end_batches_at = 0.0

    def wake(self) -> None:
        """Look for work now."""
        self._loop.wake()

    async def run(self) -> None:
        """Claim and send until `stop` or until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop.run())
            group.create_task(self._look_on())
            group.create_task(self._tidy_on())

    async def stop(self, within_s: float) -> None:
        """Begin no more lines, and wait for those under way. What was not begun is given back."""
        await self._loop.stop(within_s)

    # claims ------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Claim groups until there is no room or no more, and end batches that are over."""
        for _ in range(_GROUPS_AT_ONCE):
            if not await self._claim():
                break
        if monotonic() >= self._end_batches_at:
            self._end_batches_at = monotonic() + min(_LOOK_EVERY_S, self._poll_s)
            for batch in await store.end_what_is_over(self._pool):
                log.info("batch %s is done", ids.typed(ids.BATCH, batch.id))

    async def _claim(self) -> bool:
        """Claim groups. False if there is no room or there were none."""
        room = _GROUPS_AT_ONCE - len(self._loop.under_way)
        if room < 1 or self._loop.stopping:
            return False
        groups: list[Group] = []
        if monotonic() >= self._claim_again_at:
            groups = await claims.claim_again(
                self._lane, self._pool, most=max(1, room // 2), lease_s=self._lease_s
            )
            if not groups:
                self._claim_again_at = monotonic() + min(_LOOK_EVERY_S, self._poll_s)
        if len(groups) < room:
            group = await claims.claim_next(self._pool, most=GROUP, lease_s=self._lease_s)
            groups += [] if group is None else [group]
        for each in groups:
            self._states[each.batch.id] = each.batch.state
            self._loop.begin(each, self._guarded(each))
        return bool(groups)

    async def _look_on(self) -> None:
        """Ask whether batches may go on, and tell how far they have come."""
        look_at_progress = 0.0
        while True:
            try:
                wanted = sorted({(g.batch.merchant_id, g.batch.id) for g in self._loop.under_way})
                states = await claims.states_of(self._pool, wanted) if wanted else {}
                under_way = {group.batch.id for group in self._loop.under_way}
                self._states = {each: states.get(each, self._states[each]) for each in under_way}
                if wanted and monotonic() >= look_at_progress:
                    look_at_progress = monotonic() + _PROGRESS_EVERY_S
                    await store.tell_progress(self._pool, wanted)
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("it cannot be read how far batches have come: %s", error)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _tidy_on(self) -> None:
        """Remove old batches and uploads that were cut. Let no batch wait for an hour that has come
        already, if the database's clock is set back."""
        longest_s = max(_LONGEST_PAUSE_S, 2 * self._lease_s)
        while True:
            try:
                if count := await claims.mind_the_clock(self._pool, longest_s):
                    log.warning(
                        "%d batches or groups of lines were due in the far future, and are due "
                        "now: the database's clock was set back",
                        count,
                    )
                await removal.give_up_old(self._pool, keep_days=self._keep_days)
                await removal.forget_cut(self._pool)
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("batches cannot be tidied up: %s", error)
            await asyncio.sleep(_TIDY_EVERY_S)

    # one group ---------------------------------------------------------------------------------

    async def _guarded(self, group: Group) -> None:
        """Do a group, and write how that ended. Its lease brings back what fails here."""
        try:
            why, delay_s = await self._do(group)
            if why is None:
                done = await work_list.finish(
                    self._pool, GROUPS, [(group.work.key, group.work.attempt)]
                )
                self._ended("done" if done else "lost")
                return
            later = [(group.work.key, group.work.attempt, delay_s, why or None)]
            postponed = await work_list.postpone(self._pool, GROUPS, later)
            self._ended("later" if postponed else "lost")
        except Exception as error:
            expected = is_passing(error) or isinstance(error, EasyPayError)
            log.warning(
                "lines %d to %d of batch %s are looked at again later: %s: %s",
                *(group.first_line, group.last_line, ids.typed(ids.BATCH, group.batch.id)),
                *(type(error).__name__, error),
                exc_info=not expected,
            )

    async def _do(self, group: Group) -> tuple[str | None, float]:
        """Work on the lines of a group. Return why some are left and in how many seconds to look
        again; None if all have ended."""
        reach("batch_claimed")
        batch, pool = group.batch, self._pool
        run = GroupRun(self._means, group, await self._usable(batch), lambda: self.may_begin(group))
        await run.lines(cancelled=self._states.get(batch.id) == "cancelled")
        state = self._states.get(batch.id)
        left = run.left(state)
        await claims.leave_lines(pool, group, left.waiting, "waiting")
        await claims.leave_lines(pool, group, left.open, "open")
        if left.failed:
            return await self._after_failures(group, run.why)
        if run.sent:
            self._failing.pop(batch.id, None)
        if left.waiting and state not in ("paused", "cancelled"):
            if self.may_begin(group) and (left.open or left.busy or run.waits_for_open):
                await claims.mark_open(pool, group, True)
            return "", 0.0 if self._loop.stopping else _AGAIN_S
        if left.busy:
            await claims.mark_open(pool, group, True)
            return run.why, min(_BUSY_PAYMENT_MOST_S, _pause_s(group, _AGAIN_S))
        if left.open:
            await claims.mark_open(pool, group, True)
            most_s = _LONGEST_AGAIN_S if state == "paused" else _OPEN_MOST_S
            return "outcomes are unknown", min(most_s, _pause_s(group, _OPEN_FIRST_S))
        if left.waiting and state == "paused":
            return PAUSED, 0.0
        return None, 0.0  # what waits in a cancelled batch is shown as cancelled

    async def _usable(self, batch: Batch) -> Caller | None:
        """Return the merchant, for whom lines may be sent. If none may, pause the batch: None."""
        caller = await self._caller_of(batch.merchant_id, batch.mode)
        if caller is not None and caller.login is not None:
            return caller
        if self._states.get(batch.id) in ("running", "disabled"):
            why = "The merchant is disabled."
            if caller is not None:
                why = f"The merchant's {batch.mode} account cannot be used. {caller.login_unusable}"
            await self._pause(batch, why)
        return None

    async def _after_failures(self, group: Group, why: str) -> tuple[str, float]:
        """Let lines be tried again that could not be sent, and no others be begun until then."""
        batch_id, now = group.batch.id, monotonic()
        since, last = self._failing.get(batch_id, (now, now))
        if now - last > _SAME_FAILURE_S:
            since = now
        self._failing[batch_id] = since, now
        if now - since >= _PAUSE_AFTER_S:
            del self._failing[batch_id]
            reason = f"Lines could not be sent for {round((now - since) / 60)} minutes. {why}"
            await self._pause(group.batch, reason)
        delay_s = min(_LONGEST_AGAIN_S, _pause_s(group, _AGAIN_S))
        await claims.hold(self._pool, group.batch, delay_s)
        return why, delay_s

    async def _pause(self, batch: Batch, reason: str) -> None:
        """Pause a batch until a person has done something. It may have been cancelled meanwhile."""
        with suppress(InvalidState):
            paused = await store.move(self._pool, batch, "pause", reason)
            self._states[batch.id] = paused.state

    def may_begin(self, group: Group) -> bool:
        """Whether a line of a group may begin now."""
        return (
            not self._loop.stopping
            and self._states.get(group.batch.id) == "running"
            and group.work.still_held(self._needs_s)
        )


def _pause_s(group: Group, first_s: float) -> float:
    return backoff_s(group.work.attempt, first=first_s, factor=1.5, most=_OPEN_MOST_S)
