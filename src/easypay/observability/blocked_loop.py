"""Finds what blocks an event loop: a thread looks twenty times a second whether the loop still
turns, and if it does not, where it stands.

A request pays nothing for it. What holds Python's lock all the time (a long call into C) also holds
up the thread that looks; it is then logged by where the loop is right afterwards.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from traceback import walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Final

from easypay.clock import monotonic

log = logging.getLogger(__name__)

BLOCKED_S: Final = 0.1
_BEAT_S: Final = 0.05
_QUIET_S: Final = 60.0
"""How long a place that was logged is not logged again."""
_MOST_FRAMES: Final = 12
_MOST_PLACES: Final = 200
_OURS: Final = f"{os.sep}easypay{os.sep}"


class BlockedLoop:
    """Watches the loop that it runs in. `found` is called once for each time that it was blocked,
    from the thread that looks."""

    def __init__(self, found: Callable[[], None] = lambda: None) -> None:
        self._found = found
        self._beat_at = 0.0
        self._thread = 0
        self._schedule = ""
        self._depth = 0
        self._stopped = threading.Event()
        self._quiet_until: dict[str, float] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        self._thread = threading.get_ident()
        self._schedule = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._depth = await _depth_of_loop()
        self._beat_at = monotonic()
        self._stopped.clear()
        watcher = threading.Thread(target=self._watch, name="blocked loop", daemon=True)
        watcher.start()
        try:
            while True:
                self._beat_at = monotonic()
                await asyncio.sleep(_BEAT_S)
        finally:
            self._stopped.set()

    def _watch(self) -> None:
        told = 0.0
        slept_at, cpu = monotonic(), self._cpu_s()
        seen, waited, waited_then = 0.0, self._waited_s(), 0.0
        while not self._stopped.wait(_BEAT_S):
            now, cpu_before, cpu = monotonic(), cpu, self._cpu_s()
            late_s, slept_at = now - slept_at - _BEAT_S, now
            beat_at = self._beat_at
            if beat_at != seen:
                seen, waited_then = beat_at, waited
            waited = self._waited_s()
            stood_s = now - beat_at - (waited - waited_then)
            if stood_s <= _BEAT_S + BLOCKED_S or beat_at == told:
                continue
            if late_s > BLOCKED_S and cpu - cpu_before < late_s / 2:
                continue  # the whole process stood still: it was stopped, or got no CPU
            if stack := self._stack():
                told = beat_at
                self._tell(stack)

    def _stack(self) -> list[str]:
        """Return where the loop stands; nothing if it waits for events: its beat comes now. Only
        here a frame is held: it would keep its request alive, with the card."""
        frame = sys._current_frames().get(self._thread)
        return stack_of(frame, self._depth) if _depth(frame) > self._depth else []

    def _cpu_s(self) -> float:
        """Return the CPU time of the loop's thread."""
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(self._thread))
        except (OSError, AttributeError):
            return 0.0

    def _waited_s(self) -> float:
        """Return how long the loop's thread was ready and got no core: others' work, which blocks
        nothing. Linux counts it; elsewhere it is 0."""
        try:
            with open(self._schedule, "rb") as counts:
                return int(counts.read().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def _tell(self, stack: list[str]) -> None:
        where = place(stack)
        self._found()
        now, key = monotonic(), where.rpartition(":")[0]  # the same function on another line
        if now < self._quiet_until.get(key, 0.0):
            return
        if len(self._quiet_until) >= _MOST_PLACES:
            self._quiet_until.clear()
        self._quiet_until[key] = now + _QUIET_S
        log.warning(
            "the event loop stood still for more than %.1f s at %s: %s",
            BLOCKED_S,
            where,
            " < ".join(stack[:_MOST_FRAMES]),
        )


def stack_of(frame: FrameType | None, below: int = 0) -> list[str]:
    """Return a stack as `function (file:line)`, the innermost first, without the outermost `below`
    frames. It holds no values."""
    stack = []
    while frame is not None:
        stack.append(described(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return stack[: len(stack) - below] if below else stack


def stack_of_traceback(raised: TracebackType) -> list[str]:
    """Return the stack of an exception in the same form."""
    return [described(frame.f_code, line) for frame, line in reversed(list(walk_tb(raised)))]


def place(stack: list[str]) -> str:
    """Return the innermost frame of our own code, or the innermost of all."""
    return next((each for each in stack if "(easypay/" in each), stack[0] if stack else "unknown")


def described(code: CodeType, line: int) -> str:
    """Return a place as `function (file:line)`."""
    return f"{code.co_name} ({shortened(code.co_filename)}:{line})"


def shortened(file: str) -> str:
    """Return a path from the package on."""
    _, found, rest = file.rpartition(_OURS)
    return f"easypay/{rest}" if found else "/".join(file.split(os.sep)[-2:])


async def _depth_of_loop() -> int:
    """Return how many frames stand below each callback and each task of the running loop."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int] = loop.create_future()
    loop.call_soon(lambda: found.set_result(_depth(sys._getframe()) - 1))
    return await found


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth
