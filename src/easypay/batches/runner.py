"""Runs batches: claims groups of lines, and sends each line through the flows of the API.

What keeps a line from being charged twice, or left out, whatever is killed:

1. A group's row is a lease. It goes only when all of its lines have ended, so the lines of a worker
   that died are found by the next one.
2. Before a line is sent, the id of its operation is committed in the line (`claims.begin_lines`).
   Whoever takes a line over asks for these operations first. If one was begun, its outcome is the
   line's, and nothing is sent; while it is unknown, the resolver asks the processor.
3. All attempts of a line have the same Idempotency-Key, so of two workers only one begins.
4. A worker that was stopped begins nothing after its lease, and its call sends nothing after its
   deadline, which is shorter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, assert_never
from uuid import UUID

from easypay import ids
from easypay.batches import claims, store
from easypay.batches.claims import GROUPS, Group, GroupLine, LineEnd
from easypay.batches.lines import (
    CaptureLine,
    PaymentLine,
    RefundLine,
    VoidLine,
    amount_of,
    decode,
    key_of,
    open_sealed,
)
from easypay.batches.model import ENDED, Batch
from easypay.batches.outcomes import end_of_operation, end_of_refusal, end_of_reply
from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.claim_loop import ClaimLoop
from easypay.db.connections import Lane
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.db.work_list import backoff_s
from easypay.errors import EasyPayError, InvalidState, RequestInProgress
from easypay.failpoints import reach
from easypay.merchants.model import Caller
from easypay.merchants.vault import Box
from easypay.mode import Mode
from easypay.payments.begin import Ask
from easypay.payments.flows import Payments, Reply
from easypay.payments.model import Operation, State

log = logging.getLogger(__name__)

GROUP: Final = 50
"""Lines of a group at most."""
LINES_AT_ONCE: Final = 256
"""Lines that one worker has under way."""
_GROUPS_AT_ONCE: Final = 16
_LEAST_LEASE_S: Final = 30.0
_MARGIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.25
"""How often a worker asks whether its batches were paused or cancelled."""
_CUT_EVERY_S: Final = 60.0
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


class _Wait(Exception):
    """A line cannot go on now. The text says why; empty: it was not begun."""


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
        poll_s: float = 1.0,
        ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._lane = lane
        self._pool = pool
        self._payments = payments
        self._caller_of = caller_of
        self._end = end
        self._box = box
        self._poll_s = poll_s
        self._needs_s = deadline_s + _MARGIN_S
        self._lease_s = max(_LEAST_LEASE_S, 2 * self._needs_s)
        self._ended = ended
        self._room = asyncio.Semaphore(LINES_AT_ONCE)
        self._loop: ClaimLoop[Group] = ClaimLoop(
            "batches", GROUPS, pool, self._look, work_of=lambda group: group.work, poll_s=poll_s
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
        """Ask whether batches were paused or cancelled, and now and then remove cut uploads."""
        look_at_uploads = 0.0
        while True:
            try:
                if monotonic() >= look_at_uploads:
                    look_at_uploads = monotonic() + _CUT_EVERY_S
                    await store.forget_cut(self._pool)
                wanted = {(g.batch.merchant_id, g.batch.id) for g in self._loop.under_way}
                states = await claims.states_of(self._pool, list(wanted)) if wanted else {}
                under_way = {group.batch.id for group in self._loop.under_way}
                self._states = {each: states.get(each, self._states[each]) for each in under_way}
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("the states of batches cannot be read: %s", error)
            await asyncio.sleep(_LOOK_EVERY_S)

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
            self._ended("later" if await work_list.postpone(self._pool, GROUPS, later) else "lost")
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
        batch = group.batch
        caller = await self._caller_of(batch.merchant_id, batch.mode)
        usable = caller is not None and caller.login is not None
        if not usable and self._states.get(batch.id) != "cancelled":  # which sends nothing more
            why = "The merchant is disabled."
            if caller is not None:
                why = f"The merchant's {batch.mode} account cannot be used. {caller.login_unusable}"
            await self._pause(batch, why)
            return why, _AGAIN_S
        lines = await claims.lines_of(self._pool, group)
        begun = await self._begun_before(group, lines)
        open_ = [line.line for line in lines if _is_open(begun.get(line.line))]
        new = [line for line in lines if begun.get(line.line) is None]
        again = [line for line in lines if _may_go_on(begun.get(line.line))]
        run = _GroupRun(self, group, caller)
        if group.open and (new or again):  # they count again among those under way
            await claims.mark_open(self._pool, group, False)
        await run.lines(new, again)
        await claims.leave_lines(self._pool, group, run.not_begun, "waiting")
        open_ += run.open
        cancelled = self._states.get(batch.id) == "cancelled"
        if cancelled:
            open_ += run.again  # they were not sent, and the resolver ends their operations
        await claims.leave_lines(self._pool, group, open_, "open")
        if run.again and not cancelled:
            return await self._after_failures(group, run.why)
        if run.sent:
            self._failing.pop(batch.id, None)
        if run.not_begun and not cancelled:
            if self.may_begin(group) and (open_ or run.busy or run.waits_for_open):
                await claims.mark_open(self._pool, group, True)
            return "", 0.0 if self._loop.stopping else _AGAIN_S
        if run.busy and not cancelled:
            await claims.mark_open(self._pool, group, True)
            return run.why, min(_BUSY_PAYMENT_MOST_S, _pause_s(group, _AGAIN_S))
        if open_:
            await claims.mark_open(self._pool, group, True)
            return "outcomes are unknown", _pause_s(group, _OPEN_FIRST_S)
        return None, 0.0

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
            await store.move(self._pool, batch, "pause", reason)

    async def _begun_before(self, group: Group, lines: Sequence[GroupLine]) -> dict[int, Operation]:
        """Return by line the operation that an earlier attempt has begun. Lines whose operation has
        ended, end with it."""
        of_line = {tried: line for line in lines for tried in line.tried or ()}
        begun: dict[int, Operation] = {}
        ends = []
        for operation in await claims.operations_of(self._pool, group, list(of_line)):
            line = of_line[operation.id]
            begun[line.line] = operation
            end = end_of_operation(group.batch, line.line, line.operation, operation)
            if end is not None:
                ends.append(self._end.submit(end))
        await asyncio.gather(*ends)
        return begun

    def may_begin(self, group: Group) -> bool:
        """Whether a line of a group may begin now."""
        return (
            not self._loop.stopping
            and self._states.get(group.batch.id) == "running"
            and group.work.still_held(self._needs_s)
        )


_OPEN: Final = (State.QUEUED, State.IN_FLIGHT, State.UNKNOWN)


def _is_open(operation: Operation | None) -> bool:
    """Whether an operation's outcome is to be waited for."""
    return operation is not None and operation.state in _OPEN


