"""Group commit: what arrives while a statement runs forms the next group; one commit for all.

An idle committer starts at once, so it adds no delay; a busy one gathers, and nothing ever waits
for a group to fill. A group is one round trip over one lane. At most as many groups run as there
are lanes; a second runs beside the first only where it is large, or where the first takes long.

The rules that keep a group from being worse than its members:

- an item may name the things it touches; no two items with a thing in common run at the same time
  in this process, neither in one group (an UPDATE joined to two rows would apply one) nor in two
  (opposite orders would deadlock). Across processes rows are locked in sorted order;
- where a group fails, its items run singly, so one bad row fails alone;
- a caller that goes away takes nothing with it: the item stays in its group;
- the queue is bounded; past it `submit` refuses at once, before anything is written;
- where the connection is lost, perhaps after the commit, the group runs again: every statement
  here can be repeated with the same ids and does its work once.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import asyncpg
import msgspec

from easypay.clock import monotonic
from easypay.db.connections import ConnectionLost, Lane
from easypay.errors import DatabaseUnavailable, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRYABLE = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    # Another process committed the same key while this ran: the second run sees it.
    asyncpg.UniqueViolationError,
)
MOST_RETRIES = 5
LONG_GROUP_S = 0.02

Watcher = Callable[[str, int, float, float], None]
"""Told of every group that came back: its committer's name, its size, how long its oldest item
waited to start, and how long the database took; seconds."""


def _nobody(name: str, size: int, waited_s: float, took_s: float) -> None:
    pass


class _Entry(msgspec.Struct, Generic[Item, Result]):
    """An item in the queue, with what is asked of it again and again while it waits and runs."""

    item: Item
    future: "asyncio.Future[Result]"
    since: float
    touches: Sequence[Hashable]
    variant: str


class GroupCommitter(Generic[Item, Result]):
    """Runs one statement for many items at a time.

    `arguments(items)` gives the statement's parameters for a group and `results(items, rows)` one
    result per item, in order. `touches(item)` names what the item may not share with another that
    is running. `order(item)` sorts a group. A group holds items of one `variant(item)`, which picks
    the text of the statement. `limit` bounds the queue (None: unbounded).
    `patience_s` is how long an item waits for a lost database before DatabaseUnavailable.
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
        watcher: Watcher = _nobody,
    ) -> None:
        self.name = name
        self.groups = 0
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
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._touched: set[Hashable] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._impatience: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many items stand in the queue."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Result:
        """Take part in the next group and wait for its commit.

        Raises Overloaded where the queue is full, DatabaseUnavailable where the database stays
        away, and whatever the item's own statement raised.
        """
        if self._limit is not None and len(self._waiting) >= self._limit:
            raise Overloaded(
                f"{len(self._waiting)} requests are waiting for the database; nothing was written. "
                "Repeat the request with the same Idempotency-Key.",
                retry_after_s=1,
            )
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(
            _Entry(item, future, monotonic(), self._touches(item), self._variant(item))
        )
        self._start()
        return await future

    async def close(self) -> None:
        """Wait for what runs and waits, then close the lanes."""
        while self._running:
            await asyncio.wait(self._running)
        if self._impatience is not None:
            self._impatience.cancel()
        for lane in self._lanes:
            await lane.close()

    def _start(self, *, small: bool = False) -> None:
        """Begin a group: at once where none runs. Beside another only where it is worth a commit
        of its own, since the cost of a statement is mostly per group, or (`small`) where that
        other takes long: what waits must not wait for somebody else's lock.
        """
        if not self._free or not self._waiting:
            return
        idle = len(self._free) == len(self._lanes)
        if idle or small or len(self._waiting) >= self._size // 2:
            lane = self._free.pop()
            task = asyncio.get_running_loop().create_task(self._work(lane))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif self._impatience is None:
            self._impatience = asyncio.get_running_loop().call_later(LONG_GROUP_S, self._look_again)

    def _look_again(self) -> None:
        self._impatience = None
        if self._runnable():
            self._start(small=monotonic() - self._waiting[0].since >= LONG_GROUP_S)

    async def _work(self, lane: Lane) -> None:
        """Run groups over one lane until nothing is waiting."""
        try:
            while group := self._next_group():
                self._start()  # what was left behind may go at once over another lane
                try:
                    await self._run_group(lane, group)
                finally:
                    for entry in group:
                        self._touched.difference_update(entry.touches)
        finally:
            self._free.append(lane)
            if self._runnable():  # items held back by what the last group touched
                self._start()

    def _runnable(self) -> bool:
        """Is there anything waiting that touches nothing that runs?"""
        return any(self._touched.isdisjoint(entry.touches) for entry in self._waiting)

    def _next_group(self) -> list[_Entry[Item, Result]]:
        """What can run now: of one variant, touching nothing that runs, the oldest first."""
        group: list[_Entry[Item, Result]] = []
        held: list[_Entry[Item, Result]] = []
        variant: str | None = None
        while self._waiting and len(group) < self._size:
            entry = self._waiting.popleft()
            if self._touched.isdisjoint(entry.touches) and variant in (None, entry.variant):
                variant = entry.variant
                self._touched.update(entry.touches)
                group.append(entry)
            else:
                held.append(entry)
        self._waiting.extendleft(reversed(held))
        return group

    async def _run_group(self, lane: Lane, group: list[_Entry[Item, Result]]) -> None:
        group.sort(key=lambda entry: self._order(entry.item))  # type: ignore[arg-type,return-value]
        self.groups += 1
        try:
            results = await self._run(lane, group)
        except Exception as error:  # noqa: BLE001 - it is handed to the callers
            if len(group) == 1 or isinstance(error, DatabaseUnavailable):
                for entry in group:
                    if not entry.future.done():
                        entry.future.set_exception(error)
            else:
                for entry in group:
                    await self._run_group(lane, [entry])
            return
        for entry, result in zip(group, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(result)

    async def _run(self, lane: Lane, group: list[_Entry[Item, Result]]) -> Sequence[Result]:
        items = [entry.item for entry in group]
        since = min(entry.since for entry in group)
        retries = 0
        while True:
            begun = monotonic()
            try:
                rows = await lane.fetch(self._arguments(items), group[0].variant)
                self._watcher(self.name, len(items), begun - since, monotonic() - begun)
                return self._results(items, rows)
            except ConnectionLost as error:
                if monotonic() - since > self._patience_s:
                    raise DatabaseUnavailable(
                        "The database cannot be reached. Repeat the request with the same "
                        "Idempotency-Key: it finds out what became of this one.",
                        retry_after_s=2,
                    ) from error
            except RETRYABLE:
                if len(items) > 1 or retries >= MOST_RETRIES:
                    raise
            retries += 1
            await asyncio.sleep(min(0.5, 0.02 * 2**retries) * (0.5 + random.random()))  # noqa: S311
