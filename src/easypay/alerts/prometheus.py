"""Prometheus' rules, made from the table: `easypay alerts rules > easypay.rules.yml`."""

from typing import Any

import yaml

from easypay.alerts.model import Rule, missed, ratio, seconds
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


def document() -> dict[str, Any]:
    """Return the rules file as plain values."""
    longs = [long for _, long, _, _ in WINDOWS]
    shorts = [short for _, _, short, _ in WINDOWS]
    recorded = [
        {"record": name, "expr": expression, "labels": {"target": each.key}}
        for each in OBJECTIVES
        for name, expression in (
            *(
                (ratio(window), f"{each.bad.promql(window)} / {each.of.promql(window)}")
                for window in sorted({*longs, *shorts}, key=seconds)
            ),
            *((missed(window), each.bad.promql(window)) for window in longs),
        )
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
