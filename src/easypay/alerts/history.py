"""What a worker remembers of the metrics: the last reading, and an hour of the counters. Pure.

A counter that went back was restarted and counts from 0. A series that comes later counts from 0,
too, except in the first reading of its source, where nobody knows how old the counts are.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from easypay.alerts.model import HISTORY_S, Counts, Found, Rule, Select, seconds

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]
"""Name, labels (`instance` among them), value."""
_Series = tuple[tuple[str, str], ...]
_SPARE_S: Final = 60.0


class Readings:
    """The history on which the conditions are judged."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._selects: dict[str, list[Select]] = {}
        for select in {each for rule in rules for each in rule.when.selects}:
            self._selects.setdefault(select.metric, []).append(select)
        self._latest: dict[Select, list[tuple[Labels, float]]] = {}
        self._raw: dict[tuple[Select, _Series], float] = {}
        self._grown: dict[Select, dict[_Series, float]] = {}
        """How much each series has grown since its source was first read."""
        self._sources: set[str] = set()
        self._past: deque[tuple[float, dict[Select, dict[_Series, float]]]] = deque()

    def add(self, at_s: float, samples: Iterable[Sample]) -> None:
        """Add a reading of all sources at a moment, in seconds of a clock that never goes back."""
        self._latest = {}
        sources = set()
        for name, labels, value in samples:
            source = labels.get("instance", "")
            if name != "up":  # that is said of a source which did not answer, too
                sources.add(source)
            for select in self._selects.get(name, ()):
                if select.takes(labels):
                    self._latest.setdefault(select, []).append((labels, value))
                    self._grow(select, labels, value, known=source in self._sources)
        self._sources |= sources
        grown = {select: dict(series) for select, series in self._grown.items()}
        self._past.append((at_s, grown))
        while self._past[0][0] < at_s - HISTORY_S - _SPARE_S:
            self._past.popleft()

    def _grow(self, select: Select, labels: Labels, value: float, *, known: bool) -> None:
        series = tuple(sorted(labels.items()))
        before = self._raw.get((select, series), 0.0 if known else value)
        self._raw[select, series] = value
        grown = self._grown.setdefault(select, {})
        grown[series] = grown.get(series, 0.0) + (value - before if value >= before else value)

    def knows(self, rule: Rule) -> bool:
        """Whether the last reading had any of the rule's metrics."""
        return any(select in self._latest for select in rule.when.selects)

    def latest(self, select: Select) -> list[tuple[Labels, float]]:
        """Return the series of the last reading."""
        return self._latest.get(select, [])

    def increases(self, select: Select, window: str, by: str) -> Found:
        """Return how much counters grew within the window, by the values of a label."""
        now_s, now = self._past[-1]
        then = next(grown for at_s, grown in self._past if at_s >= now_s - seconds(window))
        before = then.get(select, {})
        found: dict[str, float] = {}
        for series, value in now.get(select, {}).items():
            key = dict(series).get(by, "") if by else ""
            found[key] = found.get(key, 0.0) + value - before.get(series, 0.0)
        return found

    def increase(self, counts: Counts, window: str) -> float:
        """Return how much the counters grew within the window."""
        grew = sum(self.increases(counts.of, window, "").values())
        if counts.less is not None:
            grew -= sum(self.increases(counts.less, window, "").values())
        return grew
