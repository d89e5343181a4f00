"""One load test from beginning to end: load, figures, targets, accounting."""

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from easypay_bench import cpu, machine, scrape, targets
from easypay_bench.http_calls import StackFailed
from easypay_bench.loadtest import accounts, fleet
from easypay_bench.loadtest.histograms import SHARES, Second, Tally
from easypay_bench.loadtest.scenarios import Line
from easypay_bench.loadtest.schedule import Schedule
from easypay_bench.loadtest.worker import Order
from easypay_bench.stack import Stack

LATE_MS: Final = 10.0
"""A generator is saturated if it starts 1 in 100 requests later than this."""
BUSY: Final = 0.9
"""It is also saturated if it uses more than this share of a core."""
KNEE_SHARE: Final = 0.95
"""A step is past the knee if less than this share of what was due was answered."""
KNEE_WRONG: Final = 0.01


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """What is tested. `stack`: if its processes are on this machine and known."""

    url: str
    api_key: str
    admin_key: str | None = None
    simulator_url: str | None = None
    login: str | None = None
    stack: Stack | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The load to run. Times in seconds."""

    schedule: Schedule
    weights: dict[str, float]
    replay: list[Line] = []
    connections: int
    max_in_flight: int
    processes: int = 1
    warmup_s: float = 5.0
    answer_within_s: float = 30.0
    seed: int = 1
    accounting: bool = True


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch at one rate (0: closed model). Latencies in milliseconds."""

    asked_rps: float
    due_rps: float
    ended_rps: float
    """Scenarios that had all their answers before the stretch ended."""
    answered_rps: float
    """Calls answered before it ended: what was answered later was not done at this rate."""
    calls: dict[str, dict[str, float]]
    counts: dict[str, int]
    total_ms: dict[str, float]
    own_ms: dict[str, float]
    own_count: int
    """Answers that told the gateway's own time."""
    processor_ms: dict[str, float]
    lateness_ms: dict[str, float]
    statuses: dict[str, int]
    wrong: dict[str, int]
    dropped: int
    saturated: str | None
    """Why the generator was the limit, or None."""
    seconds: list[tuple[int, Second]]
    percentiles_ms: list[tuple[float, float]]

    @property
    def failed_share(self) -> float:
        answered = sum(self.counts.values())
        wrong = sum(self.wrong.values()) + self.dropped
        return wrong / (answered + wrong) if answered + wrong else math.nan


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one load test measured."""

    started_at: str
    machine: dict[str, Any]
    url: str
    plan: Plan
    steps: list[Step]
    knee_rps: float | None
    """The highest rate that was still served well, if there were steps."""
    cpu_cores: dict[str, float]
    """Cores used by each part, over the measured time."""
    cpu_by_second: list[dict[str, float]]
    metrics: dict[str, float]
    verdicts: list[targets.Verdict]
    payments: int | None
    """How many are accounted for; None if that was not checked."""
    processor_asked: bool
    """Whether they were also compared with the processor's transactions."""
    wrong_accounts: list[str]

    @property
    def last_good(self) -> Step:
        """The step that is checked against the targets: the last before the knee, or the only."""
        return _last_good(self.steps, self.knee_rps)

    @property
    def judgement(self) -> str:
        """The whole run in one line. Money comes before targets."""
        if self.wrong_accounts:
            wrong = f"NOT ACCOUNTED FOR: {len(self.wrong_accounts)} faults of money"
            return f"{wrong}; {targets.in_short(self.verdicts)}"
        return targets.in_short(self.verdicts)

    @property
    def exit_status(self) -> int:
        """0: all targets met. 1: one missed. 3: money is not accounted for."""
        if self.wrong_accounts:
            return 3
        return int(any(verdict.met is False for verdict in self.verdicts))


