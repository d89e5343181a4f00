"""Performance targets: read them from a file, and judge what was measured."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
import yaml

_LIMIT: Final = re.compile(r"\s*([<>]=?)\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*(us|µs|ms|s|%)?\s*")
_TO_MS: Final = {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0}
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "api_response_time": frozenset({"p50", "p75", "p90", "p95", "p99", "p99.9", "max"}),
    "own_time": frozenset({"p50", "p75", "p90", "p95", "p99", "p99.9", "max"}),
    "database_queries": frozenset({"simple_queries", "complex_queries", "batch_operations"}),
    "external_api_calls": frozenset({"authorize_net", "webhooks", "notifications"}),
    "throughput": frozenset({"sustained_rps", "peak_rps", "concurrent_users"}),
    "errors": frozenset({"rate"}),
    "unknown_outcomes": frozenset({"oldest"}),
}
"""The targets there are: section -> names."""
LEAST_ABOVE: Final = 10
"""A percentile is judged only if this many requests lie above it: the p99 of 19 requests is the
slowest of them, and one more may move it anywhere. A p99 needs 1,000, a p95 200, a p50 20."""


class Target(msgspec.Struct, frozen=True):
    """One target: the figure `section.name` must be below, or above, the limit.

    `limit` is in milliseconds if `unit` is "ms", a share of 1 if it is "%", else a number.
    """

    section: str
    name: str
    sign: str
    limit: float
    unit: str

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def wanted(self) -> str:
        return f"{self.sign} {shown(self.limit, self.unit)}"

    def holds(self, figure: float) -> bool:
        """Return whether the target is met; a missing figure (NaN) does not meet it."""
        return _COMPARE[self.sign](figure, self.limit)


class Verdict(msgspec.Struct, frozen=True):
    """A target and its figure; `met` is None if this run does not measure it."""

    target: Target
    figure: float | None
    met: bool | None
    why: str = ""

    @property
    def measured(self) -> str:
        return "-" if self.figure is None else shown(self.figure, self.target.unit)


def load(path: Path | None = None) -> list[Target]:
    """Load the targets of a YAML file; without one, those that come with EasyPay.

    Raises ValueError that names the error, OSError if the file cannot be read.
    """
    text = (
        resources.files(__package__).joinpath("targets.yaml").read_text()
        if path is None
        else path.read_text()
    )
    where = "targets.yaml" if path is None else str(path)
    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from None
    sections = document.get("performance_targets") if isinstance(document, dict) else None
    if not isinstance(sections, dict):
        raise ValueError(f"{where} has no performance_targets")
    targets = []
    for section, named in sections.items():
        if section not in KNOWN or not isinstance(named, dict):
            raise ValueError(f"{where}: {section} is not one of {', '.join(KNOWN)}")
        for name, limit in named.items():
            if name not in KNOWN[section]:
                known = ", ".join(sorted(KNOWN[section]))
                raise ValueError(f"{where}: {section}.{name} is not one of {known}")
            targets.append(_target(section, name, str(limit), where))
    return targets


def _target(section: str, name: str, text: str, where: str) -> Target:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(f'{where}: {section}.{name} is {text!r}; write it as "< 200ms" or "> 500"')
    sign, number, unit = found.groups()
    value = float(number.replace("_", ""))
    if unit in _TO_MS:
        return Target(section, name, sign, value * _TO_MS[unit], "ms")
    return Target(section, name, sign, value / 100 if unit == "%" else value, unit or "")


def needed(share: float) -> int:
    """Return how many requests the percentile of this share (0 to 1) needs."""
    return math.ceil(round(LEAST_ABOVE / (1 - share), 6))


def judge(
    targets: list[Target],
    figures: Mapping[str, float],
    too_few: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> list[Verdict]:
    """Judge each target by `figures["section.name"]`. A missing figure gives no verdict.

    `too_few`: figures of too few requests, with how many there were and are needed.
    """
    verdicts = []
    for target in targets:
        figure = figures.get(target.key)
        if figure is None:
            verdicts.append(Verdict(target, None, None, "not measured by this run"))
        elif math.isnan(figure):
            verdicts.append(Verdict(target, None, None, "nothing to measure"))
        elif target.key in too_few:
            had, least = too_few[target.key]
            why = f"not judged: {had:,} of {least:,} requests needed"
            verdicts.append(Verdict(target, figure, None, why))
        else:
            verdicts.append(Verdict(target, figure, target.holds(figure)))
    return verdicts


def in_short(verdicts: Sequence[Verdict]) -> str:
    """Return the judgement in one line: `2 targets missed: errors.rate 2 % (< 1 % wanted), ...`."""
    missed = [each for each in verdicts if each.met is False]
    met = sum(each.met is True for each in verdicts)
    if missed:
        each = ", ".join(f"{v.target.key} {v.measured} ({v.target.wanted} wanted)" for v in missed)
        return f"{len(missed)} target{'s' * (len(missed) > 1)} missed: {each}"
    if not met:
        return "no target could be judged"
    judged = f"all {met} targets met" if met > 1 else "the one target that was judged is met"
    rest = len(verdicts) - met
    return f"{judged}, {rest} not judged" if rest else judged


def shown(figure: float, unit: str) -> str:
    """Return `12.5 ms`, `0.1 %` or `1,000`."""
    if unit == "%":
        return f"{figure * 100:.3g} %"
    digits = f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
    return f"{digits} {unit}".strip()
