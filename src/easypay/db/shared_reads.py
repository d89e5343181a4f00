"""One read for all who ask the same at the same time.

A read that has begun may miss what was committed since. So whoever asks while one runs waits for
the next, and all who wait share that one. It begins after each of them has asked, so every answer
is as new as one of their own would be. However many clients ask the same, one read runs at a time.

Nobody waits longer than two reads take, and these have limits. No more can wait than are connected.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

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

    `shared` counts the answers that came from another caller's read.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, _Waiting] = {}
        self._rounds: set[asyncio.Task[None]] = set()
        self.shared = 0

    async def read(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returns, or what it returned for another caller with the same key.

        `key` must name all that the answer depends on, except the time: of those who share a read,
        the last one's `ask` is called. Nobody may change the answer. Raises what `ask` raises.
        """
        waiting = self._running.get(key)
        if waiting is not None:
            mine: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            waiting.callers.append(mine)
            waiting.ask = ask
            return await mine
        self._running[key] = _Waiting()
        try:
            return await ask()
        finally:
            self._go_on(key)

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
