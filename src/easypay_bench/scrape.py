"""The gateway's own metrics, read over HTTP, and what two readings say of the time between."""

import http.client
import math
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from easypay_bench.stack import StackFailed

Labels = frozenset[tuple[str, str]]
Reading = dict[tuple[str, Labels], float]
"""(sample, labels) -> value."""

DURATION: Final = "http_server_request_duration_seconds"
OWN: Final = "easypay_own_time_seconds"
DATABASE: Final = "db_client_operation_duration_seconds"
PROCESSOR: Final = "easypay_processor_call_duration_seconds"
GROUPS: Final = ("begin", "follow-up", "record")
SIMPLE: Final = ("read",)
COMPLEX: Final = ("SELECT payments", "SELECT operations", "SELECT events")


def read(api_url: str, admin_key: str | None = None) -> Reading:
    """What /metrics shows now. Raises StackFailed where it cannot be had."""
    parts = urlsplit(api_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {admin_key}"} if admin_key else {}
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise StackFailed(f"{api_url}/metrics: {str(error) or repr(error)}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise StackFailed(f"{api_url}/metrics answers {answer.status}: it needs the admin key")
    return parse(text)


def parse(text: str) -> Reading:
    """A reading out of the exposition format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def between(before: Reading, after: Reading) -> Reading:
    """What was counted from one reading to the next. A counter that went back began anew."""
    return {
        key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
        for key, value in after.items()
    }


def total(reading: Reading, name: str, **labels: str) -> float:
    """The sum of all samples of this name that carry the labels."""
    wanted = labels.items()
    return sum(v for (sample, has), v in reading.items() if sample == name and wanted <= has)


def quantile(reading: Reading, name: str, share: float, **labels: Sequence[str]) -> float:
    """Where a share (0 to 1) of a histogram's observations lie below, by linear interpolation in
    its bucket, as Prometheus' histogram_quantile has it; NaN where there are none."""
    buckets: dict[float, float] = {}
    for (sample, has), value in reading.items():
        found = dict(has)
        if sample == f"{name}_bucket" and all(found.get(k, "") in v for k, v in labels.items()):
            bound = float(found["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    ordered = sorted(buckets.items())
    if not ordered or not ordered[-1][1]:
        return math.nan
    rank = share * ordered[-1][1]
    low, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / ((count - below) or 1)
        low, below = bound, count
    return low


def figures(reading: Reading) -> dict[str, float]:
    """What a reading (or the difference of two) says of the targets; milliseconds, shares."""
    told: dict[str, float] = {}
    for name, share in (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        told[f"api_response_time.{name}"] = quantile(reading, DURATION, share) * 1000
        told[f"own_time.{name}"] = quantile(reading, OWN, share) * 1000
    for name, statements in (
        ("simple_queries", SIMPLE), ("complex_queries", COMPLEX), ("batch_operations", GROUPS),
    ):  # fmt: skip
        told[f"database_queries.{name}"] = (
            quantile(reading, DATABASE, 0.95, db_query_summary=statements) * 1000
        )
    told["external_api_calls.authorize_net"] = (
        quantile(reading, PROCESSOR, 0.95, processor=("authorize_net",)) * 1000
    )
    answers = total(reading, f"{DURATION}_count")
    wrong = sum(
        value
        for (sample, has), value in reading.items()
        if sample == f"{DURATION}_count"
        and dict(has)["http_response_status_code"].startswith("5")
        and dict(has)["http_route"] != "/readyz"
    )
    told["errors.rate"] = wrong / answers if answers else math.nan
    told["unknown_outcomes.oldest"] = total(reading, "easypay_unknown_age_seconds") * 1000
    return told


def by_route(reading: Reading) -> Mapping[str, float]:
    """How many requests each route answered."""
    counts: dict[str, float] = {}
    for (sample, has), value in reading.items():
        if sample == f"{DURATION}_count":
            route = dict(has)["http_route"]
            counts[route] = counts.get(route, 0.0) + value
    return counts
