"""What is wanted of work that is left, and whether it is so. Measures nothing."""

from collections.abc import Callable, Iterator, Sequence
from statistics import linear_regression, mean, median
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from easypay_bench.caching.bars import interval
from easypay_bench.performance_bars import percentile
from easypay_bench.work.feed import FeedRun
from easypay_bench.work.notified import MOST_MS as NOTIFIED_MS
from easypay_bench.work.ordinary import Pair
from easypay_bench.work.slow_answers import SlowAnswers
from easypay_bench.work.stored import MOST_PERCENT, MOST_US
from easypay_bench.work.stored import Pair as StoredPair
from easypay_bench.work.stored import Spent as StoredSpent

_LEAST_FOR_LINE: Final = 10
NO_ENDPOINT: Final = "nobody waits"
ENDPOINT: Final = "a merchant has an endpoint"
STATEMENTS: Final = "the same, beside the statements alone"


class Drained(msgspec.Struct, frozen=True):
    """As many payments sent by requests that wait, and from the queue by a worker: how many per
    second, and the CPU for each of the process that sends them and of PostgreSQL. What acceptance
    costs is not in it."""

    waiting_per_s: float
    queued_per_s: float
    gateway_us: float = 0.0
    waiting_postgres_us: float = 0.0
    worker_us: float = 0.0
    queued_postgres_us: float = 0.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries during one load."""

    deliveries: int
    per_s: float
    late_ms: list[float] = []
    """How old each event was when its message came for the first time, in rising order."""
    repeats: int = 0
    worker_us: float = 0.0
    """CPU of the worker for each delivery; then of PostgreSQL and of the receivers."""
    postgres_us: float = 0.0
    receivers_us: float = 0.0


class Burst(msgspec.Struct, frozen=True):
    """What a worker does that finds a queue, per second; and the pages that a claim reads while
    there is nothing to be claimed, for queued payments and for webhooks: of what is recent, as most
    claims are, and of all."""

    queued_per_s: float
    deliveries_per_s: float
    queue_pages: int
    queue_pages_of_all: int
    webhook_pages: int
    webhook_pages_of_all: int


class Snapshot(msgspec.Struct, frozen=True):
    """The same bursts before a snapshot was opened, while it is held, and after its end. Each list
    has one of every round.

    Meanwhile the tables grow, caches get warm, and a machine may change its speed. So a burst
    beside the snapshot is compared with the mean of those before and after."""

    held_s: float
    before: list[Burst]
    beside: list[Burst]
    after: list[Burst]


class BatchRun(msgspec.Struct, frozen=True):
    """As many payments sent by requests that wait, and by a batch that one worker runs: how many
    per second."""

    waiting_per_s: float
    batch_per_s: float


class Uploaded(msgspec.Struct, frozen=True):
    """The upload and check of a file: its lines, how long it took, and by how many MiB the gateway
    grew meanwhile."""

    lines: int
    seconds: float
    grown_mib: float


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run measured. What was left out is empty or None."""

    work: bool = True
    machine: dict[str, Any]
    quick: bool
    drained: list[Drained] = []
    accepted_ms: dict[str, float] = {}
    accepted_rate: float = 0.0
    accepted_slow: SlowAnswers | None = None
    notified_ms: dict[str, float] = {}
    notified_rate: float = 0.0
    notified_slow: SlowAnswers | None = None
    stored: list[StoredPair] = []
    feed: dict[str, FeedRun] = {}
    """By who waits for events."""
    fast: list[Told] = []
    at_rate: list[Told] = []
    one_hangs: list[Told] = []
    snapshot: Snapshot | None = None
    batches: list[BatchRun] = []
    uploads: list[Uploaded] = []
    base: str = ""
    ordinary: list[Pair] = []


class Row(msgspec.Struct, frozen=True):
    """One line of the table: the median of the rounds, and between what it is."""

    name: str
    wanted: str
    figure: float
    lowest: float
    highest: float
    unit: str
    met: bool


