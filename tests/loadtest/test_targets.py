"""The targets file: what it may contain, how errors are named, how targets are checked."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from easypay_bench import scrape
from easypay_bench.loadtest import run
from easypay_bench.loadtest.histograms import Histogram, Tally
from easypay_bench.loadtest.schedule import Schedule
from easypay_bench.loadtest.terminal_output import verdicts
from easypay_bench.targets import Target, judge, load, needed, shown


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "targets.yaml"
    path.write_text(text)
    return path


def test_the_targets_that_come_with_easypay_are_valid() -> None:
    found = load()
    assert len(found) > 10
    assert Target("api_response_time", "p99", "<", 500.0, "ms") in found
    assert Target("throughput", "sustained_rps", ">", 500.0, "") in found


@pytest.mark.parametrize(
    ("text", "limit", "unit"),
    [
        ("< 200ms", 200, "ms"),
        ("< 0.2 s", 200, "ms"),
        ("<= 500us", 0.5, "ms"),
        ("< 500µs", 0.5, "ms"),
        ("< 0.1%", 0.001, "%"),
        ("> 10_000", 10_000, ""),
        (">=1.5", 1.5, ""),
    ],
)
def test_limits_are_read_in_their_units(tmp_path: Path, text: str, limit: float, unit: str) -> None:
    path = written(tmp_path, f'performance_targets: {{api_response_time: {{p50: "{text}"}}}}')
    [target] = load(path)
    assert target.limit == pytest.approx(limit)
    assert target.unit == unit


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [", "is not YAML"),
        ("", "no performance_targets"),
        ("targets: {}", "no performance_targets"),
        ("performance_targets: []", "no performance_targets"),
        ("performance_targets: {speed: {p50: '< 1ms'}}", "speed is not one of"),
        ("performance_targets: {own_time: '< 1ms'}", "own_time is not one of"),
        ("performance_targets: {own_time: {p42: '< 1ms'}}", "own_time.p42 is not one of"),
        ("performance_targets: {own_time: {p50: fast}}", "own_time.p50 is 'fast'"),
        ("performance_targets: {own_time: {p50: '< 1 min'}}", "own_time.p50 is '< 1 min'"),
        ("performance_targets: {own_time: {p50: 5}}", "own_time.p50 is '5'"),
        ("performance_targets: {own_time: {p50: }}", "own_time.p50 is 'None'"),
    ],
)
def test_an_error_in_the_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"targets\.yaml") as caught:
        load(path)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value).strip() or named == "is not YAML"


@pytest.mark.parametrize(
    ("sign", "figure", "met"),
    [
        ("<", 9.9, True), ("<", 10, False), ("<=", 10, True), ("<=", 10.1, False),
        (">", 10.1, True), (">", 10, False), (">=", 10, True), (">=", 9.9, False),
    ],
)  # fmt: skip
def test_a_limit_itself_counts_as_its_sign_says(sign: str, figure: float, met: bool) -> None:
    target = Target("own_time", "p99", sign, 10.0, "ms")
    [verdict] = judge([target], {"own_time.p99": figure})
    assert verdict.met is met


@pytest.mark.parametrize("figures", [{}, {"own_time.p99": math.nan}])
def test_a_target_without_a_figure_is_neither_met_nor_missed(figures: dict[str, float]) -> None:
    [verdict] = judge([Target("own_time", "p99", "<", 10.0, "ms")], figures)
    assert verdict.met is None
    assert verdict.why
    assert verdict.measured == "-"


@pytest.mark.parametrize(
    ("share", "least"), [(0.5, 20), (0.75, 40), (0.9, 100), (0.95, 200), (0.99, 1000)]
)
def test_a_percentile_needs_ten_requests_above_it(share: float, least: int) -> None:
    assert needed(share) == least


def test_a_percentile_of_too_few_is_neither_met_nor_missed() -> None:
    target = Target("own_time", "p99", "<", 10.0, "ms")
    [verdict] = judge([target], {"own_time.p99": 900.0}, {"own_time.p99": (1019, 10_000)})
    assert (verdict.met, verdict.figure) == (None, 900.0)
    assert verdict.why == "not judged: 1,019 of 10,000 requests needed"


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [(12.5, "ms", "12.5 ms"), (0.001, "%", "0.1 %"), (1000, "", "1,000"), (0.25, "ms", "0.25 ms")],
)
def test_figures_are_short(figure: float, unit: str, text: str) -> None:
    assert shown(figure, unit) == text


EXPOSED = """
# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_bucket{r="POST",http_route="/p",http_response_status_code="201",le="0.1"} 80
http_server_request_duration_seconds_bucket{r="POST",http_route="/p",http_response_status_code="201",le="0.2"} 100
http_server_request_duration_seconds_bucket{r="POST",http_route="/p",http_response_status_code="201",le="+Inf"} 100
http_server_request_duration_seconds_count{r="POST",http_route="/p",http_response_status_code="201"} 98
http_server_request_duration_seconds_count{r="POST",http_route="/p",http_response_status_code="500"} 2
http_server_request_duration_seconds_count{r="GET",http_route="/readyz",http_response_status_code="503"} 7
http_server_request_duration_seconds_count{r="GET",http_route="/livez",http_response_status_code="200"} 9000
http_server_request_duration_seconds_bucket{r="GET",http_route="/livez",http_response_status_code="200",le="0.1"} 9000
http_server_request_duration_seconds_bucket{r="GET",http_route="/livez",http_response_status_code="200",le="0.2"} 9000
http_server_request_duration_seconds_bucket{r="GET",http_route="/livez",http_response_status_code="200",le="+Inf"} 9000
easypay_unknown_age_seconds 3
"""  # noqa: E501


def test_the_gateways_metrics_become_figures() -> None:
    figures = scrape.figures(scrape.parse(EXPOSED))
    assert figures["api_response_time.p50"] == pytest.approx(62.5)
    assert figures["api_response_time.p90"] == pytest.approx(150)
    assert figures["errors.rate"] == pytest.approx(2 / 100), "probes hide no errors"
    assert figures["unknown_outcomes.oldest"] == 3000
    assert math.isnan(figures["own_time.p99"]), "no request, so no figure"
    _, too_few = scrape.percentiles(scrape.parse(EXPOSED))
    assert "api_response_time.p90" not in too_few
    assert too_few["api_response_time.p95"] == (100, 200)


def _step(answers: int, own: int) -> run.Step:
    """A stretch with so many answers, of which some told the gateway's own time."""
    tally = Tally()
    tally.calls["get"] = Histogram({1000: answers})
    tally.own = Histogram({500: own} if own else None)
    plan = run.Plan(
        schedule=Schedule(model="constant", seconds=10),
        weights={},
        connections=1,
        max_in_flight=1,
    )
    return run._step(tally, plan, 10)


