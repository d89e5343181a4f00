"""Prometheus' rules, made from the table: `easypay alerts rules > easypay.rules.yml`."""

from collections.abc import Iterator
from typing import Any

import yaml

from easypay.alerts.model import Objective, Rule, counted, grown, missed, ratio, seconds
from easypay.alerts.table import RULES
from easypay.alerts.targets import OBJECTIVES, WINDOWS

_HEAD = "# Made by `easypay alerts rules`. docs/runbook.md has an entry for each alert.\n"


def labels_of(rule: Rule) -> dict[str, str]:
    """Return the labels that an alert carries beside those of its series."""
    burn = getattr(rule.when, "factor", None)
    return {"severity": rule.severity} | ({} if burn is None else {"burn": f"{burn:g}"})


def annotations_of(rule: Rule) -> dict[str, str]:
    """Return the texts of an alert. None depends on a value, so that a message can be compared."""
    return {
        "summary": rule.summary,
        "do": f"{rule.look} {rule.do}",
        "over": rule.over,
        "runbook": f"docs/runbook.md#{rule.name.lower()}",
    }


def _recorded(target: Objective, window: str) -> Iterator[tuple[str, str]]:
    """Yield what is recorded of a target: each rule uses those before it, so that Prometheus reads
    a series once for a window."""
    this = f'{{target="{target.key}"}}'
    yield counted(window), target.of.promql(window)
    in_time = target.bad.less
    if in_time is None:
        yield missed(window), target.bad.promql(window)
    else:
        yield missed(window), f"sum({counted(window)}{this}) - sum({grown(in_time, window)})"
    yield ratio(window), f"{missed(window)}{this} / {counted(window)}{this}"


def document() -> dict[str, Any]:
    """Return the rules file as plain values."""
    windows = sorted({each for _, *pair, _ in WINDOWS for each in pair}, key=seconds)
    recorded = [
        {"record": name, "expr": expression, "labels": {"target": each.key}}
        for each in OBJECTIVES
        for window in windows
        for name, expression in _recorded(each, window)
    ]
    alerts = [
        {
            "alert": rule.name,
            "expr": rule.when.promql,
            **({} if rule.lasts == "0m" else {"for": rule.lasts}),
            "labels": labels_of(rule),
            "annotations": annotations_of(rule),
        }
        for rule in RULES
    ]
    return {
        "groups": [
            {"name": "easypay targets", "interval": "30s", "rules": recorded},
            {"name": "easypay alerts", "interval": "15s", "rules": alerts},
        ]
    }


def text() -> str:
    """Return the rules file."""
    body = yaml.safe_dump(document(), sort_keys=False, width=1000, allow_unicode=True)
    return _HEAD + body
