"""What is wanted of the caches, and whether it is so. Measures nothing."""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from easypay_bench.compressing import BAR_US
from easypay_bench.performance_bars import percentile

SHARED: Final = "with Valkey"
"""The setup with a shared cache."""
_SURE: Final = 0.95
_KNOWN_WITHIN_MS: Final = 50.0


class Round(msgspec.Struct, frozen=True):
    """One kind of reads for some time."""

    per_s: float
    gateway_us: float
    """CPU of the gateway for each reply."""
    postgres_us: float
    wrong: int


class Setup(msgspec.Struct, frozen=True):
    """All rounds with or without a shared cache."""

    name: str
    rounds: dict[str, list[Round]]
    """By kind. Rounds with the same number were measured one after another."""
    late_ms: list[float] = msgspec.field(default_factory=list)
    """After how many milliseconds each change was known to another gateway, in rising order."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run measured."""

    caching: bool = True
    machine: dict[str, Any]
    quick: bool
    connections: int
    seconds: float
    setups: list[Setup]
    compression_us: dict[str, float]
    """By coding: CPU for a page of 100 payments."""


class Row(msgspec.Struct, frozen=True):
    """One line of the table: the median of the rounds, and between what it is."""

    name: str
    wanted: str
    figure: float
    lowest: float
    highest: float
    unit: str
    met: bool


class _Ratio(NamedTuple):
    name: str
    first: str
    second: str
    figure: str
    """Which figure of the rounds is compared."""
    limit: float
    at_least: bool


_RATIOS: Final = (
    _Ratio("a payment by its id: rate with leave, times that without",
           "by id, with leave", "by id, without leave", "per_s", 1.5, True),
    _Ratio("304 with leave: gateway CPU, times that of /livez",
           "by id, 304 with leave", "livez", "gateway_us", 1.3, False),
    _Ratio("first page: rate with leave, times another page each time",
           "first page, with leave", "first page, another each time", "per_s", 3.0, True),
    _Ratio("statistics: rate with leave, times others each time",
           "statistics, with leave", "statistics, another each time", "per_s", 3.0, True),
)  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return between which values the median is with 95 %, whatever the distribution: the order
    statistics of the sign test. Fewer than six values: all of them, and less sure."""
    ordered = sorted(values)
    count = len(ordered)
    left_out, tail = 0, 0.0
    for fewer in range(count // 2):
        tail += math.comb(count, fewer) / 2**count
        if 2 * tail > 1 - _SURE:
            break
        left_out = fewer
    return ordered[left_out], ordered[count - 1 - left_out]


def rows(found: Findings) -> Iterator[Row]:
    """Yield the whole table."""
    for setup in found.setups:
        for ratio in _RATIOS:
            yield _row(ratio, setup)
        if setup.name == SHARED:
            late = percentile(setup.late_ms, 0.99)
            yield Row(
                "a change is known to another gateway: p99, with Valkey",
                f"at most {_KNOWN_WITHIN_MS:g} ms", late, late, late, "ms",
                late <= _KNOWN_WITHIN_MS,
            )  # fmt: skip
    slowest = max(found.compression_us.values())
    yield Row(
        "compression of a page of 100, the slowest coding",
        f"at most {BAR_US} µs", slowest, slowest, slowest, "µs", slowest <= BAR_US,
    )  # fmt: skip


def _row(ratio: _Ratio, setup: Setup) -> Row:
    pairs = zip(setup.rounds[ratio.first], setup.rounds[ratio.second], strict=True)
    values = [getattr(a, ratio.figure) / getattr(b, ratio.figure) for a, b in pairs]
    figure = median(values)
    met = figure >= ratio.limit if ratio.at_least else figure <= ratio.limit
    return Row(
        f"{ratio.name}, {setup.name}",
        f"{'at least' if ratio.at_least else 'at most'} {ratio.limit:g} times",
        figure,
        *interval(values),
        "times",
        met,
    )
