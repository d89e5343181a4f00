"""A profile as stacks with values, and what makes stacks easy to read. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

Kind = Literal["cpu", "wait", "memory"]
UNITS: Final[dict[Kind, str]] = {"cpu": "samples", "wait": "samples", "memory": "bytes"}
MOST_STACKS: Final = 5_000
"""The smallest of further ones are left out."""
_ROUTE: Final = re.compile(r"((?:GET|HEAD|POST|PUT|PATCH|DELETE) /\S*) \(")
_LOOP: Final = re.compile(r"\((?:asyncio/)?(?:runners|base_events|events)\.py:\d+\)$")


class Stack(msgspec.Struct, frozen=True):
    """Frames from the outermost to the innermost, as `function (file:line)`, and their value."""

    frames: tuple[str, ...]
    value: int


class Profile(msgspec.Struct, frozen=True):
    """What was seen of the process `pid` within so many seconds."""

    what: Kind
    unit: str
    pid: int
    seconds: float
    stacks: list[Stack]


class CannotProfile(Exception):
    """No profile can be taken. The message says why, and what to do."""


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what the system refuses (a full disk, no more files or processes) as CannotProfile."""
    try:
        yield
    except OSError as error:
        raise CannotProfile(f"the system refuses: {error.strerror or error}") from error


def profile(kind: Kind, pid: int, seconds: float, found: Iterable[Stack]) -> Profile:
    """Return a profile whose stacks begin with the route, or else with the task."""
    total: Counter[tuple[str, ...]] = Counter()
    for stack in found:
        total[rooted(stack.frames)] += stack.value
    kept = [Stack(frames, value) for frames, value in total.most_common(MOST_STACKS) if value > 0]
    return Profile(kind, UNITS[kind], pid, round(seconds, 1), kept)


def rooted(frames: Sequence[str]) -> tuple[str, ...]:
    """Return frames under the route that they work for, without those of the server around it; if
    there is none, without those of the event loop around the task."""
    for at, frame in enumerate(frames):
        if (found := _ROUTE.match(frame)) is not None:
            return (found[1], *frames[at + 1 :])
    inside = [at for at, frame in enumerate(frames) if _LOOP.search(frame)]
    if inside and inside[-1] + 1 < len(frames):
        return tuple(frames[inside[-1] + 1 :])
    return ("the event loop", *frames[-1:]) if inside else tuple(frames)


def folded(text: str) -> Iterable[Stack]:
    """Yield the stacks of lines such as `outer;inner 12`."""
    for line in text.splitlines():
        frames, _, value = line.rpartition(" ")
        if frames and value.isdigit():
            yield Stack(tuple(frames.split(";")), int(value))
