"""Group commit: items that arrive while a statement runs form the next group; one commit for all.

An idle committer starts at once, so it adds no delay; a busy one gathers. Nothing waits for a group
to fill, unless nobody waits for the items: then `gather_s` makes fewer and larger groups. A group
is one round trip over one lane. At most as many groups run as there are lanes; a second group runs
beside the first only if it is large, or if the first takes long.

These rules keep items from harming each other:

- an item may name the things it touches; no two items with a thing in common run at the same time
  in this process, neither in one group (an UPDATE joined to two rows would apply one) nor in two
  (opposite orders would deadlock). Across processes rows are locked in sorted order;
- if a group fails, its items run singly, so one bad row fails alone. An item that failed because of
  a lock or a timeout is retried later, alone, over one lane: one locked row holds up no others;
- a caller that goes away changes nothing: its item stays in its group. `on_left` is called for an
  item that may have been written after its caller went away;
- no caller waits longer than `patience_s`. An item that is still queued then is removed unwritten;
- the queue is bounded; if it is full, `submit` refuses at once, before anything is written;
- if the connection is lost, perhaps after the commit, the group runs again for as long as any
  caller waits: every statement here can be repeated with the same ids and takes effect once.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import asyncpg
import msgspec

from easypay.clock import stopwatch
from easypay.db.connections import Lane
from easypay.db.failures import ConnectionLost, Failure, failure_of
from easypay.errors import DatabaseUnavailable, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_RETRIES = 5
"""For an item whose row exists already: another process committed the same key while this one ran,
and the second run sees it."""
LONG_GROUP_S = 0.02
CLOSE_WITHIN_S = 5.0
RECENT_S = 1.0
STUCK_S = 2.0
FAILED_FOR_S = 5.0
"""How long a server failure counts against the server if no group succeeded since."""
_SERVER_TROUBLE = frozenset({"53", "58", "XX"})
"""Disk full, out of memory, I/O errors: an empty group would not meet them."""

Watcher = Callable[[str, int, float, float], None]
"""Called after each group commits, with the committer's name, the group's size, how long its oldest
item waited to start, and how long the database took; both in seconds."""


def _nobody(name: str, size: int, waited_s: float, took_s: float) -> None:
    pass


def _not_told(sql: str, took_s: float, planned: Mapping[str, str]) -> None:
    pass


class Entry(msgspec.Struct, Generic[Item, Result], eq=False):
    """An item in the queue, with what it touches and its variant, computed once."""

    item: Item
    future: "asyncio.Future[Result]"
    since: float
    touches: Sequence[Hashable]
    variant: str
    alone: bool = False
    """It failed before, so it runs in a group of its own."""
    tries: int = 0
    context: object = None
    """Whatever `new_entry` adds for `on_group`."""


class _NobodyWaits(Exception):
    """Every caller of a group is gone, so the group is not repeated. It may have committed."""


class GroupCommitter(Generic[Item, Result]):
    """Runs one statement for many items at a time.

    `arguments(items)` returns the statement's parameters for a group and `results(items, rows)` one
    result per item, in order. `touches(item)` names what the item must not share with another that
    is running. `order(item)` sorts a group. A group holds items of one `variant(item)`, which picks
    the text of the statement. `limit` bounds the queue (None: unbounded).
    `patience_s` is how long a caller waits before DatabaseUnavailable. A group begins `gather_s`
    after its first item came, or once there are enough. A committer is made inside the event loop
    that it serves.
    """

    def __init__(
        self,
        name: str,
        lanes: Sequence[Lane],
        *,
        arguments: Callable[[Sequence[Item]], Sequence[object]],
        results: Callable[[Sequence[Item], list[asyncpg.Record]], Sequence[Result]],
        order: Callable[[Item], object],
        touches: Callable[[Item], Sequence[Hashable]] = lambda _: (),
        variant: Callable[[Item], str] = lambda _: "",
        size: int,
        limit: int | None,
        patience_s: float,
        gather_s: float = 0.0,
        watcher: Watcher = _nobody,
    ) -> None:
        self.name = name
        self.groups = 0
        self.on_left: Callable[[Item], None] = lambda _: None
        """Called with an item that may have been written after its caller had gone."""
        self.new_entry: Callable[..., Entry[Item, Result]] = Entry
        """Makes the entry of an item, in the task that waits for it."""
        self.on_group: Callable[[str, Sequence[Entry[Any, Any]], float, float], None] | None = None
        """Called after each group commits, if it is set: with the committer's name, the entries,
        and when the statement began and ended (`clock.stopwatch`)."""
        self.slow_s = math.inf
        self.on_slow: Callable[[str, float, Mapping[str, str]], None] = _not_told
        """Called after a statement that took `slow_s` or longer, also if it failed: with its text,
        how long it took, and the settings under which it was planned."""
        # Kept, as until Python 3.12 each get_running_loop() asks the system for the process id.
        self._loop = asyncio.get_running_loop()
        self._watcher = watcher
        self._lanes = list(lanes)
        self._free = list(lanes)
        self._arguments = arguments
        self._results = results
        self._order = order
        self._touches = touches
        self._variant = variant
        self._size = size
        self._limit = limit
        self._patience_s = patience_s
        self._gather_s = gather_s
        self._waiting: deque[Entry[Item, Result]] = deque()
        self._postponed: set[Entry[Item, Result]] = set()
        self._at_work: dict[Lane, list[Entry[Item, Result]]] = {}
        self._begun: dict[Lane, float] = {}
        self._touched: set[Hashable] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._alone_runs = False
        self._closed = False
        self._impatience: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._last_good = -math.inf
        self._last_bad = (-math.inf, "")

    @property
    def waiting(self) -> int:
        """How many items stand in the queue."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Result:
        """Add the item to the next group and wait for its commit.

        Raises Overloaded if the queue is full, DatabaseUnavailable if the database does not answer
        in time, and whatever the item's own statement raised.
        """
        if self._limit is not None and len(self._waiting) >= self._limit:
            raise Overloaded(
                f"{len(self._waiting)} requests are waiting for the database; nothing was written. "
                "Repeat the request with the same Idempotency-Key."
            )
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append(
            self.new_entry(item, future, stopwatch(), self._touches(item), self._variant(item))
        )
        if self._patience is None and self._patience_s < math.inf:
            self._look_at_patience_in(self._patience_s)
        self._start()
        return await future

    async def why_not(self) -> str | None:
        """Return why a group would fail now, or None if one has just succeeded or would succeed.

        An idle committer tries an empty group: it reaches the server and writes nothing, and a
        read-only server refuses it. Raises the lane's error.
        """
        now = stopwatch()
        if now - self._last_good < RECENT_S:
            return None
        failed_at, why = self._last_bad
        if failed_at > self._last_good and now - failed_at < FAILED_FOR_S:
            return why
        if not self._free:
            stuck_s = now - min(self._begun.values(), default=now)
            return f"every {self.name} takes long" if stuck_s > STUCK_S else None
        lane = self._free.pop(0)  # the one that has been idle the longest
        try:
            await lane.fetch(self._arguments([]))
        finally:
            self._free.append(lane)
            if self._runnable():
                self._start()
        self._last_good = stopwatch()
        return None

    async def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Wait up to `within_s` for what runs and waits, then close the lanes."""
        give_up_at = stopwatch() + within_s
        self._gather_s = 0.0
        self._start()
        while self._running and stopwatch() < give_up_at:
            await asyncio.wait(self._running, timeout=give_up_at - stopwatch())
        self._closed = True
        for entry in self._unfinished():
            _refuse(entry, written=True)
        for timer in (self._impatience, self._patience):
            if timer is not None:
                timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*(lane.close(within_s) for lane in self._lanes))

    # starting groups ---------------------------------------------------------------------------

    def _start(self, *, small: bool = False) -> None:
        """Begin a group at once if none runs. Beside another, begin only if the group is worth its
        own commit, because most of a statement's cost is per group, or (`small`) if the other takes
        long: items must not wait for a lock that does not concern them.
        """
        if not self._free or not self._waiting or self._closed:
            return
        idle = len(self._free) == len(self._lanes)
        if (idle and self._gathered()) or small or len(self._waiting) >= self._size // 2:
            lane = self._free.pop()
            task = self._loop.create_task(self._work(lane))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif self._impatience is None:
            # It is idle and gathers, or it is busy.
            after_s = max(0.001, self._gather_s - self._waited_s()) if idle else LONG_GROUP_S
            self._impatience = self._loop.call_later(after_s, self._look_again)

    def _waited_s(self) -> float:
        """Return how long the item has waited that is first in the queue."""
        return stopwatch() - self._waiting[0].since

    def _gathered(self) -> bool:
        """Whether what waits need not wait for more."""
        return (
            not self._gather_s
            or not self._waiting
            or len(self._waiting) >= self._size // 2
            or self._waited_s() >= self._gather_s
        )

    def _look_again(self) -> None:
        self._impatience = None
        if self._runnable():
            self._start(small=self._waited_s() >= LONG_GROUP_S)

    async def _work(self, lane: Lane) -> None:
        """Run groups over one lane until nothing is waiting that need not gather."""
        try:
            while self._gathered() and (group := self._next_group()):
                self._at_work[lane] = group
                alone = group[0].alone
                self._alone_runs |= alone
                self._start()  # items that were left over may run now, over another lane
                try:
                    await self._run_group(lane, group)
                finally:
                    del self._at_work[lane]
                    self._begun.pop(lane, None)
                    if alone:
                        self._alone_runs = False
                    for entry in group:
                        self._touched.difference_update(entry.touches)
        finally:
            self._free.append(lane)
            if self._runnable():  # items held back by what the last group touched
                self._start()

    def _may_run(self, entry: Entry[Item, Result]) -> bool:
        """Whether it touches nothing that runs. Of items that failed before, one runs at a time."""
        return self._touched.isdisjoint(entry.touches) and not (entry.alone and self._alone_runs)

    def _runnable(self) -> bool:
        return any(map(self._may_run, self._waiting))

    def _next_group(self) -> list[Entry[Item, Result]]:
        """Take what can run now: items of one variant that touch nothing running, oldest first."""
        group: list[Entry[Item, Result]] = []
        held: list[Entry[Item, Result]] = []
        variant: str | None = None
        while self._waiting and len(group) < self._size:
            entry = self._waiting.popleft()
            fits = variant in (None, entry.variant) and not (entry.alone and group)
            if fits and self._may_run(entry):
                variant = entry.variant
                self._touched.update(entry.touches)
                group.append(entry)
                if entry.alone:
                    break
            else:
                held.append(entry)
        self._waiting.extendleft(reversed(held))
        return group

    # running a group ---------------------------------------------------------------------------

    async def _run_group(self, lane: Lane, group: list[Entry[Item, Result]]) -> None:
        group.sort(key=lambda entry: self._order(entry.item))  # type: ignore[arg-type,return-value]
        self.groups += 1
        try:
            results = await self._run(lane, group)
        except _NobodyWaits:
            for entry in group:
                self.on_left(entry.item)
        except Exception as error:  # noqa: BLE001 - the callers get it
            if len(group) == 1:
                self._fail(group[0], error)
                return
            for entry in group:
                if not entry.future.done():
                    await self._run_group(lane, [entry])
        else:
            for entry, result in zip(group, results, strict=True):
                if entry.future.done():
                    self.on_left(entry.item)
                else:
                    entry.future.set_result(result)

    async def _run(self, lane: Lane, group: list[Entry[Item, Result]]) -> Sequence[Result]:
        """Run a group until it has an answer, over as many connections as that takes.

        Raises the server's error; then nothing of the group was written.
        """
        items = [entry.item for entry in group]
        since = min(entry.since for entry in group)
        losses = 0
        while True:
            begun = self._begun[lane] = stopwatch()
            try:
                rows = await lane.fetch(self._arguments(items), group[0].variant)
            except ConnectionLost as error:
                self._tell_if_slow(lane, group[0].variant, stopwatch() - begun)
                losses += 1
                await asyncio.sleep(_pause_s(losses))
                if all(entry.future.done() for entry in group):
                    raise _NobodyWaits from error
            except Exception as error:
                self._tell_if_slow(lane, group[0].variant, stopwatch() - begun)
                if getattr(error, "sqlstate", "")[:2] in _SERVER_TROUBLE:
                    self._last_bad = (stopwatch(), f"{self.name}: {type(error).__name__}")
                raise
            else:
                now = self._last_good = stopwatch()
                self._watcher(self.name, len(items), begun - since, now - begun)
                if now - begun >= self.slow_s:
                    self._tell_if_slow(lane, group[0].variant, now - begun)
                if self.on_group is not None:
                    self.on_group(self.name, group, begun, now)
                return self._results(items, rows)

    def _tell_if_slow(self, lane: Lane, variant: str, took_s: float) -> None:
        if took_s >= self.slow_s:
            self.on_slow(lane.sql(variant), took_s, lane.planned)

    def _fail(self, entry: Entry[Item, Result], error: Exception) -> None:
        """Handle an item that failed alone and wrote nothing: retry it later or tell its caller."""
        if entry.future.done():
            return
        retry = failure_of(error) is Failure.TEMPORARY
        if isinstance(error, asyncpg.UniqueViolationError):
            retry = entry.tries < MOST_RETRIES
        if not retry:
            entry.future.set_exception(error)
            return
        entry.alone = True
        entry.tries += 1
        self._postponed.add(entry)
        task = self._loop.create_task(self._retry(entry))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _retry(self, entry: Entry[Item, Result]) -> None:
        await asyncio.sleep(_pause_s(entry.tries))
        self._postponed.discard(entry)
        if not entry.future.done():
            self._waiting.append(entry)
            self._start()

    # time limits of callers --------------------------------------------------------------------

    def _look_at_patience_in(self, after_s: float) -> None:
        self._patience = self._loop.call_later(after_s, self._look_at_patience)

    def _look_at_patience(self) -> None:
        """Refuse the items that are too old. One timer serves all: it is set for the oldest."""
        self._patience = None
        too_old = stopwatch() - self._patience_s
        unwritten = {entry for entry in self._waiting if entry.since <= too_old}
        if unwritten:
            self._waiting = deque(entry for entry in self._waiting if entry not in unwritten)
        for entry in unwritten | self._postponed:
            if entry.since <= too_old:
                _refuse(entry, written=False)
        for entry in self._unfinished():
            if entry.since <= too_old:
                _refuse(entry, written=True)
        oldest = min((e.since for e in self._unfinished() if not e.future.done()), default=None)
        if oldest is not None:
            self._look_at_patience_in(max(oldest - too_old, 0.001))

    def _unfinished(self) -> list[Entry[Item, Result]]:
        """Return everything that was accepted and has no result."""
        at_work = [entry for group in self._at_work.values() for entry in group]
        return [*at_work, *self._postponed, *self._waiting]


def _pause_s(failures: int) -> float:
    return min(0.5, 0.02 * 2.0 ** min(failures, 10)) * (0.5 + random.random())  # noqa: S311


def _refuse(entry: Entry[Item, Result], *, written: bool) -> None:
    """Tell the caller to repeat the request. `written`: the item may have been, or may yet be."""
    if not entry.future.done():
        what = (
            "the answer tells what became of this one."
            if written
            else "nothing was written for this one."
        )
        entry.future.set_exception(
            DatabaseUnavailable(
                "The database does not answer in time. Repeat the request, with the same "
                f"Idempotency-Key if it has one: {what}"
            )
        )
