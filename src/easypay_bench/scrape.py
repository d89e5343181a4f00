"""Reads the gateway's own metrics over HTTP, and computes figures from them."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from easypay.alerts.targets import DURATION as DURATION
from easypay.alerts.targets import OWN as OWN
from easypay.alerts.targets import PERCENTILES as WITH_LABELS
from easypay.alerts.targets import PROBES
from easypay_bench.http_calls import exchange, refusal
from easypay_bench.targets import needed

Labels = frozenset[tuple[str, str]]
Reading = dict[tuple[str, Labels], float]
"""(sample, labels) -> value."""
Bucket = tuple[float, float]

SHARES: Final = (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
PERCENTILES: Final[Sequence[tuple[str, str, float, Mapping[str, Sequence[str]]]]] = (
    *((f"api_response_time.{name}", DURATION, share, {}) for name, share in SHARES),
    *((f"own_time.{name}", OWN, share, {}) for name, share in SHARES),
    *((each.key, each.histogram, each.share, each.labels) for each in WITH_LABELS if each.labels),
)
"""Target, histogram, share below the value, and the histogram's labels that count."""


def read(api_url: str, admin_key: str | None = None, key: str = "the admin key") -> Reading:
    """Return what /metrics shows now. `key`: as in `calls.call`. Raises StackFailed if it cannot be
    read."""
    url = f"{api_url}/metrics"
    status, media_type, content = exchange("GET", url, bearer=admin_key, within_s=10)
    if status == 200:
        with suppress(ValueError):
            reading = parse(content.decode())
            if any(sample.startswith("easypay_") for sample, _ in reading):
                return reading
    raise refusal(url, status, media_type, content, key)


def parse(text: str) -> Reading:
    """Parse a reading in the exposition format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def between(before: Reading, after: Reading) -> Reading:
    """Return the counts between two readings. A counter that went back was restarted."""
    return {
        key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
        for key, value in after.items()
    }


def total(reading: Reading, name: str, **labels: str) -> float:
    """Return the sum of all samples of this name that carry the labels."""
    wanted = labels.items()
    return sum(v for (sample, has), v in reading.items() if sample == name and wanted <= has)


def _buckets(reading: Reading, name: str, labels: Mapping[str, Sequence[str]]) -> list[Bucket]:
    """Return a histogram's buckets as (bound, count up to it), the lowest first."""
    buckets: dict[float, float] = {}
    for (sample, has), value in reading.items():
        found = dict(has)
        if found.get("http_route") in PROBES and name == DURATION:
            continue
        if sample == f"{name}_bucket" and all(found.get(k, "") in v for k, v in labels.items()):
            bound = float(found["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    return sorted(buckets.items())


def _quantile(buckets: Sequence[Bucket], share: float) -> float:
    """Return the value below which a share (0 to 1) of a histogram's observations lie, linear in
    its bucket, like Prometheus' histogram_quantile; NaN if there are none."""
    if not buckets or not buckets[-1][1]:
        return math.nan
    rank = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / ((count - below) or 1)
        low, below = bound, count
    return low


def percentiles(reading: Reading) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
    """Return the percentiles that targets name, in milliseconds; and for those of too few
    observations, how many there were and are needed."""
    found: dict[str, float] = {}
    too_few: dict[str, tuple[int, int]] = {}
    for key, name, share, labels in PERCENTILES:
        buckets = _buckets(reading, name, labels)
        found[key] = _quantile(buckets, share) * 1000
        had, least = int(buckets[-1][1]) if buckets else 0, needed(share)
        if had < least:
            too_few[key] = had, least
    return found, too_few


def figures(reading: Reading) -> dict[str, float]:
    """Return the figures for the targets (milliseconds, shares) from a reading or difference."""
    found, _ = percentiles(reading)
    answers = wrong = 0.0
    for (sample, has), value in reading.items():
        labels = dict(has)
        if sample == f"{DURATION}_count" and labels["http_route"] not in PROBES:
            answers += value
            wrong += value * labels["http_response_status_code"].startswith("5")
    found["errors.rate"] = wrong / answers if answers else math.nan
    found["unknown_outcomes.oldest"] = total(reading, "easypay_unknown_age_seconds") * 1000
    return found


def by_route(reading: Reading) -> Mapping[str, float]:
    """Return how many requests each route answered."""
    counts: dict[str, float] = {}
    for (sample, has), value in reading.items():
        if sample == f"{DURATION}_count":
            route = dict(has)["http_route"]
            counts[route] = counts.get(route, 0.0) + value
    return counts
