"""For each rule, series on which it must fire and series on which it must not; and promtool.

The series come from the condition's own data (limit, window, labels), not from its PromQL, so a
wrong expression is found. Rules that read different metrics share a test: promtool evaluates every
rule at every step of every test.
"""

import json
import math
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from easypay.alerts.model import Absent, Burn, Level, Missing, Rise, Rule, Select, Share, Stands
from easypay.alerts.prometheus import annotations_of, labels_of
from easypay.alerts.table import FACTS, RULES
from easypay.alerts.targets import WINDOWS

STEP_S = 60
STEPS = 7
"""Seven minutes. A longer window sees what there is of it."""
PER_STEP = 10_000.0
HOST = {"job": "easypay", "instance": "pay-1:9464"}
OTHERS = {"outcome": "approved", "result": "came", "http_response_status_code": "201"}
"""What is counted, and is not bad."""
SAMPLES = {
    "5..": "503",
    "inquiry|vault_.*": "authorize",
    "/livez|/readyz|/metrics": "/api/v1/payments",
}
"""A value that a regular expression takes, or for `!~` does not."""


class Series(msgspec.Struct, frozen=True):
    """A series, as one value for each step."""

    metric: str
    labels: Mapping[str, str]
    values: Sequence[float]

    def as_promtool(self) -> dict[str, str]:
        labels = ", ".join(f'{name}="{value}"' for name, value in self.labels.items())
        # A scrape without the series ends it at once; promtool would keep it for five minutes.
        values = " ".join("stale" if math.isnan(each) else f"{each:.15g}" for each in self.values)
        return {"series": f"{self.metric}{{{labels}}}", "values": values}


def labels_for(select: Select) -> dict[str, str]:
    """Return labels that the matchers take."""
    found = dict(HOST)
    for label, how, value in select.where:
        if how == "!=":
            found[label] = "something-else"
        elif how == "=":
            found[label] = value
        else:
            found[label] = SAMPLES.get(value, value.split("|")[0])
    return found


def _of(select: Select, values: Sequence[float], **more: str) -> Series:
    return Series(select.metric, labels_for(select) | more, values)


def growing(per_step: float) -> list[float]:
    return [1e9 + per_step * step for step in range(STEPS + 1)]


def _with_share(when: Share | Burn, share: float) -> list[Series]:
    """Return series of which so large a share is bad."""
    bad = when.bad if isinstance(when, Share) else when.target.bad
    of = when.of if isinstance(when, Share) else when.target.of
    if bad.less is not None:  # slower than a bound: the bucket has the good ones
        all_of_it = bad.of
        if all_of_it.metric.startswith("http_"):  # the errors are among them
            return [_of(bad.less, growing(PER_STEP * (1 - share)))]
        return [
            _of(all_of_it, growing(PER_STEP)),
            _of(bad.less, growing(PER_STEP * (1 - share))),
        ]
    plain = {name: OTHERS[name] for name, *_ in bad.of.where if name in OTHERS}
    return [
        _of(bad.of, growing(PER_STEP * share)),
        Series(of.of.metric, labels_for(bad.of) | plain, growing(PER_STEP * (1 - share))),
    ]


def series(rule: Rule, *, fires: bool) -> list[Series]:
    """Return what lets the rule fire, or nearly."""
    when = rule.when
    match when:
        case Level():
            far = 0.001 if (when.beyond == ">") == fires else -0.001
            value = when.limit * (1 + far) if when.limit else float(fires)
            if when.over == "sum" and when.beyond == "<":
                value = float(not fires)
            by = {when.by: "one"} if when.by not in ("", "instance") else {}
            return [_of(when.of, [value] * (STEPS + 1), **by)]
        case Rise():
            grown = when.more_than * 1.5 + 1 if fires else when.more_than * 0.6
            values = [10.0] * (STEPS - 2) + [10.0 + grown] * 3
            return [_of(when.of, values)]
        case Share():
            return _with_share(when, when.above * (1.1 if fires else 0.9))
        case Missing():
            return [] if fires else [_of(when.of, [0.0] * (STEPS + 1))]
        case Absent():
            return [] if fires else [_of(when.of, [1.0] * (STEPS + 1))]
        case Stands():
            return [_of(when.beside, growing(4)), _of(when.of, growing(0 if fires else 1))]
        case Burn():
            return _with_share(when, _burning(when, fires=fires))


def _burning(when: Burn, *, fires: bool) -> float:
    return min(1.0, when.limit * 1.1) if fires else when.limit * 0.9


def expected(rule: Rule, *, fires: bool) -> list[dict[str, Any]]:
    """Return the alerts of the rule's name that must fire."""
    own: dict[str, str] = {}
    rules = [rule] if fires else []
    if isinstance(rule.when, Burn):
        own = {"target": rule.when.target.key}
        share = _burning(rule.when, fires=fires)
        same = [each for each in RULES if each.name == rule.name]
        rules = [each for each in same if isinstance(each.when, Burn) and each.when.limit < share]
    elif by := getattr(rule.when, "by", ""):
        own = {by: series(rule, fires=fires)[0].labels[by]}
    return [
        {"exp_labels": own | labels_of(each), "exp_annotations": annotations_of(each)}
        for each in rules
    ]


def _groups(*, burns: bool) -> Iterable[list[Rule]]:
    """Return rules whose series do not meet: the facts by metric, or the burns by factor."""
    if burns:
        for factor, *_ in WINDOWS:
            yield [each for each in RULES if getattr(each.when, "factor", None) == factor]
        return
    groups: list[tuple[set[str], list[Rule]]] = []
    for rule in FACTS:
        reads = {select.metric for select in rule.when.selects}
        for used, rules in groups:
            if not used & reads:
                used |= reads
                rules.append(rule)
                break
        else:
            groups.append((reads, [rule]))
    yield from (rules for _, rules in groups)


def rule_tests(*, burns: bool) -> list[dict[str, Any]]:
    """Return tests in which each rule fires once, and once does not, just below its limit. `burns`:
    those of the targets, which need all that is recorded."""
    up = Series("up", HOST, [1.0] * (STEPS + 1))
    return [
        {
            "interval": f"{STEP_S}s",
            "input_series": [
                each.as_promtool()
                for each in (
                    *(one for rule in rules for one in series(rule, fires=fires)),
                    *([] if any(rule.name == "EasyPayDown" for rule in rules) else [up]),
                )
            ],
            "alert_rule_test": [
                {
                    "eval_time": f"{STEPS * STEP_S}s",
                    "alertname": rule.name,
                    "exp_alerts": expected(rule, fires=fires),
                }
                for rule in rules
            ],
        }
        for rules in _groups(burns=burns)
        for fires in (True, False)
    ]


def promtool(folder: Path, rules: str, tests: list[dict[str, Any]], every: str = "1m") -> str:
    """Run promtool on these tests. Returns what it says, "" if all pass."""
    (folder / "rules.yml").write_text(rules)
    document = {"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": tests}
    (folder / "tests.yml").write_text(json.dumps(document))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