def test_each_percentile_of_a_load_test_is_judged_by_the_requests_that_it_is_of() -> None:
    too_few = run._too_few([_step(1000, 150)], None, None, None)
    assert too_few == {
        "api_response_time.p99.9": (1000, 10_000),
        "own_time.p95": (150, 200),
        "own_time.p99": (150, 1000),
        "own_time.p99.9": (150, 10_000),
    }


def test_a_figure_of_the_gateway_is_judged_by_the_gateways_count() -> None:
    """Answers that do not tell the gateway's own time leave the figure of its metrics."""
    buckets = "".join(f'{scrape.OWN}_bucket{{le="{le}"}} 5000\n' for le in ("0.1", "+Inf"))
    after = scrape.parse(f"# TYPE {scrape.OWN} histogram\n{buckets}")
    too_few = run._too_few([_step(20_000, 0)], None, {}, after)
    assert not [key for key in too_few if key.startswith("own_time.")]


def test_a_restarted_gateway_does_not_count_backwards() -> None:
    def reading(count: int) -> scrape.Reading:
        return scrape.parse(f"# TYPE calls counter\ncalls_total {count}\n")

    assert scrape.total(scrape.between(reading(5), reading(8)), "calls_total") == 3
    assert scrape.total(scrape.between(reading(100), reading(8)), "calls_total") == 8


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_table_of_targets_cuts_no_word(width: int) -> None:
    target = Target("database_queries", "batch_operations", "<", 100.0, "ms")
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(verdicts(judge([target], {target.key: 17.8}, {target.key: (63, 200)})))
    printed = console.export_text()
    assert target.key in printed
    assert "…" not in printed
