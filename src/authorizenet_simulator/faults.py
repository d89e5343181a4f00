"""Faults on order: which calls they meet, and how often."""

import math
import random
from typing import Literal

import msgspec

from authorizenet_simulator.wire import Call

Kind = Literal[
    "drop_reply",
    "late_reply",
    "late_charge",
    "error_after",
    "error_before",
    "truncate",
    "reset_before",
    "refuse",
    "latency",
    "busy",
    "garbage",
]
Distribution = Literal["constant", "uniform", "lognormal"]


class Fault(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What to do to which calls. Without `count` and `probability`: to all, until deleted."""

    kind: Kind
    count: int | None = None
    """The next so many matching calls; falls as they come."""
    probability: float | None = None
    method: str | None = None
    transaction_type: str | None = None
    login: str | None = None
    delay_ms: float = 0.0
    status: int = 500
    """HTTP status of error_after and error_before."""
    distribution: Distribution = "constant"
    ms: float = 0.0
    """The latency: constant, the upper end of uniform, the median of lognormal."""
    sigma: float = 0.5
    duration_ms: float | None = None
    """How long to refuse connections; None: until deleted."""
    id: str = ""

    def problem(self) -> str | None:
        """Why it makes no sense, or None."""
        if self.count is not None and self.count < 1:
            return "count must be at least 1"
        if self.probability is not None and not 0 <= self.probability <= 1:
            return "probability must be between 0 and 1"
        if min(self.delay_ms, self.ms, self.sigma, self.duration_ms or 0) < 0:
            return "times must not be negative"
        if not 400 <= self.status <= 599:
            return "status must be between 400 and 599"
        return None

    def matches(self, call: Call) -> bool:
        return (
            (self.method is None or self.method == call.method)
            and (self.login is None or self.login == call.login)
            and (self.transaction_type is None or self.transaction_type == call.transaction_type)
        )


class Faults:
    """Those in force, oldest first. Of the kinds other than latency the first match counts."""

    def __init__(self, seed: int) -> None:
        self.active: dict[str, Fault] = {}
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._made = 0

    def add(self, fault: Fault) -> str:
        self._made += 1
        fault.id = f"fault-{self._made}"
        self.active[fault.id] = fault
        return fault.id

    def plan(self, call: Call) -> tuple[Fault | None, float]:
        """The fault that meets this call, and the latency in seconds; both are used up by one."""
        chosen: Fault | None = None
        latency_s = 0.0
        for fault in list(self.active.values()):
            if fault.kind == "refuse" or not fault.matches(call):
                continue
            if fault.kind != "latency" and chosen is not None:
                continue
            if fault.probability is not None and self._random.random() >= fault.probability:
                continue
            if fault.count is not None:
                fault.count -= 1
                if fault.count == 0:
                    del self.active[fault.id]
            if fault.kind == "latency":
                latency_s += self._latency_s(fault)
            else:
                chosen = fault
        return chosen, latency_s

    def _latency_s(self, fault: Fault) -> float:
        if fault.distribution == "uniform":
            return self._random.uniform(0, fault.ms) / 1000
        if fault.distribution == "lognormal" and fault.ms > 0:
            return self._random.lognormvariate(math.log(fault.ms), fault.sigma) / 1000
        return fault.ms / 1000
