"""A worker judges as Prometheus does: the same series, and the same verdict as promtool's."""

from datetime import UTC, datetime, timedelta

import pytest
from alert_series import HOST, PER_STEP, STEP_S, Series, growing, series

from easypay.alerts import states
from easypay.alerts.history import Readings, Sample
from easypay.alerts.model import Burn, Rule
from easypay.alerts.table import FACTS, RULES
from easypay.alerts.watch import JUDGED

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULE = {rule.key: rule for rule in RULES}
OVER_AFTER = timedelta(seconds=60)


def _read(rule: Rule, *, fires: bool) -> Readings:
    readings = Readings([rule])
    given = series(rule, fires=fires)
    if isinstance(rule.when, Burn) and len(given) == 1:  # promtool has the errors' series, too
        counted = rule.when.target.of.of.metric
        given.append(Series(counted, HOST, growing(PER_STEP)))
    for step, values in enumerate(zip(*(each.values for each in given), strict=True)):
        samples: list[Sample] = [
            (each.metric, each.labels, value) for each, value in zip(given, values, strict=True)
        ]
        readings.add(float(step * STEP_S), samples)
    return readings


@pytest.mark.parametrize("rule", JUDGED, ids=lambda rule: rule.key)
def test_a_rule_holds_on_what_it_is_for_and_not_just_below(rule: Rule) -> None:
    assert len(rule.when.holds(_read(rule, fires=True))) == 1
    assert not rule.when.holds(_read(rule, fires=False))


def test_only_what_looks_further_back_than_an_hour_needs_prometheus() -> None:
    assert {rule.name for rule in set(FACTS) - set(JUDGED)} == {"EasyPayNoWorker"}
    assert {rule.key for rule in set(RULES) - set(FACTS) - set(JUDGED)} == {
        rule.key for rule in RULES if rule.key[-2:] in (" 6", " 3", " 1")
    }


def test_a_restarted_counter_counts_on_and_a_new_series_counts_from_its_first_value() -> None:
    rule = RULE["EasyPayAccountRefused"]
    (select,) = rule.when.selects
    readings = Readings([rule])

    def read(at_s: float, **values: float) -> float:
        here = {"instance": "a"}
        counts = [(select.metric, here | {"code": code}, value) for code, value in values.items()]
        readings.add(at_s, [("other", here, 1.0), *counts])
        return readings.increases(select, "5m", "").get("", 0.0)

    assert read(0, E00007=5) == 0, "nobody knows how old the five are"
    assert read(15, E00007=7) == 2
    assert read(30, E00007=1) == 3, "it was restarted"
    assert read(45, E00007=1, E00008=1) == 4, "a new series"
    assert read(400, E00007=1, E00008=1) == 0, "all of it is more than five minutes ago"


def test_a_listener_that_did_not_answer_at_first_is_new_when_it_does() -> None:
    rule = RULE["EasyPayAccountRefused"]
    (select,) = rule.when.selects
    readings = Readings([rule])
    here = {"instance": "a"}
    readings.add(0, [("up", here, 0.0)])
    readings.add(15, [("up", here, 1.0), (select.metric, here, 5.0)])
    assert not rule.when.holds(readings), "they may be of last week"
    readings.add(30, [("up", here, 1.0), (select.metric, here, 6.0)])
    assert rule.when.holds(readings) == {"": 1.0}


def _after(
    before: dict[states.Key, states.State], seconds: float, *, holds: bool, known: bool = True
) -> dict[states.Key, states.State]:
    key = "EasyPayClockWrong"
    found = {(key, "a"): 40.0} if holds else {}
    now = NOW + timedelta(seconds=seconds)
    return states.advance(before, found, RULE, [key] if known else [], now, OVER_AFTER)


def _told(now: dict[states.Key, states.State], way: str = "webhook") -> list[str]:
    news = states.to_tell(now.values(), way, RULE)
    for state, message in news:
        states.told(state, way, message.state)
    return [message.state for _, message in news]


def test_an_alert_waits_is_told_once_and_is_over_once() -> None:
    now = _after({}, 0, holds=True)
    assert _told(now) == [], "it must last for a minute"
    assert _told(now := _after(now, 60, holds=True)) == ["firing"]
    assert _told(now := _after(now, 75, holds=True)) == []
    assert _told(now := _after(now, 90, holds=False)) == [], "it may be back at once"
    assert _told(now := _after(now, 95, holds=True)) == []
    assert _told(now := _after(now, 300, holds=False, known=False)) == [], "nobody knows"
    assert _told(now := _after(now, 315, holds=False)) == ["over"]
    assert states.without_finished(now, ["webhook"]) == {}


def test_what_does_not_last_is_not_told() -> None:
    now = _after({}, 0, holds=True)
    now = _after(now, 30, holds=False)
    assert now == {}


def test_a_receiver_that_was_away_learns_of_both_in_one_message() -> None:
    now = _after(_after({}, 0, holds=True), 60, holds=True)
    assert _told(now) == ["firing"]
    now = _after(now, 200, holds=False)
    assert _told(now, "mail") == ["over"]
    assert _told(now, "mail") == []
    assert states.without_finished(now, ["webhook", "mail"]) != {}, "the webhook does not know"
    assert _after(now, 200 + 8 * 86_400, holds=False) == {}, "nobody waits for it for ever"
