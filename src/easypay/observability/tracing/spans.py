"""The spans of a trace that is kept, made of its marks and encoded at once."""

import time
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from easypay import ids
from easypay.clock import stopwatch
from easypay.observability.trace import NO_SPAN
from easypay.observability.tracing import otlp
from easypay.observability.tracing.attributes import ATTRIBUTE_OF, ATTRIBUTES, Value
from easypay.observability.tracing.marks import (
    BAD_OUTCOMES,
    Asked,
    Called,
    Group,
    Link,
    Recorded,
    Submitted,
)
from easypay.observability.tracing.otlp import Kind

MOST_LINKS: Final = 128
_IDS: Final = frozenset(name for name in ATTRIBUTES if name.endswith(".id"))
_POSTGRESQL: Final = ("db.system.name", "postgresql")


def spans_of(
    trace: Recorded,
    name: str,
    kind: Kind,
    took_s: float,
    attributes: dict[str, Value],
    *,
    error: bool,
    links: Sequence[Link] = (),
) -> list[bytes]:
    """Return the spans of a trace that ends now: its own, those of its marks, and those of the
    groups that have none yet."""
    now = stopwatch()
    now_ns = time.time_ns()
    zero_ns = now_ns - int(now * 1e9)  # when the stopwatch showed 0
    of_trace = otlp.of_trace(trace.trace_id)
    made = [b""]
    operation_id = payment_id = None
    # It may have ended a moment ago; no part of it began before it did.
    start = now - took_s
    for mark in trace.marks:
        start = min(start, mark.begun)
        ids_of_span = of_trace + otlp.with_parent(trace.span_id)
        if isinstance(mark, Submitted):
            operation_id = operation_id or getattr(mark.item, "operation_id", None)
            payment_id = payment_id or getattr(mark.item, "payment_id", None)
            if not mark.group.link:
                made.append(_of_group(trace, mark.group, zero_ns))
            made.append(_of_member(ids_of_span, mark, zero_ns))
        else:
            what = _what_of_call(mark) if isinstance(mark, Called) else _what_of_statement(mark)
            made.append(otlp.span(ids_of_span, what, *_times(mark, zero_ns)))
    parent = None if trace.parent == NO_SPAN else trace.parent
    made[0] = otlp.span(
        of_trace + otlp.with_id(trace.span_id, parent),
        _what_of_trace(name, kind, _ids_of(operation_id, payment_id) | attributes, error=error),
        zero_ns + int(start * 1e9),
        now_ns,
        b"".join([otlp.link_to(*each) for each in links]),
    )
    return made


def _times(what: Group | Called | Asked, zero_ns: int) -> tuple[int, int]:
    return zero_ns + int(what.begun * 1e9), zero_ns + int(what.ended * 1e9)


def _ids_of(operation_id: UUID | None, payment_id: UUID | None) -> dict[str, Value]:
    found = {ids.OPERATION: operation_id, ids.PAYMENT: payment_id}
    return {ATTRIBUTE_OF[k]: ids.typed(k, each) for k, each in found.items() if each is not None}


def _what_of_trace(name: str, kind: Kind, attributes: Mapping[str, Value], *, error: bool) -> bytes:
    """Return the fields of a trace's own span. All attributes but ids are encoded once."""
    shared = [each for each in attributes.items() if each[0] not in _IDS]
    own = [otlp.attribute(*each) for each in attributes.items() if each[0] in _IDS]
    return otlp.described(name, kind, *shared, error=error) + b"".join(own)


def _what_of_call(mark: Called) -> bytes:
    bad = mark.outcome in BAD_OUTCOMES
    return otlp.described(
        f"{mark.processor} {mark.operation}",
        "client",
        ("easypay.processor", mark.processor),
        ("easypay.operation", mark.operation),
        ("easypay.outcome", mark.outcome),
        *([("error.type", mark.outcome)] if bad else []),
        error=bad,
    )


def _what_of_statement(mark: Asked) -> bytes:
    return otlp.described(mark.summary, "client", _POSTGRESQL, ("db.query.summary", mark.summary))


def _of_member(ids_of_span: bytes, mark: Submitted, zero_ns: int) -> bytes:
    """Return the span of an item that waited for its group."""
    group = mark.group
    what = otlp.described(
        group.name, "internal", _POSTGRESQL, ("db.operation.batch.size", group.size)
    )
    waited = otlp.attribute("easypay.group.wait", round(group.begun - mark.begun, 6))
    begun_ns, ended_ns = zero_ns + int(mark.begun * 1e9), zero_ns + int(group.ended * 1e9)
    return otlp.span(ids_of_span, what + waited, begun_ns, ended_ns, group.link)


def _of_group(trace: Recorded, group: Group, zero_ns: int) -> bytes:
    """Return the span of a group, which `trace` is the first of its members to need."""
    own = trace.trace_id, trace.span_id
    members = group.kept if trace.head else [own, *group.kept]
    ids_of_span = otlp.new_trace()
    group.link = otlp.link(ids_of_span)
    what = otlp.described(
        f"group {group.name}",
        "client",
        _POSTGRESQL,
        ("db.query.summary", group.name),
        ("db.operation.batch.size", group.size),
    )
    links = b"".join([otlp.link_to(*each) for each in members[:MOST_LINKS]])
    return otlp.span(ids_of_span, what, *_times(group, zero_ns), links)
