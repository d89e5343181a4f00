"""When requests are due. Open models follow the clock whatever the answers do. The closed model
sends when an answer has come, so it finds the peak but hides every pause of the server."""

import math
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

MODELS: Final = ("constant", "ramp", "steps", "closed")


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of load. Rates are scenarios started per second, over all processes."""

    model: Literal["constant", "ramp", "steps", "closed"]
    seconds: float
    """Of the whole run; with steps, of each step."""
    rate: float = 0.0
    """constant: the rate. ramp: the first rate. steps: the first step."""
    to: float = 0.0
    """ramp: the last rate. steps: the highest step."""
    step: float = 0.0
    """steps: the increase of each."""

    def problem(self) -> str | None:
        """Return what is wrong with it, or None."""
        if not 0 < self.seconds < math.inf:
            return "--duration must be positive"
        if self.model != "closed" and not 0 < self.rate < math.inf:
            return "--rate must be positive"
        if not (math.isfinite(self.to) and math.isfinite(self.step)):
            return "--to and --step must be numbers"
        if self.model in ("ramp", "steps") and self.to < self.rate:
            return f"--to must not be below --rate ({self.rate:g})"
        if self.model == "steps" and self.step <= 0:
            return "--step must be positive"
        return None

    @property
    def steps(self) -> list[float]:
        """The rate of each step; for other models, the one rate (0: as fast as answers come)."""
        if self.model != "steps":
            return [self.rate]
        count = int((self.to - self.rate) / self.step + 1e-9) + 1
        return [self.rate + number * self.step for number in range(count)]


def due(schedule: Schedule, *, index: int, processes: int) -> Iterator[float]:
    """Yield the seconds from the start at which one of several processes must start something.

    The processes take turns, so together they are as even as one. A closed model has none.
    """
    number = index
    while schedule.model != "closed":
        at = _moment(schedule, number)
        if at >= schedule.seconds:
            return
        yield at
        number += processes


def _moment(schedule: Schedule, number: int) -> float:
    """Return when start `number` is due: when the rate's integral reaches it."""
    if schedule.model == "ramp":
        slope = (schedule.to - schedule.rate) / schedule.seconds
        if slope > 0:
            root = math.sqrt(schedule.rate**2 + 2 * slope * number)
            return (root - schedule.rate) / slope
    return number / schedule.rate