def run(
    gateway: Gateway,
    plan: Plan,
    promised: list[targets.Target],
    *,
    watch: Callable[[float, fleet.Progress], None] = lambda rate, progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Run a load test. Raises LoadFailed or StackFailed if nothing can be measured."""
    started = datetime.now(UTC)
    since = (started - timedelta(seconds=2)).isoformat(timespec="milliseconds")[:23] + "Z"
    where = machine.facts()
    before = _scrape(gateway, say)
    limit_ms = next(
        (each.limit for each in promised if each.key == "api_response_time.p99"), math.inf
    )
    with _metered(gateway) as meter:
        total, steps, knee = _load(gateway, plan, limit_ms, watch)
    after = _scrape(gateway, say)
    figures = _figures(plan, steps, knee, before, after)
    for name in ("sustained_rps", "peak_rps"):
        wanted = max((each.limit for each in promised if each.name == name), default=0.0)
        if plan.schedule.model != "closed" and max(plan.schedule.steps) < wanted:
            figures.pop(f"throughput.{name}", None)  # the load did not ask for that much
    payments: int | None = None
    wrong: list[str] = []
    if plan.accounting:
        say("comparing every payment with the processor's truth")
        payments, wrong = accounts.check(
            gateway.url,
            gateway.api_key,
            since=since,
            tally=total,
            simulator_url=gateway.simulator_url,
            login=gateway.login,
        )
    return Result(
        started_at=started.isoformat(timespec="seconds"),
        machine=where,
        url=gateway.url,
        plan=plan,
        steps=steps,
        knee_rps=knee,
        cpu_cores=meter.cores(),
        cpu_by_second=meter.by_second,
        metrics=figures,
        verdicts=targets.judge(promised, figures, _too_few(steps, knee, before, after)),
        payments=payments,
        processor_asked=plan.accounting and gateway.simulator_url is not None,
        wrong_accounts=wrong,
    )


def _load(
    gateway: Gateway,
    plan: Plan,
    limit_ms: float,
    watch: Callable[[float, fleet.Progress], None],
) -> tuple[Tally, list[Step], float | None]:
    """Run every step up to the first past the knee; return the knee if there are steps."""
    total, steps = Tally(), []
    knee: float | None = None
    for number, rate in enumerate(plan.schedule.steps):
        warmup_s = plan.warmup_s if number == 0 else min(1.0, plan.warmup_s)
        tally = fleet.run(
            _orders(gateway, plan, rate, warmup_s, number),
            functools.partial(watch, rate),
        )
        total.add(tally)
        step = _step(tally, plan, rate)
        steps.append(step)
        if plan.schedule.model == "steps":
            if _is_past_knee(step, limit_ms):
                break
            knee = rate
    return total, steps, knee


def _orders(gateway: Gateway, plan: Plan, rate: float, warmup_s: float, number: int) -> list[Order]:
    parts = urlsplit(gateway.url)
    model = plan.schedule.model
    schedule = msgspec.structs.replace(
        plan.schedule, rate=rate, model="constant" if model == "steps" else model
    )
    share, more = divmod(plan.connections, plan.processes)
    return [
        Order(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 80,
            api_key=gateway.api_key,
            schedule=schedule,
            weights=plan.weights,
            replay=plan.replay,
            connections=share + (index < more),
            max_in_flight=-(-plan.max_in_flight // plan.processes),
            warmup_s=warmup_s,
            answer_within_s=plan.answer_within_s,
            index=index,
            processes=plan.processes,
            seed=plan.seed + number * 1000,
        )
        for index in range(plan.processes)
    ]


def _step(tally: Tally, plan: Plan, rate: float) -> Step:
    seconds = plan.schedule.seconds
    whole = tally.total
    counts = {name: each.count for name, each in tally.calls.items()}
    lateness = tally.lateness.spread()
    cores = tally.cpu_s / seconds / plan.processes
    saturated = None
    if lateness and lateness["p99"] > LATE_MS:
        saturated = f"it began 1 in 100 requests more than {lateness['p99']:.0f} ms late"
    elif cores > BUSY:
        saturated = f"it used {cores:.0%} of a core"
    shares = [50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 100]
    return Step(
        asked_rps=rate,
        due_rps=tally.due / seconds,
        ended_rps=tally.ended / seconds,
        answered_rps=tally.in_time / seconds,
        calls={name: each.spread() for name, each in tally.calls.items()},
        counts=counts,
        total_ms=whole.spread(),
        own_ms=tally.own.spread(),
        own_count=tally.own.count,
        processor_ms=tally.processor.spread(),
        lateness_ms=lateness,
        statuses=dict(tally.statuses),
        wrong=dict(tally.wrong),
        dropped=tally.dropped,
        saturated=saturated,
        seconds=tally.by_second(),
        percentiles_ms=[(share, whole.ms(share)) for share in shares if whole.count],
    )


def _last_good(steps: list[Step], knee: float | None) -> Step:
    good = [step for step in steps if knee is not None and step.asked_rps <= knee]
    return (good or steps)[-1]


def _is_past_knee(step: Step, limit_ms: float) -> bool:
    return (
        step.ended_rps < KNEE_SHARE * step.due_rps
        or step.failed_share > KNEE_WRONG
        or step.total_ms.get("p99", math.inf) > limit_ms
    )


def _figures(
    plan: Plan,
    steps: list[Step],
    knee: float | None,
    before: scrape.Reading | None,
    after: scrape.Reading | None,
) -> dict[str, float]:
    """Return the figures for the targets: the client's view comes before the gateway's."""
    found: dict[str, float] = {}
    if before is not None and after is not None:
        found = scrape.figures(scrape.between(before, after))
        found["unknown_outcomes.oldest"] = scrape.figures(after)["unknown_outcomes.oldest"]
    judged = _last_good(steps, knee)
    found |= {f"api_response_time.{name}": ms for name, ms in judged.total_ms.items()}
    found |= {f"own_time.{name}": ms for name, ms in judged.own_ms.items()}
    found["errors.rate"] = judged.failed_share
    if plan.schedule.model in ("constant", "ramp"):
        found["throughput.sustained_rps"] = judged.answered_rps
    else:
        found["throughput.peak_rps"] = max(step.answered_rps for step in steps)
        if knee is not None:
            found["throughput.sustained_rps"] = judged.answered_rps
    if plan.connections >= 1000:
        found["throughput.concurrent_users"] = plan.connections
    return found


def _too_few(
    steps: list[Step],
    knee: float | None,
    before: scrape.Reading | None,
    after: scrape.Reading | None,
) -> dict[str, tuple[int, int]]:
    """Return the percentiles of too few requests, with how many there were and are needed."""
    found: dict[str, tuple[int, int]] = {}
    if before is not None and after is not None:
        _, found = scrape.percentiles(scrape.between(before, after))
    judged = _last_good(steps, knee)
    for section, spread, had in (
        ("api_response_time", judged.total_ms, sum(judged.counts.values())),
        ("own_time", judged.own_ms, judged.own_count),
    ):
        for name in spread.keys() - {"max"}:  # these figures are the client's, see `_figures`
            found.pop(f"{section}.{name}", None)
            if had < (least := targets.needed(SHARES[name] / 100)):
                found[f"{section}.{name}"] = had, least
    return found


def _scrape(gateway: Gateway, say: Callable[[str], None]) -> scrape.Reading | None:
    try:
        return scrape.read(gateway.url, gateway.admin_key)
    except StackFailed as error:
        say(f"without the gateway's own metrics: {error}")
        return None


class _Meter:
    """CPU by part, read once a second in a thread."""

    def __init__(self, meter: cpu.Meter) -> None:
        self._meter = meter
        self._readings: list[tuple[datetime, Mapping[str, float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def begin(self) -> None:
        self._read()
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def _follow(self) -> None:
        while not self._over.wait(1.0):
            self._read()

    def _read(self) -> None:
        self._readings.append((datetime.now(UTC), self._meter.read()))

    def cores(self) -> dict[str, float]:
        """Return the cores used on average, by part."""
        return _used(self._readings[0], self._readings[-1])

    @property
    def by_second(self) -> list[dict[str, float]]:
        pairs = zip(self._readings, self._readings[1:], strict=False)
        return [_used(one, other) for one, other in pairs]


def _used(
    one: tuple[datetime, Mapping[str, float]], other: tuple[datetime, Mapping[str, float]]
) -> dict[str, float]:
    took_s = (other[0] - one[0]).total_seconds() or 1
    return {name: s / took_s for name, s in cpu.spent(one[1], other[1]).items()}


@contextmanager
def _metered(gateway: Gateway) -> Iterator[_Meter]:
    """Measure the CPU of all known processes, and of the generator."""
    parts = dict(gateway.stack.meter().parts) if gateway.stack else {}
    parts["generator"] = lambda: cpu.family_s(os.getpid())
    meter = _Meter(cpu.Meter(parts))
    meter.begin()
    try:
        yield meter
    finally:
        meter.end()
