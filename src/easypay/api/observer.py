"""Record each request once it is over: its metrics and its log line."""

from typing import Final

from easypay import clock
from easypay.api.http import Request, Response
from easypay.api.repeats import Logged
from easypay.observability.access_log import AccessLog, Line, LineAgain
from easypay.observability.metrics import Instruments
from easypay.observability.trace import Trace, accept

CLIENT_LEFT: Final = 499
_CLIENT_LEFT: Final = Response(CLIENT_LEFT)
QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Probed every few seconds by machines: counted, but logged only if they fail."""


class RequestObserver:
    """Counts and logs requests, after the response was handed to the server."""

    accept = staticmethod(accept)

    def __init__(self, instruments: Instruments, log: AccessLog) -> None:
        self._requests = instruments.requests
        self._own_time = instruments.own_time
        self._read_bytes = instruments.read_bytes
        self._log = log

    def answered(
        self, route: str, request: Request, response: Response | None, took_s: float, trace: Trace
    ) -> None:
        answer = response or _CLIENT_LEFT
        status, spent = answer.status, answer.spent
        self._requests.observe(took_s, request.method, route, str(status))
        if spent is not None:
            self._own_time.observe(took_s - spent.processor_s, route)
        bytes_out = len(answer.body) if answer.sent is None else answer.sent
        if request.method == "HEAD":
            bytes_out = 0
        elif request.method == "GET":
            self._read_bytes.add(answer.coding or "identity", by=bytes_out)
        if route in QUIET and status < 400:
            return
        caller = request.caller
        begin_ms = processor_ms = record_ms = None
        # Milliseconds with three decimals. `round` takes three times as long, on each line.
        if spent is not None:
            begin_ms = int(spent.begin_s * 1e6) / 1000
            processor_ms = int(spent.processor_s * 1e6) / 1000
            record_ms = int(spent.record_s * 1e6) / 1000
        self._log.write(
            Line(  # by position, which is faster than by name: every request comes here
                clock.now(),
                "error" if status >= 500 else "info",
                "easypay.request",
                f"{request.method} {route} {status}",
                request.id,
                trace.trace_id.decode(),
                request.method,
                route,
                status,
                int(took_s * 1e6) / 1000,
                None if caller is None else caller.merchant_text,
                None if caller is None else caller.key_text,
                None if caller is None else caller.mode,
                answer.payment_id,
                answer.problem,
                answer.replayed,
                begin_ms,
                processor_ms,
                record_ms,
                len(request.body),
                bytes_out,
                answer.coding,
            )
        )

    def again(self, route: str, request: Request, response: Response) -> Logged:
        """Return a function that counts and logs a GET each time it is answered in the same way."""
        caller = request.caller
        status, bytes_out, coding = response.status, len(response.body), response.coding
        labels = request.method, route, str(status)
        observe, add, write = self._requests.observe, self._read_bytes.add, self._log.write_again
        line = LineAgain(
            Line(
                time=clock.now(),
                level="info",
                logger="easypay.request",
                message=f"{request.method} {route} {status}",
                request_id="",
                trace_id="",
                method=request.method,
                route=route,
                status=status,
                duration_ms=0,
                merchant_id=None if caller is None else caller.merchant_text,
                key_id=None if caller is None else caller.key_text,
                mode=None if caller is None else caller.mode,
                bytes_out=bytes_out,
                coding=coding,
            )
        )

        def logged(request_id: bytes, took_s: float) -> None:
            observe(took_s, *labels)
            if bytes_out:
                add(coding or "identity", by=bytes_out)
            write(line, request_id, took_s * 1000)

        return logged
