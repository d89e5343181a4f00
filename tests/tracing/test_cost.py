"""What traces cost, in calls of functions: nothing if they are off, little at ten percent."""

import subprocess
import sys
from typing import Any

from easypay.api.http import Observer, Request, Response
from easypay.api.observer import RequestObserver
from easypay.api.traced_requests import TracedRequests
from easypay.clock import stopwatch
from easypay.ids import new_request_id
from easypay.observability.access_log import AccessLog
from easypay.observability.metrics import Instruments
from easypay.observability.trace import Trace, current
from easypay.observability.tracing.marks import Recorded
from easypay.observability.tracing.recorder import Traces, entry_of_trace, mark_members
from easypay.payments.model import Spent
from easypay.settings import Settings
from harness import ENCRYPTION_KEY
from tracing.intake import taking

MOST_CALLS = 44
"""A call takes 0.05 to 0.15 µs on the yardstick machine, so this is below 7 µs."""


def test_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, easypay.server.app, easypay.server.serve, easypay.worker.process\n"
        "print([n for n in sys.modules if n.startswith(('opentelemetry', 'google.protobuf'))"
        " or 'tracing' in n or 'traced' in n])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


def calls_of(observer: Observer) -> int:
    """Return the calls that the trace of one payment takes: as a gateway makes them."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    request_id = new_request_id()
    request = Request("POST", "/api/v1/payments", {}, {}, b"", b"", request_id)
    response = Response(201, b"{}", spent=Spent(0.001, 0.1, 0.001), payment_id="pay_" + "0" * 32)
    sys.setprofile(count)
    try:
        trace: Trace = observer.accept(None, request_id)
        current.set(trace)
        now = stopwatch()
        if isinstance(trace, Recorded):
            for name in ("begin", "record"):
                mark_members(name, [entry_of_trace(None, None, now, (), "")], now, now)
            trace.called(now, now, "authorize_net", "sale", "approved")
        observer.answered("/api/v1/payments", request, response, 0.103, trace)
    finally:
        sys.setprofile(None)
        current.set(None)
    return calls


async def test_at_ten_percent_a_payment_takes_few_calls_more() -> None:
    async with taking() as intake:
        instruments = Instruments()
        plain = RequestObserver(instruments, AccessLog(silent=True))
        counts: list[int] = [min(calls_of(plain) for _ in range(3))]
        for rate in ("0", "1"):
            variables: dict[str, Any] = {"traces_url": intake.url, "traces_rate": rate}
            variables |= {"database_url": "postgresql://", "encryption_key": ENCRYPTION_KEY}
            traces = Traces(Settings(**variables), instruments, "easypay")
            observer = TracedRequests(plain, traces)
            counts.append(min(calls_of(observer) for _ in range(3)))
            await traces.close(5)
        off, dropped, kept = counts
        assert off < dropped < kept
        assert dropped - off + 0.1 * (kept - dropped) <= MOST_CALLS, counts
        assert len(intake.spans) == 3 * 6, "what was kept has arrived"


def test_traces_that_are_on_without_their_packages_are_told_with_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from easypay.observability.metrics import Instruments\n"
        "from easypay.server.traces import traces_of\n"
        "from easypay.settings import Settings\n"
        f"settings = Settings(database_url='postgresql://', encryption_key={ENCRYPTION_KEY!r},"
        " traces_url='http://127.0.0.1:4318')\n"
        "try: traces_of(settings, Instruments(), 'easypay-worker')\n"
        "except OSError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "install easypay[traces]" in found.stdout, found.stderr
