"""Processors and webhooks whose calls leave spans: in the trace of whoever waits for them, or in
one of their own."""

import re
from collections.abc import Awaitable, Iterable
from typing import Final

from easypay.clock import stopwatch
from easypay.observability.call_metrics import MeasuredProcessor, Result, word
from easypay.observability.metrics import Instruments
from easypay.observability.trace import current
from easypay.observability.tracing.attributes import Value
from easypay.observability.tracing.recorder import Traces
from easypay.observability.tracing.spans import BAD_OUTCOMES, Called, Recorded
from easypay.processors.base import Processor
from easypay.webhooks.http_sender import Answer, HttpSender

_ABOUT: Final = {
    re.compile(rb'"payment_id":"(pay_[0-9a-f]{32})"'): "easypay.payment.id",
    re.compile(rb'"operation_id":"(op_[0-9a-f]{32})"'): "easypay.operation.id",
}
"""What a message is about, from its body."""


class TracedProcessor(MeasuredProcessor):
    """A processor whose calls leave marks. A call that belongs to no trace, such as the resolver's
    inquiries, gets one."""

    def __init__(
        self, name: str, processor: Processor, instruments: Instruments, traces: Traces
    ) -> None:
        super().__init__(name, processor, instruments)
        self._traces = traces

    async def _measured(self, operation: str, call: Awaitable[Result]) -> Result:
        around = current.get()
        trace = around if isinstance(around, Recorded) else self._traces.begin()
        current.set(trace)
        begun, outcome = stopwatch(), "cancelled"
        try:
            result = await super()._measured(operation, call)
            outcome = word(type(result))
            return result
        finally:
            if trace is around:
                trace.add(Called(begun, stopwatch(), self._name, operation, outcome))
            else:
                current.set(around)
                self._ended(trace, operation, outcome, stopwatch() - begun)

    def _ended(self, trace: Recorded, operation: str, outcome: str, took_s: float) -> None:
        bad = outcome in BAD_OUTCOMES
        attributes: dict[str, Value] = {
            "easypay.processor": self._name,
            "easypay.operation": operation,
            "easypay.outcome": outcome,
        }
        if bad:
            attributes["error.type"] = outcome
        if self._traces.keeps(trace, bad=bad, took_s=took_s, own_s=0.0):
            name = f"{self._name} {operation}"
            self._traces.end(trace, name, "client", took_s, attributes, error=bad)


class TracedSender(HttpSender):
    """Sends webhooks, each with a trace of its own. The receiver gets its `traceparent`."""

    traces: Traces

    async def post(
        self, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, limit_s: float
    ) -> Answer:
        trace = self.traces.begin()
        begun = stopwatch()
        signed = list(headers)
        attributes: dict[str, Value] = {"http.request.method": "POST"}
        event_id = dict(signed).get("webhook-id")
        if event_id is not None:
            attributes["easypay.event.id"] = event_id
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
            if self.traces.keeps(trace, bad=bool(failed), took_s=took_s, own_s=0.0):
                name = "webhook delivery"
                for field, attribute in _ABOUT.items():
                    if (found := field.search(body)) is not None:
                        attributes[attribute] = found[1].decode()
                self.traces.end(trace, name, "client", took_s, attributes, error=bool(failed))
