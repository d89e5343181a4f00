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
from contextlib import suppress
from traceback import walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Final, NamedTuple

from easypay.clock import monotonic

log = logging.getLogger(__name__)

BLOCKED_S: Final = 0.1
_BEAT_S: Final = 0.05
_QUIET_S: Final = 60.0
"""How long a place that was logged is not logged again."""
_MOST_FRAMES: Final = 12
_MOST_PLACES: Final = 200
_OURS: Final = f"{os.sep}easypay{os.sep}"


class Beat(NamedTuple):
    """What the loop notes each time that it turns: by then it had used so much CPU, and had waited
    so long for a core. Seconds."""

    at: float
    cpu: float
    waited: float


class BlockedLoop:
    """Watches the loop that it runs in. `found` is called once for each time that it was blocked,
    from the thread that looks."""

    def __init__(self, found: Callable[[], None] = lambda: None) -> None:
        self._found = found
        self._beat = Beat(0.0, 0.0, 0.0)
        self._thread = 0
        self._counts = self._state = -1
        """Descriptors of what the system says of the loop's thread, if it does."""
        self._depth = 0
        self._stopped = False
        self._quiet_until: dict[str, float] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        self._thread = threading.get_ident()
        self._depth = await _depth_of_loop()
        path = f"/proc/self/task/{threading.get_native_id()}"
        with suppress(OSError):  # not on every system, or no file can be opened now
            self._counts = os.open(f"{path}/schedstat", os.O_RDONLY)
            self._state = os.open(f"{path}/stat", os.O_RDONLY)
        self._stopped = False
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def beat() -> None:
            nonlocal timer
            self._beat = self._now()
            timer = loop.call_later(_BEAT_S, beat)

        beat()
        watcher = threading.Thread(target=self._watch, name="blocked loop", daemon=True)
        watcher.start()
        try:
            await loop.create_future()
        finally:
            self._stopped = True
            if timer is not None:
                timer.cancel()
            for each in (self._counts, self._state):
                with suppress(OSError):
                    os.close(each)
            self._counts = self._state = -1

    def _watch(self) -> None:
        told = 0.0
        slept_at = monotonic()
        while not self._stopped:
            time.sleep(_BEAT_S)  # an event would be told of the stop at once, and costs more
            beat, now = self._beat, monotonic()
            late_s, slept_at = now - slept_at - _BEAT_S, now
            if now - beat.at <= _BEAT_S + BLOCKED_S or beat.at == told:
                continue
            reached = self._now()
            ran_s, waited_s = reached.cpu - beat.cpu, reached.waited - beat.waited
            # While it waits for a core, this wait is not counted yet.
            stood_s = ran_s if self._is_ready() else now - beat.at - waited_s
            if stood_s <= _BEAT_S + BLOCKED_S:
                continue  # others had the cores: that blocks nothing
            if late_s > BLOCKED_S and ran_s < late_s / 2:
                continue  # the whole process stood still: it was stopped, or got no CPU
            if self._beat is beat and (stack := self._stack()):
                told = beat.at
                self._tell(stack)

    def _now(self) -> Beat:
        """Return how far the loop's thread has come. Linux counts what it waited for a core;
        elsewhere that is 0."""
        cpu = waited = 0.0
        with suppress(OSError, AttributeError):
            cpu = time.clock_gettime(time.pthread_getcpuclockid(self._thread))
        with suppress(OSError, IndexError, ValueError):
            waited = int(os.pread(self._counts, 64, 0).split()[1]) / 1e9
        return Beat(monotonic(), cpu, waited)

    def _is_ready(self) -> bool:
        """Return whether the loop's thread runs, or waits for a core. While it waits for anything
        else, as for Python's lock, it does not."""
        with suppress(OSError):
            return os.pread(self._state, 512, 0).rpartition(b")")[2][:3] == b" R "
        return False

    def _stack(self) -> list[str]:
        """Return where the loop stands; nothing if it waits for events: its beat comes now. Only
        here a frame is held: it would keep its request alive, with the card."""
        frame = sys._current_frames().get(self._thread)
        return stack_of(frame, self._depth) if _depth(frame) > self._depth else []

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
