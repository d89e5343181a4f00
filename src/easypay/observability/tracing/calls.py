"""Processors and webhooks whose calls leave spans: in the trace of whoever waits for them, or in
one of their own."""

import re
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Final

from easypay.clock import stopwatch
from easypay.observability.call_metrics import Measured, MeasuredProcessor
from easypay.observability.measured_calls import MeasuredCalls, OnEnd, Result
from easypay.observability.metrics import Instruments
from easypay.observability.trace import current
from easypay.observability.tracing.attributes import Value
from easypay.observability.tracing.marks import BAD_OUTCOMES, Recorded
from easypay.observability.tracing.recorder import Traces
from easypay.observability.vault_metrics import MeasuredVault
from easypay.processors.base import Processor
from easypay.processors.customer_vault import vault_of
from easypay.webhooks.http_sender import Answer, HttpSender

_ABOUT: Final = {
    re.compile(rb'"payment_id":"(pay_[0-9a-f]{32})"'): "easypay.payment.id",
    re.compile(rb'"operation_id":"(op_[0-9a-f]{32})"'): "easypay.operation.id",
}
"""What a message is about, from its body."""
_EVENT: Final = re.compile(r"evt_([0-9a-f]{32})")


class _TracedCalls(MeasuredCalls):
    """Calls that leave marks."""

    traces: Traces

    def _measured(
        self, operation: str, call: Awaitable[Result], on_end: OnEnd | None = None
    ) -> Measured[Result]:
        trace = current.get()
        if isinstance(trace, Recorded):
            return super()._measured(operation, call, trace.called)
        own = self.traces.begin()
        on_end = partial(_end_of_call, self.traces, own)
        return _within(own, super()._measured(operation, call, on_end))


class TracedProcessor(_TracedCalls, MeasuredProcessor):
    """A processor whose calls leave marks, also those to its vault."""

    def __init__(
        self, name: str, processor: Processor, instruments: Instruments, traces: Traces
    ) -> None:
        super().__init__(name, processor, instruments)
        self.traces = traces
        vault = vault_of(processor)
        if vault is not None:
            self.vault = TracedVault(name, vault, instruments)
            self.vault.traces = traces


class TracedVault(_TracedCalls, MeasuredVault):
    """A vault whose calls leave marks."""


async def _within(trace: Recorded, call: Measured[Result]) -> Result:
    """Make a call that belongs to no trace, such as an inquiry of the resolver, in its own."""
    around = current.get()
    current.set(trace)
    try:
        return await call
    finally:
        current.set(around)


def _end_of_call(
    traces: Traces,
    trace: Recorded,
    begun: float,
    ended: float,
    processor: str,
    operation: str,
    outcome: str,
) -> None:
    bad, took_s = outcome in BAD_OUTCOMES, ended - begun
    attributes: dict[str, Value] = {
        "easypay.processor": processor,
        "easypay.operation": operation,
        "easypay.outcome": outcome,
    }
    if bad:
        attributes["error.type"] = outcome
    if traces.keeps(trace, bad=bad, took_s=took_s, own_s=0.0, kind="call"):
        traces.end(trace, f"{processor} {operation}", "client", took_s, attributes, error=bad)


class TracedSender(HttpSender):
    """Sends webhooks. The trace of an event has the event's own digits: all its attempts are in it.
    The receiver gets its `traceparent`."""

    traces: Traces

    async def post(
        self, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, limit_s: float
    ) -> Answer:
        signed = list(headers)
        attributes: dict[str, Value] = {"http.request.method": "POST"}
        event = _EVENT.fullmatch(dict(signed).get("webhook-id", ""))
        trace = self.traces.begin(None if event is None else event[1].encode())
        begun = stopwatch()
        if event is not None:
            attributes["easypay.event.id"] = event[0]
        failed = "no_answer"
        try:
            with_trace = [*signed, ("traceparent", trace.header.decode())]
            answer = await super().post(url, with_trace, body, limit_s=limit_s)
            attributes["http.response.status_code"] = answer.status
            failed = "" if 200 <= answer.status < 300 else str(answer.status)
            return answer
        finally:
            took_s = stopwatch() - begun
            if failed:
                attributes["error.type"] = failed
            if self.traces.keeps(trace, bad=bool(failed), took_s=took_s, own_s=0.0, kind="webhook"):
                name = "webhook delivery"
                for field, attribute in _ABOUT.items():
                    if (found := field.search(body)) is not None:
                        attributes[attribute] = found[1].decode()
                self.traces.end(trace, name, "client", took_s, attributes, error=bool(failed))
