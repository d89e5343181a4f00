"""What a rule is made of. Pure: each condition can be written as PromQL, and judged on a history of
readings. The two must say the same; `tests/alerts` holds both against the same series.

A window is written as Prometheus writes it (`5m`), a label's matcher as well.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
HISTORY_S: Final = 3600
"""How long a worker remembers. Conditions that look further back need Prometheus."""

Severity = Literal["page", "ticket"]
"""Wake somebody; or somebody sees to it in the morning."""
Found = Mapping[str, float]
"""Where a condition holds: the value of its `by` label ("" without one), and what was measured."""


def seconds(window: str) -> int:
    """Return the length of a window such as `5m`."""
    return int(window[:-1]) * UNITS[window[-1]]


class Select(msgspec.Struct, frozen=True):
    """The series of one metric, by matchers of their labels: (label, operator, value)."""

    metric: str
    where: tuple[tuple[str, str, str], ...] = ()

    def promql(self) -> str:
        matchers = ", ".join(f'{label}{how}"{value}"' for label, how, value in self.where)
        return f"{self.metric}{{{matchers}}}" if matchers else self.metric

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Whether a series of this metric is one of them."""
        return all(_matches(labels.get(label, ""), how, value) for label, how, value in self.where)


def _matches(has: str, how: str, value: str) -> bool:
    same = has == value if how in ("=", "!=") else re.fullmatch(value, has) is not None
    return same == (not how.startswith("!"))


def grown(select: Select, window: str) -> str:
    """Return PromQL for how much each counter grew.

    `increase` does not see the first count of a series that begins with it. So a series that its
    host did not have at the beginning of the window counts from 0.
    """
    series = select.promql()
    new = f"({series} unless {series} offset {window})"
    host = f"on (job, instance) (up offset {window} == 1)"
    return f"({new} and {host}) or increase({series}[{window}])"


class Counts(msgspec.Struct, frozen=True):
    """How much the counters `of` grew, without what those of `less` grew."""

    of: Select
    less: Select | None = None

    def promql(self, window: str) -> str:
        grew = f"sum({grown(self.of, window)})"
        if self.less is None:
            return grew
        return f"({grew} - sum({grown(self.less, window)}))"

    @property
    def selects(self) -> tuple[Select, ...]:
        return (self.of,) if self.less is None else (self.of, self.less)


class History(Protocol):
    """What a condition is judged on."""

    def latest(self, select: Select) -> list[tuple[Mapping[str, str], float]]:
        """Return the series of the last reading."""

    def increase(self, counts: Counts, window: str) -> float:
        """Return how much the counters grew within the window."""

    def increases(self, select: Select, window: str, by: str) -> Found:
        """Return the same by the values of a label."""


class Level(msgspec.Struct, frozen=True):
    """A gauge is above, or below, a limit."""

    of: Select
    beyond: Literal[">", "<"]
    limit: float
    over: Literal["max", "sum"] = "max"
    by: str = ""
    absolute: bool = False

    @property
    def promql(self) -> str:
        series = f"abs({self.of.promql()})" if self.absolute else self.of.promql()
        return f"{self.over}{_by(self.by)}({series}) {self.beyond} {self.limit:g}"

    @property
    def selects(self) -> tuple[Select, ...]:
        return (self.of,)

    @property
    def longest_s(self) -> int:
        return 0

    def holds(self, history: History) -> Found:
        values: dict[str, list[float]] = {}
        for labels, value in history.latest(self.of):
            key = labels.get(self.by, "") if self.by else ""
            values.setdefault(key, []).append(abs(value) if self.absolute else value)
        pick = max if self.over == "max" else sum
        found = {key: pick(each) for key, each in values.items()}
        return {
            key: value
            for key, value in found.items()
            if (value > self.limit if self.beyond == ">" else value < self.limit)
        }


class Rise(msgspec.Struct, frozen=True):
    """Counters grew by more than so much within a window."""

    of: Select
    more_than: float
    within: str
    by: str = ""

    @property
    def promql(self) -> str:
        return f"sum{_by(self.by)}({grown(self.of, self.within)}) > {self.more_than:g}"

    @property
    def selects(self) -> tuple[Select, ...]:
        return (self.of,)

    @property
    def longest_s(self) -> int:
        return seconds(self.within)

    def holds(self, history: History) -> Found:
        grew = history.increases(self.of, self.within, self.by)
        return {key: value for key, value in grew.items() if value > self.more_than}


class Share(msgspec.Struct, frozen=True):
    """More than a share of what was counted within a window was bad, and at least `least` of it."""

    bad: Counts
    of: Counts
    above: float
    least: int
    within: str

    @property
    def promql(self) -> str:
        bad, all_of_it = self.bad.promql(self.within), self.of.promql(self.within)
        return f"{bad} / {all_of_it} > {self.above:g} and {bad} >= {self.least}"

    @property
    def selects(self) -> tuple[Select, ...]:
        return self.bad.selects + self.of.selects

    @property
    def longest_s(self) -> int:
        return seconds(self.within)

    def holds(self, history: History) -> Found:
        bad = history.increase(self.bad, self.within)
        share = bad / (history.increase(self.of, self.within) or 1)
        return {"": share} if share > self.above and bad >= self.least else {}