def rows(found: Findings) -> Iterator[Row]:
    """Yield a row for everything that was measured."""
    if found.drained:
        shares = [each.queued_per_s / each.waiting_per_s for each in found.drained]
        yield _least("queued payments: share of the rate of those that wait", shares, 0.9, "")
    if found.accepted_ms:
        name = f"202 for a queued payment at {found.accepted_rate:g}/s: p99"
        yield _most(name, [found.accepted_ms["p99"]], 15, "ms")
    if found.notified_ms:
        name = f"answer to a notification of the processor at {found.notified_rate:g}/s: p99"
        yield _most(name, [found.notified_ms["p99"]], NOTIFIED_MS, "ms")
    if found.stored:
        both = [(each.card.gateway_us, each.stored.gateway_us) for each in found.stored]
        more = [stored - card for card, stored in both]
        yield _most("gateway CPU of a stored method, more than of a card", more, MOST_US, "µs")
        share = [100 * (stored / card - 1) for card, stored in both]
        yield _most("the same, of a card's", share, MOST_PERCENT, "%")
    if run := found.feed.get(STATEMENTS):
        name = f"feed behind the commit, {run.events / run.seconds:,.0f} events/s: p99"
        yield _most(name, [percentile(run.late_ms, 0.99)], 50, "ms")
    if found.fast:
        yield _least("deliveries to all endpoints", [each.per_s for each in found.fast], 2000, "/s")
    if found.at_rate:
        late = [percentile(each.late_ms, 0.99) for each in found.at_rate]
        yield _most("first attempt after the commit: p99", late, 100, "ms")
        if found.one_hangs:
            hung = [percentile(each.late_ms, 0.99) for each in found.one_hangs]
            ratios = [b / a for a, b in zip(late, hung, strict=True)]
            yield _most("the same while one endpoint hangs, times that", ratios, 1.25, "times")
    if found.batches:
        shares = [each.batch_per_s / each.waiting_per_s for each in found.batches]
        yield _least("batches: share of the rate of requests that wait", shares, 0.7, "")
    if found.uploads:
        longest = max(found.uploads, key=lambda each: each.lines)
        million_s = longest.seconds / longest.lines * 1e6
        yield _most(f"upload of {longest.lines:,} lines, for a million", [million_s], 60, "s")
        grown = [max(0.1, each.grown_mib) for each in found.uploads]
        yield _most("memory of the gateway for an upload", grown, 200, "MiB")
    yield from _beside_snapshot(found.snapshot)
    yield from _beside_base(found.ordinary)


def beside(pairs: Sequence[StoredPair], of: Callable[[StoredSpent], float]) -> tuple[float, ...]:
    """Return the medians of a figure by card, with a stored method and of their differences, and
    between what that is."""
    cards, stored = ([of(each) for each in kind] for kind in zip(*map(astuple, pairs), strict=True))
    more = [b - a for a, b in zip(cards, stored, strict=True)]
    return (*map(median, (cards, stored, more)), *interval(more))


def at_equal_statements(pairs: Sequence[StoredPair]) -> float | None:
    """Return how much more CPU of the gateway a stored method takes where both needed as many
    statements, by least squares over the pairs; None if there are too few.

    Fewer payments share a statement if the simulator answers more slowly, as it does for a stored
    method. That costs the gateway something, but it is no part of what the gateway does.
    """
    of_statements = [each.stored.statements - each.card.statements for each in pairs]
    of_gateway = [each.stored.gateway_us - each.card.gateway_us for each in pairs]
    if len(pairs) < _LEAST_FOR_LINE or len(set(of_statements)) == 1:
        return None
    return linear_regression(of_statements, of_gateway).intercept


def _beside_snapshot(held: Snapshot | None) -> Iterator[Row]:
    if held is not None:
        for what, name in (("queued payments", "queued"), ("webhooks", "deliveries")):
            before, beside, after = (
                [getattr(burst, f"{name}_per_s") for burst in bursts]
                for bursts in (held.before, held.beside, held.after)
            )
            costs = [
                100 * (1 - b / mean((a, c))) for a, b, c in zip(before, beside, after, strict=True)
            ]
            yield _most(f"a snapshot held for {held.held_s:g} s costs {what}", costs, 10, "%")


def _beside_base(pairs: Sequence[Pair]) -> Iterator[Row]:
    if not pairs:
        return
    yield _least("payments/s, times before", [p.now.per_s / p.before.per_s for p in pairs], 0.98,
                 "times")  # fmt: skip
    for name, of in (
        ("gateway CPU", lambda cost: cost.gateway_us),
        ("PostgreSQL CPU", lambda cost: cost.postgres_us),
        ("WAL", lambda cost: cost.wal_bytes),
    ):
        each: Callable[[Any], float] = of
        ratios = [each(pair.now) / each(pair.before) for pair in pairs]
        yield _most(f"{name} of a payment, times before", ratios, 1.02, "times")


def _least(name: str, values: Sequence[float], limit: float, unit: str) -> Row:
    figure = median(values)
    wanted = f"at least {limit:,g} {unit}".strip()
    return Row(name, wanted, figure, *interval(values), unit, figure >= limit)


def _most(name: str, values: Sequence[float], limit: float, unit: str) -> Row:
    figure = median(values)
    wanted = f"at most {limit:,g} {unit}".strip()
    return Row(name, wanted, figure, *interval(values), unit, figure <= limit)
