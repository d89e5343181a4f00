"""The traces of one process: what runs leaves marks, what has ended is kept or dropped.

Without `EASYPAY_TRACES_URL` none of this is imported. With it, `server/traces.py` puts it around
what is measured anyway.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from easypay import __version__, ids
from easypay.addresses import headers_of
from easypay.clock import stopwatch
from easypay.db.group_commit import Entry, GroupCommitter
from easypay.observability.call_metrics import summary
from easypay.observability.metrics import Instruments
from easypay.observability.trace import current
from easypay.observability.tracing.attributes import ATTRIBUTE_OF, Value
from easypay.observability.tracing.export import Exporter
from easypay.observability.tracing.marks import (
    MOST_MARKS,
    Called,
    Group,
    Link,
    Recorded,
    Submitted,
    outcome_is_bad,
)
from easypay.observability.tracing.otlp import Kind
from easypay.observability.tracing.sampling import Sampler
from easypay.observability.tracing.spans import spans_of
from easypay.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)
CLOSE_WITHIN_S: Final = 2.0
"""How long a stop waits until what was kept has been sent."""


class Traces:
    """Collects the traces of one process, and sends those that are kept.

    `service`: the name by which a tracing system knows the process.
    """

    def __init__(self, settings: Settings, instruments: Instruments, service: str) -> None:
        assert settings.traces_url is not None, "without an address there are no traces"
        self._requests = instruments.requests
        self._calls = instruments.processor_calls
        self._sampler = Sampler(
            settings.traces_rate,
            trust_parent=settings.traces_trust_parent,
            slow_s=settings.traces_slow_s,
            slow_own_s=settings.traces_slow_own_s,
        )
        self.accept = self._sampler.accept
        self.begin = self._sampler.begin
        self.keeps = self._sampler.keeps
        self._spans = counted = instruments.trace_spans
        for result in ("sent", "refused", "failed", "full", "limited"):
            counted.add(result, by=0)  # the exporter's thread finds their places made

        def count(result: str, spans: int) -> None:
            counted.add(result, by=spans)

        secret = settings.traces_headers
        self._exporter = Exporter(
            settings.traces_url,
            headers={} if secret is None else headers_of(secret.get_secret_value()),
            resource={
                "service.name": service,
                "service.version": __version__,
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
                "telemetry.sdk.name": "easypay",
                "telemetry.sdk.language": "python",
                "telemetry.sdk.version": __version__,
            },
            counted=count,
        )

    async def close(self, within_s: float) -> None:
        """Send what was kept, for at most so many seconds."""
        await asyncio.to_thread(self._exporter.close, min(CLOSE_WITHIN_S, within_s))

    def end(
        self,
        trace: Recorded,
        name: str,
        kind: Kind,
        took_s: float,
        attributes: dict[str, Value],
        *,
        error: bool,
        links: Sequence[Link] = (),
    ) -> None:
        """Send the spans of a trace that is kept and has just ended. Raises nothing: whatever
        happens here, the request or the work has had its end."""
        try:
            spans = spans_of(trace, name, kind, took_s, attributes, error=error, links=links)
            self._exporter.put(b"".join(spans), len(spans))
        except Exception:
            log.exception("a trace cannot be encoded")
            return
        if self._sampler.refused:
            self._spans.add("limited", by=self._sampler.refused)
            self._sampler.refused = 0
        for mark in trace.marks:
            if isinstance(mark, Called):
                took = mark.ended - mark.begun
                self._calls.exemplify(took, trace.trace_id, mark.processor, mark.operation)

    # requests ------------------------------------------------------------------------------------

    def exemplify(self, trace: Recorded, took_s: float, *labels: str) -> None:
        """Let the metrics of requests name this trace."""
        self._requests.exemplify(took_s, trace.trace_id, *labels)

    # statements and groups -----------------------------------------------------------------------

    def saw(self, sql: str, took_s: float) -> None:
        """Leave a mark of a statement outside a group that has just ended."""
        trace = current.get()
        if isinstance(trace, Recorded):
            ended = stopwatch()
            trace.asked(ended - took_s, ended, summary(sql))

    def observe_groups(self, committer: GroupCommitter[Any, Any]) -> None:
        """Let the groups of a committer leave marks on the traces of their members."""
        committer.new_entry = entry_of_trace
        committer.on_group = mark_members

    # work ----------------------------------------------------------------------------------------

    def link(self) -> tuple[UUID, int] | None:
        """Return the trace and span of the current request, as the database keeps them: for work
        that another process does later."""
        trace = current.get()
        if trace is None:
            return None
        span_id = int.from_bytes(bytes.fromhex(trace.span_id.decode()), "big", signed=True)
        return UUID(trace.trace_id.decode()), span_id

    async def work(
        self,
        name: str,
        about: Mapping[str, UUID],
        doing: Coroutine[Any, Any, T],
        link: tuple[UUID, int] | None,
    ) -> T:
        """Do a piece of work of an operation, in a trace that leads to the trace of `link`. It has
        the operation's own digits: each attempt is in it. `about` are ids by their kinds. An
        exception is an error."""
        trace = self.begin(about[ids.OPERATION].hex.encode())
        begun, failed = stopwatch(), True
        current.set(trace)
        try:
            result = await doing
            failed = False
            return result
        finally:
            took_s = stopwatch() - begun
            bad = failed or outcome_is_bad(trace.marks)
            # It has no target without the processor: it may wait on purpose, to share commits.
            if self.keeps(trace, bad=bad, took_s=took_s, own_s=0.0, kind="work"):
                attributes: dict[str, Value] = {
                    "easypay.work": name,
                    **{ATTRIBUTE_OF[each]: ids.typed(each, found) for each, found in about.items()},
                }
                links = [] if link is None else [_digits_of(link)]
                self.end(trace, name, "consumer", took_s, attributes, error=failed, links=links)


def entry_of_trace(*parts: Any) -> Entry[Any, Any]:
    """Return the entry of an item, with the trace that waits for it."""
    entry: Entry[Any, Any] = Entry(*parts)
    entry.context = current.get()
    return entry


def mark_members(name: str, entries: Sequence[Entry[Any, Any]], begun: float, ended: float) -> None:
    """Leave a mark on the trace of each item of a group."""
    kept: list[Link] = []
    group = Group(name, len(entries), begun, ended, kept)
    for entry in entries:
        trace = entry.context
        if isinstance(trace, Recorded):
            if trace.head:
                kept.append((trace.trace_id, trace.span_id))
            if len(trace.marks) < MOST_MARKS:
                trace.marks.append(Submitted(entry.since, group, entry.item))


def _digits_of(link: tuple[UUID, int]) -> Link:
    trace_id, span_id = link
    return trace_id.hex.encode(), span_id.to_bytes(8, "big", signed=True).hex().encode()
