"""Injected faults: which calls and notifications they affect, and how often."""

import math
import random
import time
from typing import Final, Literal, get_args

import msgspec

from authorizenet_simulator.state.webhooks import CREATED
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.json_wire import Call

Kind = Literal[
    "drop_reply",
    "late_reply",
    "late_charge",
    "error_after",
    "error_before",
    "code_after",
    "code_before",
    "truncate",
    "reset_before",
    "refuse",
    "latency",
    "busy",
    "garbage",
    "throttle",
    "maintenance",
    "slow_body",
    "wrong_content_type",
    "html",
    "webhook_duplicate",
    "webhook_reorder",
    "webhook_lose",
    "webhook_delay",
]
Distribution = Literal["constant", "uniform", "lognormal"]


_MAX_MS: Final = 86_400_000.0
_MAX_SIGMA: Final = 10.0
_MAX_RATE: Final = 1e6
_MAX_CALLS: Final = 10**9
_WEBHOOK: Final = "webhook_"
"""Prefix of the kinds that affect notifications, not calls."""
_CODED: Final = frozenset({"code_after", "code_before"})
_NOT_FOR_CALLS: Final = frozenset(
    {"refuse", *(kind for kind in get_args(Kind) if kind.startswith(_WEBHOOK))}
)


class Fault(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A fault and the calls it affects: all, until deleted, without `count` or `probability`."""

    kind: Kind
    count: int | None = None
    """How many more matching calls it affects; counts down."""
    probability: float | None = None
    method: str | None = None
    transaction_type: str | None = None
    login: str | None = None
    event_type: str | None = None
    """The notifications affected, for the kinds that begin with webhook_."""
    delay_ms: float = 0.0
    """Delay of a reply, charge or notification; for slow_body the wait before each step."""
    by_clock: bool = False
    """For late_charge: the delay passes on the simulator's clock, which a test may set."""
    status: int = 500
    """HTTP status of error_after, error_before and html."""
    rate: float = 0.0
    """Calls per second and method that a throttle allows."""
    step_bytes: int = 64
    """Bytes of each step of a slow_body."""
    code: str = ""
    """The error code that code_after and code_before answer, such as `E00049`."""
    content_type: str = "text/plain"
    """The Content-Type that wrong_content_type sends."""
    distribution: Distribution = "constant"
    ms: float = 0.0
    """The latency: its value (constant), maximum (uniform) or median (lognormal)."""
    sigma: float = 0.5
    duration_ms: float | None = None
    """How long to refuse connections; None: until deleted."""
    id: str = ""

    def problem(self) -> str | None:
        """Return why the fault is invalid, or None."""
        if self.count is not None and not 1 <= self.count <= _MAX_CALLS:
            return "count must be between 1 and 1000000000"
        if self.probability is not None and not 0 <= self.probability <= 1:
            return "probability must be between 0 and 1"
        times = (self.delay_ms, self.ms, self.duration_ms or 0.0)
        if not all(0 <= each <= _MAX_MS for each in times):
            return "delay_ms, ms and duration_ms must be between 0 and 86400000 (a day)"
        if not 0 <= self.sigma <= _MAX_SIGMA:
            return "sigma must be between 0 and 10"
        lowest = 200 if self.kind == "html" else 400
        if not lowest <= self.status <= 599:
            return f"status must be between {lowest} and 599"
        if self.kind in _CODED and self.code not in MESSAGES:
            return f"{self.kind} needs a code of Authorize.Net's list, such as E00049"
        if self.code and self.kind not in _CODED:
            return "code is only for code_after and code_before"
        if not 1 <= self.step_bytes <= 1 << 20:
            return "step_bytes must be between 1 and 1048576"
        if (self.kind == "throttle") != (0 < self.rate <= _MAX_RATE):
            return "rate is for throttle, which needs it: above 0, at most 1000000"
        if not 1 <= len(self.content_type) <= 200 or not (
            self.content_type.isascii() and self.content_type.isprintable()
        ):
            return "content_type must be 1 to 200 printable ASCII characters"
        if self.kind.startswith(_WEBHOOK):
            if self.method is not None:
                return "method is not for notifications: use event_type"
            if self.kind == "webhook_reorder" and (self.count is None or self.count < 2):
                return "webhook_reorder needs a count of at least 2"
        elif self.event_type is not None:
            return "event_type is only for the kinds that begin with webhook_"
        return None

    def matches(self, call: Call) -> bool:
        return (
            (self.method is None or self.method == call.method)
            and (self.login is None or self.login == call.login)
            and (self.transaction_type is None or self.transaction_type == call.transaction_type)
        )

    def matches_notification(self, login: str, event_type: str) -> bool:
        return (
            (self.event_type is None or self.event_type == event_type)
            and (self.login is None or self.login == login)
            and (self.transaction_type is None or event_type == CREATED.get(self.transaction_type))
        )


_MAX_BUCKETS: Final = 1000


class _Bucket:
    """A throttle's token bucket: holds up to one second's worth of calls."""

    __slots__ = ("filled_at", "left")

    def __init__(self, rate: float) -> None:
        self.left = max(1.0, rate)
        self.filled_at = time.monotonic()

    def is_empty(self, rate: float) -> bool:
        """Take one call from the bucket; return True if it is empty."""
        now = time.monotonic()
        self.left = min(max(1.0, rate), self.left + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.left < 1:
            return True
        self.left -= 1
        return False


class Faults:
    """The active faults, oldest first. Of the kinds other than latency only the first applies."""

    def __init__(self, seed: int) -> None:
        self.active: dict[str, Fault] = {}
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._made = 0
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        """By fault id and method."""

    def add(self, fault: Fault) -> str:
        self._made += 1
        fault.id = f"fault-{self._made}"
        self.active[fault.id] = fault
        return fault.id

    def plan(self, call: Call) -> tuple[Fault | None, float]:
        """Return this call's fault and its latency in seconds; count both down."""
        chosen: Fault | None = None
        latency_s = 0.0
        for fault in list(self.active.values()):
            if fault.kind in _NOT_FOR_CALLS or not fault.matches(call):
                continue
            if fault.kind != "latency" and chosen is not None:
                continue
            if fault.kind == "throttle" and not self._is_too_many(fault, call.method):
                continue
            if not self._applies(fault):
                continue
            if fault.kind == "latency":
                latency_s += self._latency_s(fault)
            else:
                chosen = fault
        return chosen, latency_s

    def plan_notification(self, login: str, event_type: str) -> Fault | None:
        """Return the fault of a notification before its first delivery; count it down."""
        for fault in list(self.active.values()):
            if (
                fault.kind.startswith(_WEBHOOK)
                and fault.matches_notification(login, event_type)
                and self._applies(fault)
            ):
                return fault
        return None

    def _applies(self, fault: Fault) -> bool:
        """Decide by the fault's probability whether it applies; if so count it down."""
        if fault.probability is not None and self._random.random() >= fault.probability:
            return False
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                del self.active[fault.id]
        return True

    def _is_too_many(self, fault: Fault, method: str) -> bool:
        bucket = self._buckets.get((fault.id, method))
        if bucket is None:
            if len(self._buckets) >= _MAX_BUCKETS:  # mostly of deleted faults
                self._buckets.clear()
            bucket = self._buckets[fault.id, method] = _Bucket(fault.rate)
        return bucket.is_empty(fault.rate)

    def _latency_s(self, fault: Fault) -> float:
        if fault.distribution == "uniform":
            return self._random.uniform(0, fault.ms) / 1000
        if fault.distribution == "lognormal" and fault.ms > 0:
            return self._random.lognormvariate(math.log(fault.ms), fault.sigma) / 1000
        return fault.ms / 1000
