"""An observer of requests that also ends their traces: it keeps them, or drops their marks."""

from typing import Final

from easypay.api.http import Request, Response
from easypay.api.observer import CLIENT_LEFT, QUIET, RequestObserver
from easypay.observability.trace import Trace
from easypay.observability.tracing.attributes import Value
from easypay.observability.tracing.marks import Recorded, outcome_is_bad
from easypay.observability.tracing.recorder import Traces

_MAY_BE_UNKNOWN: Final = (202, CLIENT_LEFT)


class TracedRequests:
    """Tells `observer` of every request, and ends its trace."""

    def __init__(self, observer: RequestObserver, traces: Traces) -> None:
        self._observer = observer
        self._traces = traces
        self.accept = traces.accept
        self.again = observer.again

    def answered(
        self, route: str, request: Request, response: Response | None, took_s: float, trace: Trace
    ) -> None:
        self._observer.answered(route, request, response, took_s, trace)
        assert isinstance(trace, Recorded), "accept made it"
        status = CLIENT_LEFT if response is None else response.status
        spent = None if response is None else response.spent
        bad = status >= 500 or (status in _MAY_BE_UNKNOWN and outcome_is_bad(trace.marks))
        own_s = 0.0 if spent is None else took_s - spent.processor_s
        slow_s = 0.0 if _takes_its_time(request, response) else took_s
        if (route in QUIET and not bad) or not self._traces.keeps(
            trace, bad=bad, took_s=slow_s, own_s=own_s, kind="request"
        ):
            return
        attributes = _attributes(route, request, response, status)
        # Only what is our fault is an error of the span (semantic conventions, HTTP server).
        error = status >= 500
        if error:
            attributes["error.type"] = attributes.get("easypay.problem", str(status))
        self._traces.end(
            trace, f"{request.method} {route}", "server", took_s, attributes, error=error
        )
        self._traces.exemplify(trace, took_s, request.method, route, str(status))


def _takes_its_time(request: Request, response: Response | None) -> bool:
    """Whether a request is long because it was asked to be: it waits for something to happen, or
    its answer leaves in pieces."""
    return b"wait=" in request.query_string or (response is not None and response.sent is not None)


def _attributes(
    route: str, request: Request, response: Response | None, status: int
) -> dict[str, Value]:
    found: dict[str, Value] = {
        "http.request.method": request.method,
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": "http",
        "easypay.request.id": request.id,
    }
    caller = request.caller
    if caller is not None:
        found["easypay.merchant.id"] = caller.merchant_text
        found["easypay.mode"] = str(caller.mode)
    if response is not None:
        if response.payment_id is not None:
            found["easypay.payment.id"] = response.payment_id
        if response.problem is not None:
            found["easypay.problem"] = response.problem
        if response.replayed:
            found["easypay.replayed"] = True
    return found
