"""Measures the gateway beside the database alone, at fixed rates, and as the load around it grows.

Rates are compared in pairs, run right after each other, because a machine's speed drifts.
"""

import asyncio
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import asyncpg
import msgspec
import psutil  # type: ignore[import-untyped]

from easypay_bench import cpu, disk, load, pgbench, yardstick
from easypay_bench.http_calls import call
from easypay_bench.load import Job, Load
from easypay_bench.loadtest import fleet
from easypay_bench.loadtest.schedule import Schedule
from easypay_bench.loadtest.worker import Order
from easypay_bench.performance_bars import per_payment_us, spread
from easypay_bench.stack import Merchant, Stack

CONNECTIONS: Final = (1, 4, 16, 64, 256)
PROCESSOR_MS: Final = (0, 50, 300)
RATES: Final = (100, 500, 1000)
IDLE: Final = 10_000
BAR_RATE: Final = 500
BAR_PROCESSOR_MS: Final = 50

Spread = dict[str, float]


class Plan(msgspec.Struct, frozen=True):
    """How much to measure; seconds."""

    pairs: int = 3
    pair_s: float = 5
    open_s: float = 10
    grid_s: float = 3
    idle: int = IDLE
    connections: tuple[int, ...] = CONNECTIONS
    processor_ms: tuple[int, ...] = PROCESSOR_MS
    rates: tuple[int, ...] = RATES


class Pair(msgspec.Struct, frozen=True):
    """The gateway and pgbench, one after the other, in payments per second."""

    gateway_per_s: float
    pgbench_per_s: float

    @property
    def ratio(self) -> float:
        return self.gateway_per_s / self.pgbench_per_s


class OpenRun(msgspec.Struct, frozen=True, kw_only=True):
    """An open-loop run at one rate. Times in milliseconds."""

    rate: float
    answered_per_s: float
    connections: int
    processor_ms: int
    own_ms: Spread
    total_ms: Spread
    lateness_ms: Spread
    disk_ms: Spread
    """A durable write of one page, on the same disk meanwhile."""
    wrong: int
    dropped: int
    memory_before_mib: float
    memory_mib: float


class Read(msgspec.Struct, frozen=True):
    """Reads in a closed loop."""

    name: str
    per_s: float
    gateway_us: float
    postgres_us: float
    latency_ms: Spread


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One closed-loop load of payments."""

    connections: int
    processor_ms: int
    payments_per_s: float
    gateway_us: float
    postgres_us: float
    p50_ms: float
    p99_ms: float


class Wide(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements of one run."""

    pgbench: list[pgbench.Rate]
    pairs: list[Pair]
    yardstick: list[yardstick.Compared]
    open: list[OpenRun]
    reads: list[Read]
    grid: list[Cell]

    @property
    def ratio(self) -> float:
        """The gateway's rate as a share of pgbench's best: the median of the pairs."""
        return statistics.median(pair.ratio for pair in self.pairs)

    def at(self, rate: float, processor_ms: int) -> OpenRun:
        """Return the open run at a rate. Raises StopIteration if there was none."""
        wanted = rate, processor_ms
        return next(run for run in self.open if (run.rate, run.processor_ms) == wanted)


class Measured(msgspec.Struct):
    """A `Wide`, and what must be accounted for."""

    wide: Wide
    loads: list[Load]
    replied: int
    unanswered: int
    """Requests of the open runs without an answer: they may have made a payment."""


def measure(
    stack: Stack, merchant: Merchant, job: Job, plan: Plan, say: Callable[[str], None]
) -> Measured:
    """Measure everything. Raises LoadFailed or StackFailed if a figure cannot be taken.

    `job`: the load of payments; its `first_number` and all above are unused.
    """
    generator = load.choose("auto")
    loads: list[Load] = []
    numbers = iter(range(job.first_number, 900_000_000, 10_000_000))

    def closed(connections: int, seconds: float) -> tuple[Load, dict[str, float]]:
        meter = stack.meter()
        before = meter.read()
        one = Job(job.host, job.port, job.orders, connections, seconds, next(numbers))
        done = load.run(generator, one)
        loads.append(done)
        return done, cpu.spent(before, meter.read())

    say(f"pgbench, {plan.pair_s:g} s for each number of clients")
    rates = pgbench.measure(stack, seconds=plan.pair_s)
    best = pgbench.best(rates).clients
    pairs = []
    for number in range(plan.pairs):
        say(f"pair {number + 1} of {plan.pairs}: the gateway, then pgbench with {best} clients")
        done, _ = closed(64, plan.pair_s)
        (rate,) = pgbench.measure(stack, seconds=plan.pair_s, clients=(best,))
        pairs.append(Pair(_per_s(done), rate.payments_per_s))

    def gateway_per_s(connections: int) -> float:
        return _per_s(closed(connections, plan.pair_s)[0])

    compared = _beside_the_yardstick(stack, plan, gateway_per_s, say)
    replied = unanswered = 0
    open_runs = []
    for rate_asked, processor_ms, connections in _open_plan(plan):
        say(f"{rate_asked}/s with {connections:,} connections, processor at {processor_ms} ms")
        asyncio.run(_write_out(stack))
        with slow_processor(stack, processor_ms):
            run, tally = _open(stack, merchant, rate_asked, processor_ms, connections, plan.open_s)
        open_runs.append(run)
        replied += tally.payments["create"]
        unanswered += tally.payments["unanswered"]

    reads = list(_reads(stack, merchant, plan.grid_s, say)) if generator == "wrk" else []
    grid = []
    for processor_ms in plan.processor_ms:
        for connections in plan.connections:
            say(f"{connections} connections, processor at {processor_ms} ms")
            with slow_processor(stack, processor_ms):
                done, spent = closed(connections, plan.grid_s)
            grid.append(_cell(done, spent, connections, processor_ms))
    return Measured(
        Wide(
            pgbench=rates, pairs=pairs, yardstick=compared, open=open_runs, reads=reads, grid=grid
        ),
        loads,
        replied,
        unanswered,
    )


