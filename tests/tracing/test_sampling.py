"""Which traces are kept, and what may be in them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from easypay import ids
from easypay.addresses import headers_of
from easypay.api.http import Request
from easypay.api.observer import RequestObserver
from easypay.api.traced_requests import TracedRequests
from easypay.clock import stopwatch
from easypay.ids import new_request_id
from easypay.observability.access_log import AccessLog
from easypay.observability.logs import JsonLines
from easypay.observability.metrics import Instruments
from easypay.observability.trace import NO_SPAN, current
from easypay.observability.tracing.attributes import ATTRIBUTES, fits
from easypay.observability.tracing.marks import MOST_MARKS, Called, outcome_is_bad
from easypay.observability.tracing.otlp import of_process, request_of
from easypay.observability.tracing.recorder import Traces
from easypay.observability.tracing.sampling import MOST_KEPT_A_SECOND, Sampler
from easypay.observability.tracing.spans import spans_of
from easypay.settings import Settings
from easypay_bench import targets
from harness import ENCRYPTION_KEY
from tracing.intake import Intake, spans_in, taking

CLIENTS = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-%b"


def sampler(rate: float = 0.0, *, trust_parent: bool = False) -> Sampler:
    return Sampler(rate, trust_parent=trust_parent, slow_s=0.5, slow_own_s=0.01)


def keeps(made: Sampler, header: bytes | None = None, **how: Any) -> bool:
    trace = made.accept(header, new_request_id())
    return made.keeps(trace, **{"bad": False, "took_s": 0.1, "own_s": 0.005} | how)


@pytest.mark.parametrize(
    ("rate", "least", "most"), [(0, 0, 0), (1e-12, 0, 0), (0.1, 30, 180), (1, 1000, 1000)]
)
def test_the_rate_keeps_its_share(rate: float, least: int, most: int) -> None:
    made = sampler(rate)
    assert least <= sum(keeps(made) for _ in range(1000)) <= most


def test_a_client_cannot_choose_to_be_kept() -> None:
    made = sampler(0.1)
    highest = b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-01"
    assert sum(keeps(made, highest) for _ in range(1000)) < 180


def test_what_we_decided_is_in_the_header_for_those_whom_we_call() -> None:
    for rate, flags in ((0.0, b"00"), (1.0, b"01")):
        trace = sampler(rate).accept(CLIENTS % b"01", new_request_id())
        assert trace.header.endswith(flags)
        assert trace.trace_id == b"0af7651916cd43dd8448eb211c80319c"
        assert trace.parent == b"b7ad6b7169203331"
    assert sampler().accept(None, new_request_id()).parent == NO_SPAN


def test_the_flag_of_a_client_decides_only_if_it_is_trusted() -> None:
    assert keeps(sampler(0, trust_parent=True), CLIENTS % b"01")
    assert not keeps(sampler(1, trust_parent=True), CLIENTS % b"00")
    assert keeps(sampler(1, trust_parent=True)), "without a parent the rate decides"
    assert not keeps(sampler(0), CLIENTS % b"01")


@pytest.mark.parametrize("how", [{"bad": True}, {"took_s": 0.51}, {"own_s": 0.011}])
def test_errors_and_what_is_slow_are_kept_up_to_a_limit(how: dict[str, float]) -> None:
    made = sampler()
    kept = [keeps(made, **how) for _ in range(3 * MOST_KEPT_A_SECOND)]
    assert all(kept[:MOST_KEPT_A_SECOND])
    assert sum(kept) <= 2 * MOST_KEPT_A_SECOND  # a second may end meanwhile
    assert made.refused == kept.count(False)


def test_a_flood_of_slow_traces_or_of_other_work_hides_no_unknown_outcome() -> None:
    made = sampler()
    for _ in range(2 * MOST_KEPT_A_SECOND):
        keeps(made, took_s=0.6)
        keeps(made, kind="webhook", bad=True)
    assert keeps(made, bad=True)


def test_a_clients_span_that_may_be_a_card_number_leaves_with_nothing() -> None:
    header = b"00-0af7651916cd43dd8448eb211c80319c-4111111111111111-01"
    trace = sampler(1).accept(header, new_request_id())
    assert trace.parent == NO_SPAN
    assert trace.trace_id == b"0af7651916cd43dd8448eb211c80319c", "the trace goes on all the same"


def test_no_part_of_a_trace_begins_before_it() -> None:
    """Its end is told a moment late if the machine is busy."""
    now = stopwatch()
    trace = sampler(1).begin()
    trace.called(now - 2.0, now - 1.0, "authorize_net", "sale", "approved")
    parts = spans_of(trace, "POST /", "server", 1.5, {}, error=False)
    own, call = spans_in(request_of(parts, of_process({})))
    assert own.start_time_unix_nano <= call.start_time_unix_nano <= call.end_time_unix_nano
    assert call.end_time_unix_nano <= own.end_time_unix_nano


def test_slow_is_what_misses_the_targets() -> None:
    limits = {target.key: target.limit for target in targets.load()}
    fields = Settings.model_fields
    assert fields["traces_slow_s"].default * 1000 == limits["api_response_time.p99"]
    assert fields["traces_slow_own_s"].default * 1000 == limits["own_time.p99"]


def test_a_trace_has_a_bound_of_marks() -> None:
    trace = sampler(1).begin()
    for _ in range(2 * MOST_MARKS):
        trace.called(0.0, 1.0, "authorize_net", "sale", "approved")
    assert len(trace.marks) == MOST_MARKS


def test_many_statements_hide_no_unknown_outcome() -> None:
    trace = sampler().begin()
    for _ in range(2 * MOST_MARKS):
        trace.asked(0.0, 1.0, "SELECT payments")
    trace.called(0.0, 1.0, "authorize_net", "sale", "unknown")
    assert outcome_is_bad(trace.marks)


def test_an_unknown_outcome_is_bad_and_a_decline_is_not() -> None:
    def call(outcome: str) -> Called:
        return Called(0.0, 1.0, "authorize_net", "sale", outcome)

    assert outcome_is_bad([call("approved"), call("unknown")])
    assert not outcome_is_bad([call("declined")])


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize(
    "value",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "ada@example.com",
        "Ada Lovelace, 1 Street",
        "ep_test_sk_abc_0123456789abcdefghijABCDEFGHIJ12",
        "two\nlines",
        4111111111111111,
        4.111e15,
        5.3002000640844926e-05,
    ],
)
def test_no_attribute_takes_a_card_a_person_or_a_key(name: str, value: str | int | float) -> None:
    assert not fits(name, value)


def test_an_attribute_outside_the_table_does_not_fit() -> None:
    assert not fits("customer.email", "a")
    assert fits("http.route", "/api/v1/payments/{id}/capture")
    assert fits("easypay.outcome", "held_for_review")


def test_names_are_opentelemetrys_or_our_own() -> None:
    from opentelemetry.semconv._incubating.attributes import db_attributes
    from opentelemetry.semconv.attributes import (
        error_attributes,
        http_attributes,
        url_attributes,
    )

    known = {
        value
        for module in (db_attributes, error_attributes, http_attributes, url_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    assert {name for name in ATTRIBUTES if not name.startswith("easypay.")} <= known


def test_every_route_of_the_api_fits() -> None:
    from easypay.api.routes import ROUTES

    assert [route.path for route in ROUTES if not fits("http.route", route.path)] == []


def test_the_headers_of_a_collector_are_read_as_opentelemetry_writes_them() -> None:
    assert headers_of("Authorization=ApiKey%20abc==, x-tenant=1") == {
        "Authorization": "ApiKey abc==",
        "x-tenant": "1",
    }
    for wrong in ("abc", "=1", "a=b%0d%0aHost: c", "a b=c", "a=%E2%82%AC", "ä=b"):
        with pytest.raises(ValueError, match="name=value"):
            headers_of(wrong)


def test_wrong_headers_are_told_with_the_settings_before_anything_starts() -> None:
    variables: dict[str, Any] = {"database_url": "postgresql://", "encryption_key": ENCRYPTION_KEY}
    with pytest.raises(ValidationError, match="traces_headers") as told:
        Settings(**variables, traces_headers="Bearer secretive")
    assert [each["msg"] for each in told.value.errors()] == [
        "Value error, use name=value, separated by commas"
    ]


@asynccontextmanager
async def traces(**over: str) -> AsyncIterator[tuple[Traces, Instruments, Intake]]:
    """Yield what keeps no ordinary trace, and a collector."""
    async with taking() as intake:
        variables: dict[str, Any] = {"traces_url": intake.url, "traces_rate": "0"} | over
        variables |= {"database_url": "postgresql://", "encryption_key": ENCRYPTION_KEY}
        instruments = Instruments()
        yield Traces(Settings(**variables), instruments, "easypay"), instruments, intake


async def test_an_unknown_outcome_is_kept_if_the_client_has_left() -> None:
    async with traces() as (made, instruments, intake):
        observer = TracedRequests(RequestObserver(instruments, AccessLog(silent=True)), made)
        for outcome in ("approved", "unknown"):
            request = Request("POST", "/", {}, {}, b"", b"", new_request_id())
            trace = made.accept(None, request.id)
            trace.called(0.0, 0.1, "authorize_net", "sale", outcome)
            observer.answered("/api/v1/payments", request, None, 0.2, trace)
        await made.close(5)
    assert [span.name for span in intake.spans] == ["POST /api/v1/payments", "authorize_net sale"]


async def test_work_that_waits_on_purpose_is_not_slow() -> None:
    """A worker waits for more outcomes to record together: longer than a request may take."""

    async def do() -> str:
        return "done"

    async with traces(traces_slow_own_s="0.000001") as (made, _, intake):
        operation = {ids.OPERATION: ids.new_id()}
        assert await asyncio.create_task(made.work("batch line", operation, do(), None)) == "done"
        await made.close(5)
    assert intake.spans == []


def test_a_log_line_names_the_trace_in_which_it_happened() -> None:
    record = logging.LogRecord("easypay.x", logging.WARNING, "", 0, "tried again later", (), None)
    trace = sampler().begin(b"019a" * 8)
    before = current.set(trace)
    try:
        line = json.loads(JsonLines().format(record))
    finally:
        current.reset(before)
    assert line["trace_id"] == "019a" * 8
    assert "trace_id" not in json.loads(JsonLines().format(record))
