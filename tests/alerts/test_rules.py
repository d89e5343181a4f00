"""The table of rules: promtool tries each on series, and everything made from it is up to date."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import recordings
from alert_series import HOST, Series, promtool, rule_tests

from easypay.alerts import prometheus, runbook, targets
from easypay.alerts.table import RULES
from easypay.observability.metrics import SECONDS, Instruments
from easypay_bench import targets as promised

ROOT = Path(__file__).parents[2]
FAMILIES = Instruments().registry.families
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


@needs_promtool
def test_each_rule_fires_on_what_it_is_for_and_is_quiet_just_below(tmp_path: Path) -> None:
    facts, burns = rule_tests(burns=False), rule_tests(burns=True)
    assert sum(len(test["alert_rule_test"]) for test in facts + burns) == 2 * len(RULES)
    assert promtool(tmp_path, _alerts_alone(), facts) == ""
    assert promtool(tmp_path, prometheus.text(), burns) == ""


def _alerts_alone() -> str:
    """Return the rules without what is recorded for the targets, which takes most of the time."""
    return json.dumps({"groups": prometheus.document()["groups"][1:]})


@needs_promtool
def test_promtool_finds_a_rule_whose_limit_is_wrong(tmp_path: Path) -> None:
    right, wrong = (
        "max(easypay_unknown_age_seconds) > 1200",
        "max(easypay_unknown_age_seconds) > 1300",
    )
    assert right in _alerts_alone()
    tests = [
        test
        for test in rule_tests(burns=False)
        if "easypay_unknown_age_seconds" in str(test["input_series"])
    ]
    said = promtool(tmp_path, _alerts_alone().replace(right, wrong), tests)
    assert "EasyPayUnknownOutcomesStay" in said


@needs_promtool
def test_a_burn_sees_a_series_that_begins_with_its_errors_and_no_probe_hides_them(
    tmp_path: Path,
) -> None:
    """Of few payments all fail, for the first time; a load balancer asks for /livez often."""

    def counted(route: str, status: str, values: list[float]) -> dict[str, str]:
        labels = {**HOST, "http_route": route, "http_response_status_code": status}
        return Series(f"{targets.DURATION}_count", labels, values).as_promtool()

    up = Series("up", HOST, [1.0] * 70).as_promtool()
    probes = counted("/livez", "200", [120.0 * step for step in range(70)])
    taken = counted("/api/v1/payments", "201", [1000.0] * 70)
    failed = counted("/api/v1/payments", "503", [math.nan] * 66 + [12.0] * 4)
    (rule,) = (each for each in RULES if each.key == "EasyPayErrorsBurn 14.4")
    alert = {
        "exp_labels": {"target": targets.ERRORS.key} | prometheus.labels_of(rule),
        "exp_annotations": prometheus.annotations_of(rule),
    }
    test = {
        "interval": "1m",
        "input_series": [up, probes, taken, failed],
        "alert_rule_test": [
            {"eval_time": "65m", "alertname": rule.name, "exp_alerts": []},
            {"eval_time": "68m", "alertname": rule.name, "exp_alerts": [alert]},
        ],
    }
    assert promtool(tmp_path, recordings.rules_for(rule), [test]) == ""


def test_a_rule_reads_only_metrics_labels_and_buckets_that_exist() -> None:
    for rule in RULES:
        for select in rule.when.selects:
            if select.metric == "up":
                continue
            name = re.sub(r"_(bucket|count|sum)$", "", select.metric)
            family = FAMILIES.get(select.metric) or FAMILIES[name]
            labels = {*family.labels} | ({"le"} if select.metric.endswith("_bucket") else set())
            assert {label for label, _, _ in select.where} <= labels, rule.name
            bounds = [value for label, _, value in select.where if label == "le"]
            assert {float(bound) for bound in bounds} <= set(SECONDS), rule.name


def test_a_rule_says_what_a_person_needs_to_know() -> None:
    assert len({rule.key for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert all((rule.summary, rule.means, rule.look, rule.do, rule.over)), rule.name
        assert rule.over.endswith("."), rule.name


def test_the_targets_are_those_that_slo_and_the_load_test_promise() -> None:
    limits = {each.key: each.limit for each in promised.load()}
    assert limits[targets.ERRORS.key] == targets.ERRORS.budget
    for each in targets.PERCENTILES:
        assert limits[each.key] == each.limit_s * 1000


def test_the_files_are_up_to_date() -> None:
    rules = ROOT / "deploy" / "prometheus" / "easypay.rules.yml"
    assert rules.read_text("utf-8") == prometheus.text(), "easypay alerts rules > " + str(rules)
    page = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert runbook.renewed(page) == page, "python -m easypay.alerts.runbook docs/runbook.md"
