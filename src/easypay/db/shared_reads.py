"""One read for all who ask the same at the same time.

A read that has begun may miss what was committed since. So whoever asks while one runs waits for
the next, and all who wait share that one. It begins after each of them has asked, so every answer
is as new as one of their own would be. However many clients ask the same, one read runs at a time.

Nobody waits longer than two reads take, and these have limits. So many wait at most, and others are
refused at once: a client who has left is waiting still, so connections alone set no limit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

from easypay.errors import Overloaded

MOST_WAITING: Final = 1000
"""Each takes about 15 KB, and all who share a read are answered in one go: a thousand in 40 ms."""

T = TypeVar("T")
Ask = Callable[[], Awaitable[Any]]


class _Waiting:
    """Those who came while a read ran, and how the last of them asks."""

    __slots__ = ("ask", "callers")

    def __init__(self) -> None:
        self.callers: list[asyncio.Future[Any]] = []
        self.ask: Ask


class SharedReads:
    """Runs reads, each for everybody who asked for the same before it began.

    At most `most` callers wait for another's read. `shared` counts the answers that came from one.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._running: dict[Hashable, _Waiting] = {}
        self._rounds: set[asyncio.Task[None]] = set()
        self._most = most
        self._count = 0
        self.shared = 0

    async def read(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returns, or what it returned for another caller with the same key.

        `key` must name all that the answer depends on, except the time: of those who share a read,
        the last one's `ask` is called. Nobody may change the answer. Raises what `ask` raises,
        and Overloaded if too many wait.
        """
        waiting = self._running.get(key)
        if waiting is not None:
            return await self._share(waiting, ask)
        self._running[key] = _Waiting()
        try:
            return await ask()
        finally:
            self._go_on(key)

    async def _share(self, waiting: _Waiting, ask: Callable[[], Awaitable[T]]) -> T:
        """Wait for the read that begins when the present one has ended."""
        if self._count >= self._most:
            raise Overloaded(
                f"{self._count} requests wait for what others are reading. Nothing was read. "
                "Repeat the request; wait longer each time.",
                retry_after_s=1,
            )
        mine: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting.callers.append(mine)
        waiting.ask = ask
        self._count += 1
        try:
            return await mine
        finally:
            self._count -= 1

    def _go_on(self, key: Hashable) -> None:
        """After a read, begin the next if anybody waits for it. Nobody can join that one now."""
        waiting = self._running.pop(key)
        callers = [each for each in waiting.callers if not each.done()]
        if callers:
            self._running[key] = _Waiting()
            task = asyncio.create_task(self._read_for(callers, key, waiting.ask))
            self._rounds.add(task)
            task.add_done_callback(self._rounds.discard)

    async def _read_for(self, callers: list[asyncio.Future[Any]], key: Hashable, ask: Ask) -> None:
        """Read once for all of these callers. Those who have left meanwhile are passed over."""
        try:
            answer = await ask()
        except BaseException as error:
            for caller in callers:
                if caller.done():
                    continue
                if isinstance(error, Exception):
                    caller.set_exception(error)
                else:
                    caller.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            self.shared += len(callers) - 1
            for caller in callers:
                if not caller.done():
                    caller.set_result(answer)
        finally:
            self._go_on(key)