def _may_go_on(operation: Operation | None) -> bool:
    """Whether an operation was begun and is proven never sent: its key lets it begin again."""
    return operation is not None and operation.state is State.NOT_SENT


def _pause_s(group: Group, first_s: float) -> float:
    return backoff_s(group.work.attempt, first=first_s, factor=1.5, most=_OPEN_MOST_S)


class _GroupRun:
    """The lines of one group on their way. Those of the same payment go one after another."""

    def __init__(self, runner: Runner, group: Group, caller: Caller | None) -> None:
        self._runner = runner
        self._group = group
        self._batch: Batch = group.batch
        self._caller = caller
        self._over: dict[int, asyncio.Event] = {}
        self._payment_of: dict[int, UUID | None] = {}
        """The payments of earlier lines that have ended."""
        self._began = monotonic()
        self.not_begun: list[int] = []
        self.open: list[int] = []
        self.again: list[int] = []
        self.busy: list[int] = []
        """Lines whose payment has another operation under way. They alone wait for it."""
        self.waits_for_open = False
        """Whether a line waits for one of another group whose outcome is unknown."""
        self.sent = False
        """Whether a line got an answer."""
        self.why = ""

    async def lines(self, new: Sequence[GroupLine], again: Sequence[GroupLine]) -> None:
        """Send lines: `new` ones, and those whose operation was begun and never sent."""
        if not self._runner.may_begin(self._group):
            self.not_begun += [line.line for line in new]
            self.again += [line.line for line in again]
            return
        self._over = {line.line: asyncio.Event() for line in (*new, *again)}
        waits = await self._waiting_for_others([*new, *again])
        new = [line for line in new if line.line not in waits]
        self.not_begun += list(waits)
        given = await claims.begin_lines(
            self._runner._pool, self._group, [line.line for line in new]
        )
        reach("batch_lines_begun")
        self.again += [line.line for line in new if line.line not in given]
        every = [(line, given.get(line.line)) for line in new if line.line in given]
        every += [(line, None) for line in again if line.line not in waits]
        async with asyncio.TaskGroup() as tasks:
            for place, (line, operation_id) in enumerate(every):
                tasks.create_task(self._one(place, line, operation_id))

    async def _waiting_for_others(self, lines: Sequence[GroupLine]) -> set[int]:
        """Return the lines that must wait for lines of other groups, which have not ended."""
        before = {
            number
            for line in lines
            for number in (line.after_line, line.of_line)
            if number is not None and number not in self._over
        }
        found = await claims.earlier_lines(self._runner._pool, self._batch, list(before))
        self._payment_of |= {line: payment_id for line, (_, payment_id) in found.items()}
        unended = {line for line, (state, _) in found.items() if state not in ENDED}
        self.waits_for_open = any(state == "open" for state, _ in found.values())
        waits: set[int] = set()
        for line in sorted(lines, key=lambda each: each.line):
            if line.after_line in unended | waits or line.of_line in unended | waits:
                waits.add(line.line)
        for number in waits:
            self._over.pop(number, None)
        return waits

    async def _one(self, place: int, line: GroupLine, operation_id: UUID | None) -> None:
        runner = self._runner
        try:
            await self._turn(place, line)
            async with runner._room:
                if not runner.may_begin(self._group):
                    raise _Wait
                end = await self._send(line, operation_id)
            self.sent = True
            if end is None:
                self.open.append(line.line)
                return
            reach("batch_line_sent")
            await runner._end.submit(end)
            self._payment_of[line.line] = end.payment_id
        except _Wait as wait:
            (self.not_begun if operation_id else self.again).append(line.line)
            self.why = self.why or str(wait)
        except RequestInProgress as error:
            self.busy.append(line.line)
            self.why = self.why or error.detail
        except Exception as error:
            if not is_passing(error) and not isinstance(error, EasyPayError):
                log.exception("line %d of batch %s failed", line.line, self._batch.id)
            self.again.append(line.line)
            self.why = f"{type(error).__name__}: {error}"
        finally:
            self._over[line.line].set()

    async def _turn(self, place: int, line: GroupLine) -> None:
        """Wait for the line's turn: by the batch's rate, and after earlier lines of its payment."""
        rate = self._batch.lines_per_second
        if rate is not None:
            await asyncio.sleep(max(0.0, self._began + place / rate - monotonic()))
        for earlier in (line.of_line, line.after_line):
            if earlier in self._over:
                await self._over[earlier].wait()
                if earlier not in self._payment_of:  # it has not ended
                    raise _Wait

    async def _send(self, line: GroupLine, operation_id: UUID | None) -> LineEnd | None:
        """Send a line. Return how it ended; None if its outcome is unknown."""
        try:
            reply = await self._flow(line, operation_id)
        except EasyPayError as error:
            end = end_of_refusal(self._batch, line.line, error)
            if end is None:
                raise
            return end
        if isinstance(reply, LineEnd):
            return reply
        return end_of_reply(
            self._batch, line.line, line.operation, reply.status, reply.body, reply.operation_id
        )

    async def _flow(self, line: GroupLine, operation_id: UUID | None) -> Reply | LineEnd:
        batch, payments = self._batch, self._runner._payments
        form = line.request
        if form is None:
            assert line.sealed is not None, "a line has its request until it ends"
            plain = open_sealed(self._runner._box, line.sealed, batch.id, line.line)
        else:
            plain = form.encode()
        what = decode(plain)
        key = key_of(batch.id, line.line)
        assert self._caller is not None, "without one no line begins"
        ask = Ask(self._caller, key, sha256(key.encode()).digest(), operation_id=operation_id)
        if isinstance(what, PaymentLine):
            return await payments.create(ask, what)
        payment_id = line.payment_id
        if line.of_line is not None:
            payment_id = self._payment_of.get(line.of_line)
        if payment_id is None:
            return _no_payment(batch, line)
        match what:
            case CaptureLine():
                return await payments.capture(ask, payment_id, amount_of(what), None)
            case RefundLine():
                return await payments.refund(ask, payment_id, amount_of(what), None)
            case VoidLine():
                return await payments.void(ask, payment_id, None)
            case _:
                assert_never(what)


def _no_payment(batch: Batch, line: GroupLine) -> LineEnd:
    why = f"Line {line.of_line} made no payment, so there is nothing to act on."
    return LineEnd(
        *(batch.merchant_id, batch.id, line.line, "failed", None, None),
        *("no_payment", why, None, None),
    )
