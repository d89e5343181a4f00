"""Marks that a request or a piece of work leaves while it runs, and the spans made of them.

A mark is a tuple and costs one append. Whether the trace is kept is known only at its end; then its
marks become spans, else they are dropped with it. Times of marks are those of `clock.stopwatch`.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import stopwatch
from easypay.observability.trace import NO_SPAN, Trace
from easypay.observability.tracing.attributes import ATTRIBUTE_OF, Value

Kind = Literal["internal", "server", "client", "consumer"]
Link = tuple[bytes, bytes]
"""The hexadecimal digits of a trace and of a span in it."""
Member = tuple[bytes, bytes, bool]
MOST_MARKS: Final = 64
"""Marks of one trace; further ones are dropped."""
MOST_LINKS: Final = 128


class Span(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A span as it is sent. Times are nanoseconds since 1970. `error`: None if it went well."""

    trace_id: bytes
    span_id: bytes
    parent: bytes | None = None
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    error: bool = False
    links: Sequence[Link] = ()


class Group(msgspec.Struct, gc=False, eq=False):
    """One run of a group commit: its span is made once, for the first member that is kept.

    `members` are the digits of their traces and spans, and whether the rate keeps them. They are no
    `Recorded`: its marks lead here, and nobody collects a circle of these.
    """

    name: str
    size: int
    begun: float
    ended: float
    members: Sequence[Member]
    trace_id: bytes = b""
    span_id: bytes = b""


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """Mark: an item waited from `since` for its group to commit."""

    since: float
    group: Group
    operation_id: UUID | None
    payment_id: UUID | None


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


class Recorded(Trace, frozen=True, gc=False, kw_only=True):
    """A trace whose marks are collected. `head`: the rate keeps it, whatever becomes of it."""

    head: bool
    marks: list[Mark]

    def add(self, mark: Mark) -> None:
        """Keep a mark, unless there are too many."""
        if len(self.marks) < MOST_MARKS:
            self.marks.append(mark)


def new_span_id() -> bytes:
    """Return the digits of a new span id, which is never zero."""
    return b"%016x" % (random.getrandbits(64) or 1)


BAD_OUTCOMES: Final = frozenset({"unknown", "not_sent", "cancelled", "inconclusive"})


def outcome_is_bad(marks: Sequence[Mark]) -> bool:
    """Whether a call of the trace ended without a known outcome."""
    return any(isinstance(mark, Called) and mark.outcome in BAD_OUTCOMES for mark in marks)


def spans_of(
    trace: Recorded,
    name: str,
    kind: Kind,
    took_s: float,
    attributes: dict[str, Value],
    *,
    error: bool,
    links: Sequence[Link] = (),
) -> list[Span]:
    """Return the spans of a trace that ends now: its own, those of its marks, and those of the
    groups that have none yet."""
    now_ns, now = time.time_ns(), stopwatch()

    def at(moment: float) -> int:
        return now_ns - int((now - moment) * 1e9)

    made: list[Span] = []
    for mark in trace.marks:
        match mark:
            case Submitted():
                for kind_of_id, found in (
                    (ids.OPERATION, mark.operation_id),
                    (ids.PAYMENT, mark.payment_id),
                ):
                    if found is not None:
                        attributes.setdefault(
                            ATTRIBUTE_OF[kind_of_id], ids.typed(kind_of_id, found)
                        )
                made += _of_group(trace, mark, at(mark.since), at)
            case Called():
                made.append(_of_call(trace, mark, at(mark.begun), at(mark.ended)))
            case Asked():
                made.append(_of_statement(trace, mark, at(mark.begun), at(mark.ended)))
    own = Span(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        parent=None if trace.parent == NO_SPAN else trace.parent,
        name=name,
        kind=kind,
        # It may have ended a moment ago; no part of it began before it did.
        start_ns=min([at(now - took_s), *(each.start_ns for each in made)]),
        end_ns=now_ns,
        attributes=attributes,
        error=error,
        links=links,
    )
    return [own, *made]


def _of_group(
    trace: Recorded, mark: Submitted, since_ns: int, at: Callable[[float], int]
) -> list[Span]:
    group = mark.group
    made = []
    if not group.span_id:
        group.span_id, group.trace_id = new_span_id(), new_span_id() + new_span_id()
        members = [
            (trace_id, span_id)
            for trace_id, span_id, head in group.members
            if head or span_id == trace.span_id
        ]
        made.append(
            Span(
                trace_id=group.trace_id,
                span_id=group.span_id,
                name=f"group {group.name}",
                kind="client",
                start_ns=at(group.begun),
                end_ns=at(group.ended),
                attributes={
                    "db.system.name": "postgresql",
                    "db.query.summary": group.name,
                    "db.operation.batch.size": group.size,
                },
                links=members[:MOST_LINKS],
            )
        )
    own = Span(
        trace_id=trace.trace_id,
        span_id=new_span_id(),
        parent=trace.span_id,
        name=group.name,
        kind="internal",
        start_ns=since_ns,
        end_ns=at(group.ended),
        attributes={
            "db.system.name": "postgresql",
            "db.operation.batch.size": group.size,
            "easypay.group.wait": round(group.begun - mark.since, 6),
        },
        links=[(group.trace_id, group.span_id)],
    )
    return [own, *made]


def _of_call(trace: Recorded, mark: Called, start_ns: int, end_ns: int) -> Span:
    bad = mark.outcome in BAD_OUTCOMES
    attributes: dict[str, Value] = {
        "easypay.processor": mark.processor,
        "easypay.operation": mark.operation,
        "easypay.outcome": mark.outcome,
    }
    if bad:
        attributes["error.type"] = mark.outcome
    return Span(
        trace_id=trace.trace_id,
        span_id=new_span_id(),
        parent=trace.span_id,
        name=f"{mark.processor} {mark.operation}",
        kind="client",
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=attributes,
        error=bad,
    )


def _of_statement(trace: Recorded, mark: Asked, start_ns: int, end_ns: int) -> Span:
    return Span(
        trace_id=trace.trace_id,
        span_id=new_span_id(),
        parent=trace.span_id,
        name=mark.summary,
        kind="client",
        start_ns=start_ns,
        end_ns=end_ns,
        attributes={"db.system.name": "postgresql", "db.query.summary": mark.summary},
    )