class Stands(msgspec.Struct, frozen=True):
    """Counters did not grow within a window, while others grew by more than so much."""

    of: Select
    beside: Select
    more_than: float
    within: str

    @property
    def promql(self) -> str:
        others = f"sum({grown(self.beside, self.within)}) > {self.more_than:g}"
        return f"{others} unless sum({grown(self.of, self.within)}) > 0"

    @property
    def selects(self) -> tuple[Select, ...]:
        return (self.of, self.beside)

    @property
    def longest_s(self) -> int:
        return seconds(self.within)

    def holds(self, history: History) -> Found:
        others = history.increase(Counts(self.beside), self.within)
        stands = others > self.more_than and not history.increase(Counts(self.of), self.within)
        return {"": others} if stands else {}


class Missing(msgspec.Struct, frozen=True):
    """Gateways answer the scrape, and nobody shows this metric: who measures it does not run."""

    of: Select

    @property
    def promql(self) -> str:
        gateways = 'count(up{job="easypay"} == 1) > 0'
        return f"{gateways} unless count({self.of.promql()}) > 0"

    @property
    def selects(self) -> tuple[Select, ...]:
        return (self.of, Select("up", (("job", "=", "easypay"),)))

    @property
    def longest_s(self) -> int:
        return HISTORY_S + 1  # a worker that judges is itself a worker that runs

    def holds(self, history: History) -> Found:
        return {} if history.latest(self.of) else {"": 0.0}


class Absent(msgspec.Struct, frozen=True):
    """Nobody shows this metric under the job's name: none of those who measure it runs, or none is
    read."""

    of: Select

    @property
    def promql(self) -> str:
        ours = Select(self.of.metric, (*self.of.where, ("job", "=", "easypay")))
        return f"absent(sum({ours.promql()}))"

    @property
    def selects(self) -> tuple[Select, ...]:
        return (self.of,)

    @property
    def longest_s(self) -> int:
        return 0

    def holds(self, history: History) -> Found:
        return {} if history.latest(self.of) else {"": 0.0}


class Objective(msgspec.Struct, frozen=True):
    """A target: all but `budget` (a share of 1) of what is counted is good."""

    key: str
    alert: str
    title: str
    bad: Counts
    of: Counts
    budget: float
    pages: bool
    means: str
    look: str
    do: str


class Burn(msgspec.Struct, frozen=True):
    """A target's budget is used `factor` times faster than allowed: over a long window, so that it
    matters, and a short one, so that it is still happening."""

    target: Objective
    factor: float
    long: str
    short: str

    LEAST = 10
    """As `easypay slo`: what fewer requests did decides nothing."""

    @property
    def limit(self) -> float:
        return self.factor * self.target.budget

    @property
    def promql(self) -> str:
        this = f'{{target="{self.target.key}"}}'
        return (
            f"{ratio(self.long)}{this} > {self.limit:g} and {ratio(self.short)}{this} >"
            f" {self.limit:g} and {missed(self.long)}{this} >= {self.LEAST}"
        )

    @property
    def selects(self) -> tuple[Select, ...]:
        return self.target.bad.selects + self.target.of.selects

    @property
    def longest_s(self) -> int:
        return seconds(self.long)

    def holds(self, history: History) -> Found:
        shares = []
        for window in (self.long, self.short):
            bad = history.increase(self.target.bad, window)
            shares.append(bad / (history.increase(self.target.of, window) or 1))
        enough = history.increase(self.target.bad, self.long) >= self.LEAST
        return {"": shares[0]} if min(shares) > self.limit and enough else {}


Condition = Level | Rise | Share | Stands | Missing | Absent | Burn


class Rule(msgspec.Struct, frozen=True):
    """When to call somebody, and what that person needs to know."""

    name: str
    severity: Severity
    when: Condition
    summary: str
    means: str
    look: str
    do: str
    over: str
    lasts: str = "0m"
    """For how long the condition must hold before it is told (`for` in Prometheus)."""
    may_lack: bool = False
    """Nobody may show its metric, and nothing is wrong: there is no replica, for instance."""

    @property
    def key(self) -> str:
        """Distinguishes rules of one name, which are a target's."""
        return f"{self.name} {self.when.factor:g}" if isinstance(self.when, Burn) else self.name

    @property
    def needs_prometheus(self) -> bool:
        """Whether it looks further back than a worker remembers."""
        return self.when.longest_s > HISTORY_S


def ratio(window: str) -> str:
    """Return the name of the recorded share of a target that was missed."""
    return f"easypay:target_missed:ratio{window}"


def counted(window: str) -> str:
    """Return the name of the recorded number of requests that a target is about."""
    return f"easypay:target_counted:increase{window}"


def missed(window: str) -> str:
    """Return the name of the recorded number of requests that missed a target."""
    return f"easypay:target_missed:increase{window}"


def _by(label: str) -> str:
    return f" by ({label}) " if label else ""
