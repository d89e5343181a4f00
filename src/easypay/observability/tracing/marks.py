"""Marks that a request or a piece of work leaves while it runs.

A mark costs one append. Whether the trace is kept is known only at its end; then its marks become
spans, else they are dropped with it. Times of marks are those of `clock.stopwatch`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from easypay.observability.trace import Trace

Link = tuple[bytes, bytes]
"""The hexadecimal digits of a trace and of a span in it."""
MOST_MARKS: Final = 64
"""Marks of one trace; further ones are dropped."""
MOST_STATEMENTS: Final = MOST_MARKS // 2
"""Once there are so many marks, no statement leaves one: the outcome of a call always has room."""
BAD_OUTCOMES: Final = frozenset({"unknown", "not_sent", "cancelled", "inconclusive"})


class Group(msgspec.Struct, gc=False, eq=False):
    """One run of a group commit: its span is made once, for the first member that is kept.

    `kept` are the members whose traces the rate keeps. They are digits and no `Recorded`: its marks
    lead here, and nobody collects a circle of these.
    """

    name: str
    size: int
    begun: float
    ended: float
    kept: Sequence[Link]
    link: bytes = b""
    """The encoded link to its span, once that is made."""


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """Mark: an item waited from `begun` for its group to commit. Only of one that is kept it is
    asked what it is about."""

    begun: float
    group: Group
    item: object


class Called(msgspec.Struct, frozen=True, gc=False):
    """Mark: a call to a processor."""

    begun: float
    ended: float
    processor: str
    operation: str
    outcome: str


class Asked(msgspec.Struct, frozen=True, gc=False):
    """Mark: a statement outside a group."""

    begun: float
    ended: float
    summary: str


Mark = Submitted | Called | Asked


class Recorded(Trace, frozen=True, gc=False):
    """A trace whose marks are collected. `head`: the rate keeps it, whatever becomes of it."""

    head: bool = False
    marks: list[Mark] = msgspec.field(default_factory=list)

    def asked(self, begun: float, ended: float, summary: str) -> None:
        """Keep a mark of a statement outside a group, unless there are many marks."""
        if len(self.marks) < MOST_STATEMENTS:
            self.marks.append(Asked(begun, ended, summary))

    def called(
        self, begun: float, ended: float, processor: str, operation: str, outcome: str
    ) -> None:
        """Keep a mark of a call to a processor, unless there are too many."""
        if len(self.marks) < MOST_MARKS:
            self.marks.append(Called(begun, ended, processor, operation, outcome))


def outcome_is_bad(marks: Sequence[Mark]) -> bool:
    """Whether a call of the trace ended without a known outcome."""
    return any(isinstance(mark, Called) and mark.outcome in BAD_OUTCOMES for mark in marks)
