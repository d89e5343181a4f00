"""A loop for work whose pieces write their own ends: claim, begin each piece, and stop cleanly.

`db.work_loop` also writes how each piece ended. Money work cannot use it: the end of an operation
or of a batch's lines is more than the end of a row, and is committed by the piece itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import asyncpg

from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.connections import LOST
from easypay.db.failures import is_passing
from easypay.db.work_list import Work, WorkList

log = logging.getLogger(__name__)

Piece = TypeVar("Piece")

Traced = Callable[
    [str, Mapping[str, UUID], Coroutine[Any, Any, Any], tuple[UUID, int] | None],
    Coroutine[Any, Any, Any],
]
"""Does a piece of work under a trace of its own. With the name of the work, ids of what it is about
by their kinds, and the trace and span that it goes back to."""

GATHER_S: Final = 0.02
"""The usual pause after each claim, however much is due. A claim of few rows costs as much as one
of many, and so do the begins and ends of what was claimed together."""
_BUSY_S: Final = 0.05
_STAYS_BUSY_S: Final = 2.0
_AGAIN_S: Final = 1.0
"""After a failed claim."""
_GIVE_BACK_S: Final = 1.0
"""How long a worker that stops tries to give back what it did not do."""


class ClaimLoop(Generic[Piece]):
    """Calls `claim` until `stop`. It claims all that there is room for, and calls `begin` for each
    piece. Between two calls there is a pause: `poll_s` seconds, or less while there is work, but
    at least `gather_s`, in which rows gather that come one by one.

    `work_of` returns the claimed row of a piece. `name` is what is claimed, for the log."""

    def __init__(
        self,
        name: str,
        listed: WorkList,
        pool: Any,
        claim: Callable[[], Awaitable[None]],
        *,
        work_of: Callable[[Piece], Work],
        poll_s: float,
        gather_s: float = GATHER_S,
    ) -> None:
        self._name = name
        self._list = listed
        self._pool = pool
        self._claim = claim
        self._work_of = work_of
        self._poll_s = poll_s
        self._gather_s = gather_s
        self._tasks: dict[asyncio.Task[None], Piece] = {}
        self._claiming = asyncio.Lock()
        self._woken = asyncio.Event()
        self.stopping = False

    @property
    def under_way(self) -> Collection[Piece]:
        """The pieces that were begun and have not ended."""
        return self._tasks.values()

    def wake(self) -> None:
        """Claim now."""
        self._woken.set()

    def begin(self, piece: Piece, doing: Coroutine[Any, Any, None]) -> None:
        """Let a claimed piece be done. When it ends, the loop looks for more."""
        task = asyncio.create_task(doing)
        self._tasks[task] = piece
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._tasks[task]
        self.wake()

    async def run(self) -> None:
        """Claim until `stop` or until cancelled. Raises errors of `claim` that do not pass."""
        busy_until = 0.0
        while not self.stopping:
            self._woken.clear()
            try:
                async with self._claiming:
                    if not self.stopping:
                        await self._claim()
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("%s cannot be claimed: %s", self._name, error)
                await asyncio.sleep(_AGAIN_S)  # what fails meanwhile, too, does not end the pause
                continue
            if self._tasks:
                busy_until = monotonic() + _STAYS_BUSY_S
            busy = monotonic() < busy_until
            await self._rest(min(_BUSY_S, self._poll_s) if busy else self._poll_s)

    async def _rest(self, most_s: float) -> None:
        await asyncio.sleep(min(self._gather_s, most_s))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), max(0.0, most_s - self._gather_s))

    async def stop(self, within_s: float) -> None:
        """Claim no more, and wait for what is claimed. Give back what is not done in time, due at
        once."""
        self.stopping = True
        self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async with self._claiming:
                    pass  # what was just being claimed is under way, too
                if self._tasks:
                    await asyncio.wait(self._tasks)
        left = dict(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        works = [self._work_of(piece) for task, piece in left.items() if task.cancelled()]
        back = [(work.key, work.attempt, 0.0, None) for work in works]
        with suppress(*LOST, asyncpg.PostgresError, TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_S):
                await work_list.postpone(self._pool, self._list, back)
