"""Where a series of measurements changed its level.

Cut where the means of both sides differ most, in any of a set of windows; keep the cut if chance
explains it in fewer than 1 of 100 random orders of the same values; look again on both sides. The
windows find a level that came and went, which the whole series hides. Only the order is tested, so
nothing is assumed of how the values scatter. (Windows: Kovács and others, "Seeded binary
segmentation", 2020. Random orders: Matteson and James, "A nonparametric approach for multiple
change point analysis", 2014.)
"""

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

_LEAST: Final = 3
"""Values on each side of a cut."""
_ORDERS: Final = 399
_CHANCE: Final = 0.01
_SHORTER: Final = 1.5


def change_points(values: Sequence[float]) -> list[int]:
    """Return the indexes at which a new level begins, in rising order; empty if there is none.

    Fewer than ten values never have one: too many of their orders are as far apart.
    """
    return sorted(_cuts(values, 0, random.Random(0)))  # noqa: S311  (the same series, the same cuts)


def _cuts(values: Sequence[float], offset: int, draw: random.Random) -> list[int]:
    windows = _windows(len(values))
    cut, distance = _best_cut(values, windows)
    if cut is None or not _is_rare(values, windows, distance, draw):
        return []
    before = _cuts(values[:cut], offset, draw)
    return [*before, offset + cut, *_cuts(values[cut:], offset + cut, draw)]


def _is_rare(
    values: Sequence[float], windows: Sequence[range], distance: float, draw: random.Random
) -> bool:
    """Return whether few random orders have a cut of this distance. It stops once many have."""
    order, as_far = list(values), 1
    for _ in range(_ORDERS):
        draw.shuffle(order)
        as_far += _best_cut(order, windows)[1] >= distance
        if as_far >= _CHANCE * (_ORDERS + 1):
            return False
    return True


def _windows(count: int) -> list[range]:
    """Return the whole, and ever shorter windows that overlap by half."""
    found, length = [], count
    while length >= 2 * _LEAST:
        step = max(1, length // 2)
        starts = [*range(0, count - length, step), count - length]
        found += [range(start, start + length) for start in starts]
        length = min(length - 1, math.ceil(length / _SHORTER))
    return found


def _best_cut(values: Sequence[float], windows: Sequence[range]) -> tuple[int | None, float]:
    """Return the cut with the greatest distance between both means, and that distance."""
    up_to = [0.0, *accumulate(values)]
    best, furthest = None, 0.0
    for window in windows:
        start, end, count = window.start, window.stop, len(window)
        for cut in range(start + _LEAST, end - _LEAST + 1):
            left, right = cut - start, end - cut
            apart = (up_to[cut] - up_to[start]) / left - (up_to[end] - up_to[cut]) / right
            # The same difference counts for more where both sides have many values.
            distance = apart * apart * left * right / count
            if distance > furthest * (1 + 1e-9):
                best, furthest = cut, distance
    return best, furthest