def _per_s(done: Load) -> float:
    return done.replies / done.seconds


def _beside_the_yardstick(
    stack: Stack, plan: Plan, gateway_per_s: Callable[[int], float], say: Callable[[str], None]
) -> list[yardstick.Compared]:
    groups = yardstick.groups_of(stack.gateway_settings)

    def rate(in_flight: int) -> yardstick.Rate:
        return yardstick.measure(
            stack.database_url,
            stack.postmaster_pid,
            groups,
            in_flight=in_flight,
            seconds=plan.pair_s,
        )

    compared = []
    for connections in yardstick.IN_FLIGHT:
        say(f"{plan.pairs} pairs: the yardstick, then the gateway with {connections} connections")
        compared.append(yardstick.compare(connections, plan.pairs, rate, gateway_per_s))
    return compared


async def _write_out(stack: Stack) -> None:
    """Flush the writes that earlier phases left pending, in the database and the system. Otherwise
    the next phase would write them, and its commits would wait for the disk."""
    connection = await asyncpg.connect(stack.database_url)
    with suppress(asyncpg.InsufficientPrivilegeError):  # not our own database
        await connection.execute("CHECKPOINT")
    await connection.close()
    os.sync()


def _open_plan(plan: Plan) -> Iterator[tuple[int, int, int]]:
    """Yield (rate, processor's milliseconds, connections) of each open run."""
    for rate in plan.rates:
        yield rate, 0, 64
    yield BAR_RATE, BAR_PROCESSOR_MS, 64
    if plan.idle:
        yield BAR_RATE, 0, plan.idle


def _open(
    stack: Stack,
    merchant: Merchant,
    rate: int,
    processor_ms: int,
    connections: int,
    seconds: float,
) -> tuple[OpenRun, Any]:
    order = Order(
        host=stack.host,
        port=stack.port,
        api_key=merchant.api_key,
        schedule=Schedule(model="constant", seconds=seconds, rate=rate),
        weights={"create": 1},
        connections=connections,
        max_in_flight=10_000,
        warmup_s=2,
    )
    before = memory_mib(stack)
    most = before

    def watch(_: fleet.Progress) -> None:
        nonlocal most
        most = max(most, memory_mib(stack))

    with disk.watched(stack.directory) as disk_ms:
        tally = fleet.run([order], watch)
    run = OpenRun(
        rate=rate,
        answered_per_s=tally.in_time / seconds,
        connections=connections,
        processor_ms=processor_ms,
        own_ms=tally.own.spread(),
        total_ms=tally.total.spread(),
        lateness_ms=tally.lateness.spread(),
        disk_ms=spread(disk_ms),
        wrong=sum(tally.wrong.values()),
        dropped=tally.dropped,
        memory_before_mib=before,
        memory_mib=most,
    )
    return run, tally


def _reads(
    stack: Stack, merchant: Merchant, seconds: float, say: Callable[[str], None]
) -> Iterator[Read]:
    known = _payment_paths(stack, merchant)
    for name, paths in (
        ("by id, each once in turn", known),
        ("by id, one again and again", known[:1]),
        ("the first page of the list", ["/api/v1/payments?limit=20"]),
    ):
        say(f"reads: {name}")
        meter = stack.meter()
        before = meter.read()
        done = load.run_reads(
            stack.host, stack.port, merchant.api_key, paths, connections=64, seconds=seconds
        )
        spent = cpu.spent(before, meter.read())
        yield Read(
            name,
            _per_s(done),
            per_payment_us(spent["gateway"], done.replies),
            per_payment_us(spent["postgres"], done.replies),
            done.latency_ms,
        )


def _payment_paths(stack: Stack, merchant: Merchant) -> list[str]:
    """Return the paths of the newest payments, at most 5,000."""
    paths: list[str] = []
    cursor = ""
    while len(paths) < 5000:
        url = f"{stack.api_url}/api/v1/payments?limit=100{cursor}"
        page = call("GET", url, bearer=merchant.api_key)
        paths += [f"/api/v1/payments/{each['id']}" for each in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    return paths


def _cell(done: Load, spent: dict[str, float], connections: int, processor_ms: int) -> Cell:
    return Cell(
        connections=connections,
        processor_ms=processor_ms,
        payments_per_s=_per_s(done),
        gateway_us=per_payment_us(spent["gateway"], done.replies),
        postgres_us=per_payment_us(spent["postgres"], done.replies),
        p50_ms=done.latency_ms.get("p50", float("nan")),
        p99_ms=done.latency_ms.get("p99", float("nan")),
    )


@contextmanager
def slow_processor(stack: Stack, ms: int) -> Iterator[None]:
    """Delay the simulator's replies while the block lasts."""
    if not ms:
        yield
        return
    url = f"{stack.simulator_url}/simulator/faults"
    made = call("POST", url, {"kind": "latency", "distribution": "constant", "ms": ms})
    try:
        yield
    finally:
        call("DELETE", f"{url}/{made['id']}")


def memory_mib(stack: Stack) -> float:
    """Return the memory of the gateway's processes."""
    return float(sum(psutil.Process(pid).memory_info().rss for pid in stack.gateway_pids)) / 2**20
