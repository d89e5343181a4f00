"""The arithmetic of the figures, and the bars they are checked against. Measures nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SHARES: Final[Mapping[str, float]] = {
    "p50": 0.50,
    "p75": 0.75,
    "p90": 0.90,
    "p95": 0.95,
    "p99": 0.99,
    "p99.9": 0.999,
    "max": 1.0,
}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the sorted values do not exceed.

    Raises ValueError if there are no values, or the share is outside 0 to 1.
    """
    if not ordered:
        raise ValueError("no values, no percentile")
    if not 0 <= share <= 1:
        raise ValueError(f"a share must be between 0 and 1, not {share}")
    # Round first: 0.07 * 100 is slightly above 7 and would take the 8th value.
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[max(rank, 1) - 1]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return p50 to max of the values, in their unit; empty if there are none."""
    ordered = sorted(values)
    return {name: percentile(ordered, share) for name, share in SHARES.items()} if ordered else {}


def per_payment_us(cpu_s: float, payments: int) -> float:
    """Return the microseconds per payment; NaN if there are no payments."""
    return cpu_s * 1e6 / payments if payments else math.nan


def median_of(runs: Sequence[float]) -> int:
    """Return the index of the median run (the lower of two)."""
    order = sorted(range(len(runs)), key=lambda index: runs[index])
    return order[(len(order) - 1) // 2]


def finite(value: Any) -> Any:
    """Return plain data for JSON: floats rounded, NaN and infinity as None."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


@dataclass(frozen=True, slots=True)
class Bar:
    """One target: `figure` must be at least, or at most, `limit`."""

    name: str
    figure: float
    unit: str
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is met; False if the figure is missing (NaN)."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    @property
    def wanted(self) -> str:
        """The target in words: `at most 250 µs`."""
        return f"{'at least' if self.at_least else 'at most'} {self.limit:,g} {self.unit}".strip()


def bars(
    *,
    payments_per_s: float,
    gateway_us: float,
    postgres_us: float,
    simulator_us: float,
    own_p50_ms: float,
    metrics_us: float,
) -> list[Bar]:
    """Return the targets for one payment, with everything on two cores."""
    return [
        Bar("payments sustained", payments_per_s, "/s", 3000, at_least=True),
        Bar("gateway CPU per payment", gateway_us, "µs", 250),
        Bar("PostgreSQL CPU per payment", postgres_us, "µs", 130),
        Bar("simulator CPU per payment", simulator_us, "µs", 150),
        Bar("own time, unloaded, p50", own_p50_ms, "ms", 2),
        Bar("metrics of a request", metrics_us, "µs", 5),
    ]


YARDSTICK_SHARES: Final[Mapping[int, float]] = {64: 0.5, 256: 0.38}
"""Connections -> the least share of the yardstick's rate."""


def ratio_bars(*, pgbench: float, yardstick: Mapping[int, float]) -> list[Bar]:
    """Return the targets that can be compared across machines. `yardstick`: connections -> share;
    a number of connections that was not measured is missed."""
    return [
        Bar("share of pgbench's best rate", pgbench, "", 0.5, at_least=True),
        *(
            Bar(
                f"share of the yardstick, {connections} connections",
                yardstick.get(connections, math.nan),
                "",
                share,
                at_least=True,
            )
            for connections, share in YARDSTICK_SHARES.items()
        ),
    ]


def wide_bars(*, own_p99_ms: float, idle_memory_mib: float, idle_p99_ms: float) -> list[Bar]:
    """Return the targets at a rate, and with many connections."""
    return [
        Bar("own time p99, 500/s, processor at 50 ms", own_p99_ms, "ms", 10),
        Bar("memory with 10,000 connections", idle_memory_mib, "MiB", 200),
        Bar("p99 at 500/s with 10,000 connections", idle_p99_ms, "ms", 50),
    ]
