"""Where the tasks of this process wait: they are looked at some times a second.

Only while somebody asks. A look pauses for 25 times as long as it took, so it costs 4 % at most.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

from easypay.clock import monotonic, stopwatch
from easypay.observability.blocked_loop import described
from easypay.observability.profiles.model import Profile, Stack, profile

Task = asyncio.Task[Any]
EVERY_S: Final = 0.05
_PAUSE_TIMES: Final = 25
_AT_ONCE: Final = 200
"""Tasks of one look, which takes a few milliseconds."""
_DEEPEST: Final = 60
_WAITS: Final = (
    ("easypay/db/group_commit.py", "queue: the commit of a group"),
    ("easypay/processors/", "processor"),
    ("easypay/cache/", "cache"),
    ("asyncpg/", "database"),
    ("easypay/db/", "database"),
    ("easypay/webhooks/", "a shop's server"),
    ("asyncio/locks.py", "queue: a lock or its turn"),
    ("asyncio/queues.py", "queue"),
    ("asyncio/tasks.py", "a timer or other tasks"),
)
"""What a task waits for, by the innermost of its frames that tells it."""


async def take(seconds: float, stop: asyncio.Event) -> Profile:
    """Return where the tasks waited: over so many seconds, or until `stop` is set."""
    begun = monotonic()
    seen: dict[tuple[str, ...], float] = {}
    own = asyncio.current_task()
    while not stop.is_set() and monotonic() < begun + seconds:
        started = stopwatch()
        look(seen, own)
        took_s = stopwatch() - started
        await asyncio.sleep(max(EVERY_S, _PAUSE_TIMES * took_s))
    stacks = [Stack(frames, max(1, round(count))) for frames, count in seen.items()]
    return await asyncio.to_thread(profile, "wait", os.getpid(), monotonic() - begun, stacks)


def look(seen: dict[tuple[str, ...], float], own: Task | None) -> None:
    """Count where all tasks but `own` stand. Of very many some are looked at, at random, and count
    for all: requests wait for a look."""
    tasks = list(asyncio.all_tasks() - {own})
    some = random.sample(tasks, min(len(tasks), _AT_ONCE))
    for task in some:
        frames = stack_of_task(task)
        seen[frames] = seen.get(frames, 0.0) + len(tasks) / len(some)


def stack_of_task(task: Task) -> tuple[str, ...]:
    """Return the frames of a task from its own coroutine to what it awaits, and what that is."""
    frames: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(frames) < _DEEPEST:
        frame: FrameType | None = (
            getattr(awaited, "cr_frame", None)
            or getattr(awaited, "gi_frame", None)
            or getattr(awaited, "ag_frame", None)
        )
        if frame is not None:
            frames.append(described(frame.f_code, frame.f_lineno))
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
            or getattr(awaited, "ag_await", None)
        )
    return (*frames, f"waits for: {waits_for(frames)}")


def waits_for(frames: Sequence[str]) -> str:
    """Return what a task with these frames waits for."""
    for frame in reversed(frames):
        for part, what in _WAITS:
            if f"({part}" in frame:
                return what
    return "an event"
