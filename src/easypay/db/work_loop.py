"""A loop that works on one work list: claim a group, do each piece of work, write how they ended.

Several pieces are done at the same time, and one that is slow holds up no other. Their ends are
written in groups: those that ended while the last group was written form the next. A piece counts
against `at_once` until its end is written, so nothing here grows without bound.

`do(work)` returns how it ended. If it raises, or takes nearly as long as its lease, the schedule
says when it is tried again, or that it is parked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, assert_never

import msgspec

from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.claim_window import ClaimWindow
from easypay.db.failures import is_passing
from easypay.db.work_list import Work, WorkList, backoff_s

log = logging.getLogger(__name__)

BUSY_POLL_S: Final = 0.1
IDLE_POLL_S: Final = 1.0
BUSY_FOR_S: Final = 1.0
"""A list in which something was found counts as busy for so long."""
_AGAIN_S: Final = 0.5
_PART_OF_LEASE: Final = 0.8
_WRITE_ENDS_S: Final = 3.0


class Done(msgspec.Struct, frozen=True):
    """The work is done: its row is deleted."""


class Later(msgspec.Struct, frozen=True):
    """It is tried again in `delay_s` seconds. `reason` None: it was not begun."""

    delay_s: float
    reason: str | None


class GiveUp(msgspec.Struct, frozen=True):
    """It is parked until a person decides."""

    reason: str


End = Done | Later | GiveUp
EndWatcher = Callable[[str], None]
"""Called with `done`, `later` or `parked` for each end that was written, and with `lost` for one of
which another worker had claimed the work meanwhile."""


class Schedule(msgspec.Struct, frozen=True):
    """When failed work is tried again: first after `first_s`, each further time `factor` times
    later, at most after `most_s`; parked after so many attempts."""

    first_s: float = 1.0
    factor: float = 2.0
    most_s: float = 600.0
    attempts: int = 20

    def after(self, work: Work, reason: str) -> End:
        """Return how an attempt ends that failed for this reason."""
        if work.attempt >= self.attempts:
            return GiveUp(reason)
        pause_s = backoff_s(work.attempt, first=self.first_s, factor=self.factor, most=self.most_s)
        return Later(pause_s, reason)


class WorkLoop:
    """Works on one list while `run` runs. `ended` is told how each piece of work ended."""

    def __init__(
        self,
        name: str,
        listed: WorkList,
        dsn: str,
        do: Callable[[Work], Awaitable[End]],
        *,
        at_once: int,
        lease_s: float,
        schedule: Schedule,
        ended: EndWatcher = lambda _: None,
    ) -> None:
        self.name = name
        self._list = listed
        self._do = do
        self._at_once = at_once
        self._lease_s = lease_s
        self._schedule = schedule
        self._ended = ended
        self._window = ClaimWindow()
        self._claims = work_list.work_lane(dsn, listed)
        self._writes = work_list.work_lane(dsn, listed)
        self._running: set[asyncio.Task[None]] = set()
        self._ends: list[tuple[Work, End]] = []
        self._under_way = 0
        """Pieces that are being done, and those whose end is not written yet."""
        self._stopping = False
        self._look = asyncio.Event()
        self._to_write = asyncio.Event()
        self._all_written = asyncio.Event()
        self._all_written.set()

    def wake(self) -> None:
        """Look at the list now: something was written into it."""
        self._look.set()

    async def run(self) -> None:
        """Work until `stop`. What the database refuses for a while is tried again."""
        writing = asyncio.create_task(self._write_ends())
        try:
            await self._claim_on()
            await (
                asyncio.Event().wait()
            )  # `stop` ends what is under way; then the task is cancelled
        finally:
            writing.cancel()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, and wait for what is under way. Give back the rest, due at once."""
        self._stopping = True
        self.wake()
        if self._running:
            await asyncio.wait(self._running, timeout=within_s)
        for task in self._running:
            task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_written.wait(), _WRITE_ENDS_S)
        await asyncio.gather(self._claims.close(), self._writes.close())

    async def _claim_on(self) -> None:
        busy_until = 0.0
        while not self._stopping:
            self._look.clear()
            free = self._at_once - self._under_way
            found: list[Work] = []
            if free >= max(1, self._at_once // 4):  # a claim of few costs as much as one of many
                try:
                    found = await work_list.claim_next(
                        self._claims, self._list, self._window, most=free, lease_s=self._lease_s
                    )
                except Exception as error:
                    if not is_passing(error):
                        raise
                    log.warning("%s: the work list cannot be read: %s", self.name, error)
                    await asyncio.sleep(_AGAIN_S)
                    continue
            for work in found:
                self._begin(work)
            now = monotonic()
            if found:
                busy_until = now + BUSY_FOR_S
            if found and len(found) == free:
                continue  # there may be more; if there is no room, the next turn waits
            with suppress(TimeoutError):
                pause_s = BUSY_POLL_S if now < busy_until or self._under_way else IDLE_POLL_S
                await asyncio.wait_for(self._look.wait(), pause_s)

    def _begin(self, work: Work) -> None:
        self._under_way += 1
        self._all_written.clear()
        task = asyncio.create_task(self._work(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _work(self, work: Work) -> None:
        end: End = Later(0.0, None)  # if this process stops
        try:
            limit_s = work.held_until - monotonic() - (1 - _PART_OF_LEASE) * self._lease_s
            async with asyncio.timeout(limit_s) as limit:
                end = await self._do(work)
        except TimeoutError as error:
            what = "it took too long" if limit.expired() else f"TimeoutError: {error}"
            end = self._schedule.after(work, what)
        except Exception as error:
            end = self._schedule.after(work, f"{type(error).__name__}: {error}")
            if not is_passing(error):
                log.exception("%s: work failed in a way that nobody expected", self.name)
        finally:
            self._ends.append((work, end))
            self._to_write.set()

    async def _write_ends(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            ends = list(self._ends)
            while not await self._written(ends):  # noqa: ASYNC110
                await asyncio.sleep(_AGAIN_S)
            del self._ends[: len(ends)]
            self._under_way -= len(ends)
            if self._under_way == 0:
                self._all_written.set()
            self._look.set()

    async def _written(self, ends: list[tuple[Work, End]]) -> bool:
        """Whether the ends could be written. Writing some of them twice changes nothing."""
        done, later, parked = [], [], []
        for work, end in ends:
            match end:
                case Done():
                    done.append((work.key, work.attempt))
                case Later(delay_s, reason):
                    later.append((work.key, work.attempt, delay_s, reason))
                case GiveUp(reason):
                    parked.append((work.key, work.attempt, reason))
                case _:
                    assert_never(end)
        lane, listed = self._writes, self._list
        try:
            counts = {
                "done": len(await work_list.finish(lane, listed, done)),
                "later": len(await work_list.postpone(lane, listed, later)),
                "parked": len(await work_list.park(lane, listed, parked)),
            }
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("%s: what was done cannot be written yet: %s", self.name, error)
            return False
        counts["lost"] = len(ends) - sum(counts.values())
        for how, count in counts.items():
            for _ in range(count):
                self._ended(how)
        return True
