"""The lines of one claimed group on their way: what was begun for them before, what is sent now,
and what is left.

Called by `batches.runner` for each claim of a group; sends through the flows of the API.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, assert_never
from uuid import UUID

import msgspec

from easypay import ids
from easypay.batches import claims
from easypay.batches.claims import Group, GroupLine, LineEnd
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
from easypay.batches.outcomes import (
    NOT_EXECUTED,
    end_of_operation,
    end_of_refusal,
    end_of_reply,
)
from easypay.clock import monotonic
from easypay.db.claim_loop import Traced
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.errors import EasyPayError, RequestInProgress
from easypay.failpoints import reach
from easypay.merchants.model import Caller
from easypay.merchants.vault import Box
from easypay.payments.begin import Ask
from easypay.payments.flows import Payments, Reply
from easypay.payments.model import Operation, State
from easypay.payments.outcome_changes import ended_unsent

log = logging.getLogger(__name__)

_OPEN: Final = (State.QUEUED, State.IN_FLIGHT, State.UNKNOWN)


class Means(NamedTuple):
    """What lines are sent with. `room` bounds how many are under way."""

    pool: Any
    payments: Payments
    end: GroupCommitter[LineEnd, None]
    box: Box
    room: asyncio.Semaphore
    traced: Traced | None = None


class Left(NamedTuple):
    """Lines that have not ended."""

    waiting: Sequence[int]
    """To be begun later."""
    open: Sequence[int]
    """Sent, and the outcome is unknown."""
    failed: Sequence[int]
    """They could not be sent."""
    busy: Sequence[int]
    """Their payment has another operation under way. They alone wait for it."""


class Begun(msgspec.Struct):
    """What earlier attempts of a line have begun."""

    now: Operation | None = None
    """The operation that counts."""
    unsent: UUID | None = None
    """The last one that ended without being sent. What it asked for may be begun anew."""
    ids: set[UUID] = msgspec.field(default_factory=set)


_NOTHING: Final = Begun()


class _Wait(Exception):
    """A line cannot begin now."""


class GroupRun:
    """The lines of one group on their way. Those of the same payment go one after another.

    `caller` is None if no line may be sent for the merchant.
    """

    def __init__(
        self, means: Means, group: Group, caller: Caller | None, may_begin: Callable[[], bool]
    ) -> None:
        self._means = means
        self._group = group
        self._batch: Batch = group.batch
        self._caller = caller
        self._runner_may = may_begin
        self._begun: dict[int, Begun] = {}
        self._over: dict[int, asyncio.Event] = {}
        self._payment_of: dict[int, UUID | None] = {}
        """The payments of earlier lines that have ended."""
        self._began = monotonic()
        self._waiting: list[int] = []
        self._open: list[int] = []
        self._failed: list[int] = []
        self._busy: list[int] = []
        self.waits_for_open = False
        """Whether a line waits for one of another group whose outcome is unknown."""
        self.sent = False
        """Whether a line got an answer."""
        self.why = ""

    def left(self, state: str | None) -> Left:
        """Return what is left of the group, by the present state of its batch."""
        waiting, failed, busy = self._waiting, self._failed, self._busy
        if state not in ("paused", "cancelled"):
            return Left(waiting, self._open, failed, busy)
        waiting = [*waiting, *failed, *busy]
        if state == "paused":
            return Left(waiting, self._open, (), ())
        # Nobody sends these any more, and the resolver ends their operations.
        begun = [line for line in waiting if self._begun_for(line).now is not None]
        waiting = [line for line in waiting if line not in begun]
        return Left(waiting, [*self._open, *begun], (), ())

    async def lines(self, *, cancelled: bool) -> None:
        """End lines whose operation has ended, and send those that may be sent."""
        lines = await claims.lines_of(self._means.pool, self._group)
        await self._look_back(lines, cancelled=cancelled)
        states = {line.line: _state_of(self._begun_for(line.line).now) for line in lines}
        self._open += [number for number, state in states.items() if state in _OPEN]
        to_send = [line for line in lines if states[line.line] in (None, State.NOT_SENT)]
        if not to_send or not self._may_begin():
            self._waiting += [line.line for line in to_send]
            return
        if self._group.open:  # they count again among those under way
            await claims.mark_open(self._means.pool, self._group, False)
        await self._send_all(to_send)

    async def _look_back(self, lines: Sequence[GroupLine], *, cancelled: bool) -> None:
        """Find what earlier attempts have begun. Lines whose operation has ended, end with it."""
        of_line = {tried: line for line in lines for tried in line.tried or ()}
        found = await claims.operations_of(self._means.pool, self._group, list(of_line))
        for operation in sorted(found, key=lambda each: each.id):
            begun = self._begun.setdefault(of_line[operation.id].line, Begun())
            begun.ids.add(operation.id)
            if ended_unsent(operation) and not cancelled:
                begun.unsent = operation.id
            else:
                begun.now = operation
        ends = []
        for line in lines:
            now = self._begun_for(line.line).now
            if now is not None:
                end = end_of_operation(self._batch, line.line, line.operation, now)
                ends += [] if end is None else [self._means.end.submit(end)]
        await asyncio.gather(*ends)

    def _begun_for(self, line: int) -> Begun:
        return self._begun.get(line, _NOTHING)

    def _may_begin(self) -> bool:
        return self._caller is not None and self._runner_may()

    async def _send_all(self, lines: Sequence[GroupLine]) -> None:
        pool, group = self._means.pool, self._group
        self._over = {line.line: asyncio.Event() for line in lines}
        waits = await self._waiting_for_others(lines)
        ready = [line for line in lines if line.line not in waits]
        for line in ready:
            if len(line.tried or ()) >= claims.MOST_TRIED:
                await claims.forget_tries(pool, group, line, self._begun_for(line.line).ids)
        given = await claims.begin_lines(pool, group, [line.line for line in ready])
        reach("batch_lines_begun")
        self._waiting += [line.line for line in lines if line.line not in given]
        async with asyncio.TaskGroup() as tasks:
            for place, line in enumerate(each for each in ready if each.line in given):
                tasks.create_task(self._one(place, line, given[line.line]))

    async def _waiting_for_others(self, lines: Sequence[GroupLine]) -> set[int]:
        """Return the lines that must wait for lines of other groups, which have not ended."""
        before = {
            number
            for line in lines
            for number in (line.after_line, line.of_line)
            if number is not None and number not in self._over
        }
        found = await claims.earlier_lines(self._means.pool, self._batch, list(before))
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

    async def _one(self, place: int, line: GroupLine, operation_id: UUID) -> None:
        try:
            await self._turn(place, line)
            async with self._means.room:
                if not self._may_begin():
                    raise _Wait
                sending = self._send(line, operation_id)
                if self._means.traced is not None:
                    about = {ids.OPERATION: operation_id, ids.BATCH: self._batch.id}
                    sending = self._means.traced("batch line", about, sending, None)
                end = await sending
            self.sent = True
            if end is None:
                self._open.append(line.line)
                return
            reach("batch_line_sent")
            await self._means.end.submit(end)
            self._payment_of[line.line] = end.payment_id
        except _Wait:
            self._waiting.append(line.line)
        except RequestInProgress as error:
            self._busy.append(line.line)
            self.why = self.why or error.detail
        except Exception as error:
            if not is_passing(error) and not isinstance(error, EasyPayError):
                log.exception("line %d of batch %s failed", line.line, self._batch.id)
            self._failed.append(line.line)
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

    async def _send(self, line: GroupLine, operation_id: UUID) -> LineEnd | None:
        """Send a line. Return how it ended; None if that is to be found out by its operation."""
        try:
            reply = await self._flow(line, operation_id)
        except EasyPayError as error:
            end = end_of_refusal(self._batch, line.line, error)
            if end is None:
                raise
            return end
        if isinstance(reply, LineEnd):
            return reply
        end = end_of_reply(
            self._batch, line.line, line.operation, reply.status, reply.body, reply.operation_id
        )
        if end is not None and end.outcome == NOT_EXECUTED:
            return None  # if it ended without being sent, it is begun anew
        return end

    async def _flow(self, line: GroupLine, operation_id: UUID) -> Reply | LineEnd:
        batch, payments = self._batch, self._means.payments
        form = line.request
        if form is None:
            if line.sealed is None:  # its batch was cancelled, and its customer erased
                raise _Wait
            plain = open_sealed(self._means.box, line.sealed, batch.id, line.line)
        else:
            plain = form.encode()
        what = decode(plain)
        key = key_of(batch.id, line.line, self._begun_for(line.line).unsent)
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


def _state_of(operation: Operation | None) -> State | None:
    return None if operation is None else operation.state


def _no_payment(batch: Batch, line: GroupLine) -> LineEnd:
    why = f"Line {line.of_line} made no payment, so there is nothing to act on."
    return LineEnd(
        *(batch.merchant_id, batch.id, line.line, "failed", None, None),
        *("no_payment", why, None, None),
    )
