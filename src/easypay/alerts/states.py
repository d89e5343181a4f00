"""From what holds now to what is told: since when, to whom, and whether it is over. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from easypay.alerts.model import Rule

KEPT: Final = timedelta(days=7)
"""How long the end of an alert is kept for a receiver that does not answer."""

NOT_JUDGED: Final = "not judged"
"""In place of a rule in a state's key, with the rule in the other's place: nobody has shown the
rule's metric for a while. It is listed, and told to nobody."""
NOT_JUDGED_AFTER: Final = timedelta(seconds=60)

Key = tuple[str, str]
"""A rule's key, and the value of its `by` label."""


class State(msgspec.Struct):
    """An alert: a row of `alert_states`."""

    rule: str
    series: str
    since: datetime
    seen_at: datetime
    value: float
    firing_at: datetime | None = None
    over_at: datetime | None = None
    told: list[str] = []
    """The ways by which it was told that it fires."""
    told_over: list[str] = []


class Message(msgspec.Struct, frozen=True):
    """What a receiver is told of one alert. `id` stays the same if it is told again."""

    id: str
    alert: str
    state: str
    severity: str
    where: str
    value: float
    since: datetime
    over_at: datetime | None
    summary: str
    means: str
    look: str
    do: str
    over_when: str

    @property
    def line(self) -> str:
        """Return it in one line."""
        where = f" ({self.where})" if self.where else ""
        return f"[{self.state}] {self.alert}{where}: {self.summary}"


def advance(
    states: Mapping[Key, State],
    found: Mapping[Key, float],
    rules: Mapping[str, Rule],
    known: Iterable[str],
    now: datetime,
    over_after: timedelta,
) -> dict[Key, State]:
    """Return the states after a reading in which `found` holds. Nothing is changed in place.

    `known`: the rules whose metrics were read. Of the others nothing is concluded.
    """
    after = {
        key: _holds(states.get(key), key, value, _lasts(key, rules), now)
        for key, value in found.items()
    }
    seen = set(known)
    for key, state in states.items():
        if key in after or state.rule == NOT_JUDGED:  # somebody shows its metric again
            continue
        if state.over_at is not None and now - state.over_at > KEPT:
            continue
        fires = state.firing_at is not None
        if state.rule not in rules:  # a rule that this version does not have: it is over
            after[key] = _ended(state, now)
        elif state.rule not in seen or (fires and now - state.seen_at < over_after):
            after[key] = state
        elif fires:
            after[key] = _ended(state, now)
    return after


def _holds(old: State | None, key: Key, value: float, lasts: timedelta, now: datetime) -> State:
    """Return the state of what holds now. It fires once it has held for `lasts`."""
    if old is None or (old.over_at is not None and old.told_over):
        old = State(*key, since=now, seen_at=now, value=value)
    firing_at = old.firing_at
    if firing_at is None and now - old.since >= lasts:
        firing_at = now
    return msgspec.structs.replace(old, seen_at=now, value=value, firing_at=firing_at, over_at=None)


def _ended(state: State, now: datetime) -> State:
    return state if state.over_at else msgspec.structs.replace(state, over_at=now)


def as_read(state: State, now: datetime) -> State:
    """Return a state that another worker wrote, whose clock may be ahead: it is not from the
    future, for then it would not end before that. What was told keeps its beginning, its id."""
    since = state.since if state.firing_at else min(state.since, now)
    return msgspec.structs.replace(state, since=since, seen_at=min(state.seen_at, now))


def _lasts(key: Key, rules: Mapping[str, Rule]) -> timedelta:
    if key[0] == NOT_JUDGED:
        return NOT_JUDGED_AFTER
    rule = rules[key[0]]
    number, unit = int(rule.lasts[:-1]), rule.lasts[-1]
    return timedelta(seconds=number if unit == "s" else number * 60)


def to_tell(
    states: Iterable[State], way: str, rules: Mapping[str, Rule]
) -> list[tuple[State, Message]]:
    """Return what this way has not been told yet."""
    found = []
    for state in states:
        known = state.told if state.over_at is None else state.told_over
        if state.firing_at is not None and state.rule in rules and way not in known:
            found.append((state, message(state, rules[state.rule])))
    return found


def message(state: State, rule: Rule) -> Message:
    """Return what is told of an alert."""
    return Message(
        id=f"{state.rule}/{state.series}/{state.since.isoformat()}",
        alert=rule.name,
        state="firing" if state.over_at is None else "over",
        severity=rule.severity,
        where=state.series,
        value=state.value,
        since=state.since,
        over_at=state.over_at,
        summary=rule.summary,
        means=rule.means,
        look=rule.look,
        do=rule.do,
        over_when=rule.over,
    )


def told(state: State, way: str, said: str) -> None:
    """Note that this way was told. Of what was over by then it knows both."""
    if way not in state.told:
        state.told = [*state.told, way]
    if said == "over" and way not in state.told_over:
        state.told_over = [*state.told_over, way]


def without_finished(states: Mapping[Key, State], ways: Sequence[str]) -> dict[Key, State]:
    """Return the states of which somebody must still be told something."""
    return {
        key: state
        for key, state in states.items()
        if state.over_at is None or not set(ways) <= set(state.told_over)
    }
