"""Metrics as a gateway and a worker showed them around a fault, and what promtool makes of them.

A recording is four readings: at rest, before the fault, at its end, and after it. In Prometheus'
time the rest lasts ten minutes, the fault two, and what was counted in a phase comes within its
first minute: nothing is counted that was not recorded. The alert must fire within the two minutes,
and be over once its windows have passed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from alert_series import HOST, Series
from prometheus_client.parser import text_string_to_metric_families

from easypay.alerts import prometheus
from easypay.alerts.model import Burn, Rule, Select
from easypay.alerts.prometheus import annotations_of, labels_of
from easypay.alerts.table import RULES

FILE: Final = Path(__file__).with_name("recorded_faults.json")
STEP_S: Final = 15
_REST, _FAULT, _COUNTING = 40, 8, 4
_UNTIL_OVER: Final = 8
"""Steps after an alert's windows have passed."""


class Recording(msgspec.Struct, frozen=True):
    """What was done, the rule that must fire, and its series by metric and labels: four values,
    None where a reading did not have the series."""

    fault: str
    rule: str
    series: list[tuple[str, dict[str, str], list[float | None]]]
    where: dict[str, str] = {}
    """The labels of the alert that are its series'."""


def load() -> list[Recording]:
    """Return the recordings that are committed."""
    text = FILE.read_bytes() if FILE.exists() else b"[]"
    return msgspec.json.decode(text, type=list[Recording])


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return a reading by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def record(
    fault: str, key: str, texts: Sequence[str | None], where: Mapping[str, str] | None = None
) -> Recording:
    """Make a recording for a rule from four readings; None: the gateway did not answer."""
    rule = next(rule for rule in RULES if rule.key == key)
    readings = [({} if text is None else read(text)) for text in texts]
    wanted: set[Select] = set(rule.when.selects)
    series = []
    for name, labels in sorted({each for reading in readings for each in reading}):
        if any(each.metric == name and each.takes(dict(labels)) for each in wanted):
            values = [reading.get((name, labels)) for reading in readings]
            if any(values) or not _counts(name):
                series.append((name, dict(labels), values))
    series.append(("up", {}, [0.0 if text is None else 1.0 for text in texts]))
    return Recording(fault, key, series, dict(where or {}))


def _counts(name: str) -> bool:
    return name.endswith(("_total", "_count", "_bucket"))


def _values(name: str, given: Sequence[float | None], after: int) -> list[float]:
    """Spread four readings over the steps."""
    rest, before, fault, later = (math.nan if value is None else value for value in given)
    counter = _counts(name)

    def phase(start: float, end: float, steps: int) -> list[float]:
        if not counter or math.isnan(start) or math.isnan(end):
            return [end] * steps
        return [start + (end - start) * min(1.0, n / _COUNTING) for n in range(1, steps + 1)]

    return [
        *phase(rest, before, _REST),
        *phase(before, fault, _FAULT),
        *phase(fault, later, after),
    ]


def promtool_test(recording: Recording) -> tuple[str, dict[str, Any]]:
    """Return the rules that the recording needs, and the test."""
    rule = next(rule for rule in RULES if rule.key == recording.rule)
    after = _windows(rule) // STEP_S + _UNTIL_OVER
    series = [
        Series(name, {**labels, **HOST}, _values(name, values, after))
        for name, labels, values in recording.series
    ]
    fires = [
        {
            "exp_labels": _own(rule, recording) | labels_of(rule),
            "exp_annotations": annotations_of(rule),
        }
    ]
    moments = ((_REST - 1, []), (_REST + _FAULT - 1, fires), (_REST + _FAULT + after - 1, []))
    return rules_for(rule), {
        "interval": f"{STEP_S}s",
        "input_series": [each.as_promtool() for each in series],
        "alert_rule_test": [
            {"eval_time": f"{step * STEP_S}s", "alertname": rule.name, "exp_alerts": expected}
            for step, expected in moments
        ],
    }


def _own(rule: Rule, recording: Recording) -> dict[str, str]:
    if isinstance(rule.when, Burn):
        return {"target": rule.when.target.key}
    by = getattr(rule.when, "by", "")
    return {by: HOST["instance"]} if by == "instance" else recording.where


def _windows(rule: Rule) -> int:
    """Return for how many seconds a rule remembers: of two windows the short one decides."""
    if isinstance(rule.when, Burn):
        return int(rule.when.short[:-1]) * 60
    return rule.when.longest_s if not rule.needs_prometheus else 0


def rules_for(rule: Rule) -> str:
    """Return a rules file with one alert and what it needs."""
    targets, alerts = prometheus.document()["groups"]
    target = rule.when.target.key if isinstance(rule.when, Burn) else ""
    labels = labels_of(rule)
    recorded = [each for each in targets["rules"] if each["labels"]["target"] == target]
    chosen = [
        each for each in alerts["rules"] if each["alert"] == rule.name and each["labels"] == labels
    ]
    groups = [{"name": "recorded", "rules": recorded}, {"name": "alerts", "rules": chosen}]
    return json.dumps({"groups": groups})
