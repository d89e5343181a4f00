"""What changed between two sets of repeats, and how sure that is.

The change is the ratio of the two medians; of values in pairs it is the median of their ratios. Its
interval comes from the bootstrap: both sides, or the pairs, are drawn again from their own repeats,
with replacement, two thousand times; 95 of 100 of these ratios lie in it. (Efron, "Bootstrap
methods: another look at the jackknife", 1979.)
"""

import random
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final, Literal

import msgspec

from easypay_bench.history.results import Figure, Result

Verdict = Literal["better", "worse", "the same", "unsure", "other"]
"""`unsure`: no interval, because one side has a single value. `other`: neither is better."""

_DRAWS: Final = 2_000
_SURE: Final = 0.95
_LEAST: Final = 3
"""Fewer repeats say nothing about how they scatter."""
_COUNTS_SCATTER: Final = 0.005
_WAL_SCATTERS: Final = 0.03
"""The first change of a page after a checkpoint writes all of it: more in one run than another."""


class Change(msgspec.Struct, frozen=True):
    """One figure of both results. `ratio`: after / before, and of pairs the median of that; None if
    there was nothing before."""

    name: str
    unit: str
    before: float
    after: float
    ratio: float | None
    lowest: float | None
    highest: float | None
    """The interval of the ratio; None without repeats."""
    verdict: Verdict


def changes(before: Result, after: Result) -> Iterator[Change]:
    """Yield every figure that both results have and that can be better or worse."""
    for name, figure in after.figures.items():
        old = before.figures.get(name)
        if old is not None and figure.better:
            yield change(old, figure)


def change(before: Figure, after: Figure) -> Change:
    """Compare one figure of two results that have nothing to do with each other."""
    old, new = median(before.values), median(after.values)
    ratio = new / old if old else None
    interval = None if ratio is None else _interval(before.values, after.values)
    return _change(before, after, ratio, interval)


def change_in_pairs(before: Figure, after: Figure) -> Change:
    """Compare one figure whose values belong together, the first with the first. What disturbed
    both of a pair is not in its ratio."""
    ratios = [new / old for old, new in zip(before.values, after.values, strict=True) if old]
    if not ratios:
        return _change(before, after, None, None)
    interval = _drawn(lambda draw: median(draw.choices(ratios, k=len(ratios))), len(ratios))
    return _change(before, after, median(ratios), interval)


def _change(
    before: Figure, after: Figure, ratio: float | None, interval: tuple[float, float] | None
) -> Change:
    old, new = median(before.values), median(after.values)
    lowest, highest = interval or (None, None)
    verdict = _verdict(after, old, new, interval)
    return Change(after.name, after.unit, old, new, ratio, lowest, highest, verdict)


def _verdict(
    figure: Figure, old: float, new: float, interval: tuple[float, float] | None
) -> Verdict:
    if figure.counted or old == new or not old:
        scatter = _WAL_SCATTERS if "wal" in figure.name else _COUNTS_SCATTER
        differs = abs(new - old) > scatter * abs(old)
    elif interval is None:
        return "unsure"
    else:
        differs = not interval[0] <= 1 <= interval[1]
    if not differs:
        return "the same"
    if not figure.better:
        return "other"
    return "better" if (new > old) == (figure.better == "more") else "worse"


def _interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """Return the interval of the ratio of medians; None with too few repeats."""

    def ratio(draw: random.Random) -> float | None:
        old = median(draw.choices(before, k=len(before)))
        return median(draw.choices(after, k=len(after))) / old if old else None

    return _drawn(ratio, min(len(before), len(after)))


def _drawn(
    ratio: Callable[[random.Random], float | None], repeats: int
) -> tuple[float, float] | None:
    """Return the interval of what is drawn; None with too few repeats."""
    if repeats < _LEAST:
        return None
    draw = random.Random(0)  # noqa: S311  (the same repeats give the same interval)
    ratios = sorted(found for found in (ratio(draw) for _ in range(_DRAWS)) if found is not None)
    if len(ratios) < _DRAWS // 2:
        return None
    outside = int(len(ratios) * (1 - _SURE) / 2)
    return ratios[outside], ratios[-1 - outside]
