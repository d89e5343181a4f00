"""The order of a run: counters, one payment at a time, warm-up, loads, and then the accounting."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
import msgspec

from easypay.db.table_sizes import TableSize, sizes
from easypay_bench import counters, cpu, load, machine, metrics_cost, report, scaling
from easypay_bench import single_payment_latency as single
from easypay_bench.accounting import account, settled
from easypay_bench.counters import Totals
from easypay_bench.instructions import Instructions
from easypay_bench.load import Job
from easypay_bench.payment_request import orders
from easypay_bench.stack import Merchant, Stack, shop

T = TypeVar("T")
_NUMBERS_PER_PHASE: Final = 10_000_000
"""Each phase has its own range of numbers, so no key is used twice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. Times in seconds."""

    generator: str = "auto"
    connections: int = 64
    seconds: float = 10
    warmup_s: float = 3
    unloaded_s: float = 3
    counted_payments: int = 200
    repeat: int = 1
    wide: scaling.Plan | None = None
    """Also measure beside the database alone, at rates, and as things grow."""


def everything(
    stack: Stack, plan: Plan, say: Callable[[str], None] = lambda text: None
) -> report.Findings:
    """Run the whole plan against a stack, with its own merchant.

    Raises LoadFailed or StackFailed if a figure cannot be taken. Wrong money is not raised: it is
    in the findings.
    """
    generator = load.choose(plan.generator)
    where = machine.facts()
    metrics_us = metrics_cost.request_us()
    with shop(stack) as merchant:
        host = f"{stack.host}:{stack.port}"
        job = Job(stack.host, stack.port, orders(host, merchant.api_key), plan.connections, 0)
        with closing(single.Payer(job)) as payer:
            counted, alone = _one_at_a_time(stack, payer, plan, say)
        replied = payer.paid
        say(f"warming up for {plan.warmup_s:g} s, {plan.connections} connections by {generator}")
        warmup = load.run(
            generator, replace(job, seconds=plan.warmup_s, first_number=_NUMBERS_PER_PHASE)
        )
        _settle(stack, merchant)
        before = _ask(stack, counters.totals)
        runs = []
        for number in range(plan.repeat):
            say(f"load for {plan.seconds:g} s, {plan.connections} connections by {generator}")
            first_number = (number + 2) * _NUMBERS_PER_PHASE
            one = replace(job, seconds=plan.seconds, first_number=first_number)
            runs.append(_load(stack, generator, one))
            _settle(stack, merchant)
        after = _ask(stack, counters.totals)
        loads = [warmup, *(run.load for run in runs)]
        unanswered, measured = 0, None
        if plan.wide is not None:
            rest = replace(job, first_number=(plan.repeat + 2) * _NUMBERS_PER_PHASE)
            measured = scaling.measure(stack, merchant, rest, plan.wide, say)
            loads += measured.loads
            replied += measured.replied
            unanswered = measured.unanswered
            _settle(stack, merchant)
        say("comparing every payment with the processor's truth")
        found = asyncio.run(
            account(
                stack,
                merchant,
                replied=replied + sum(each.replies for each in loads),
                cut_off=unanswered + sum(each.cut_off for each in loads),
            )
        )
    return report.Findings(
        machine=where,
        database=_ask(stack, _database),
        options={
            **asdict(replace(plan, wide=None)),
            "wide": None if plan.wide is None else msgspec.to_builtins(plan.wide),
            "generator": generator,
            "workers": len(stack.gateway_pids),
            "gateway_settings": dict(stack.gateway_settings),
        },
        unloaded=alone,
        counters=counted,
        runs=runs,
        hot_ratio=counters.hot_ratio(before, after),
        payments=found.payments,
        wrong=[*_bad_answers(loads), *found.wrong],
        metrics_us=metrics_us,
        wide=None if measured is None else measured.wide,
        kept=_ask(stack, _kept),
    )


def _one_at_a_time(
    stack: Stack, payer: single.Payer, plan: Plan, say: Callable[[str], None]
) -> tuple[counters.Counters, single.Unloaded]:
    async def pay() -> None:
        payer.pay()

    say(f"counting over {plan.counted_payments} payments")
    counted = asyncio.run(counters.measure(stack.database_url, pay, payments=plan.counted_payments))
    say(f"one payment at a time for {plan.unloaded_s:g} s")
    return counted, single.measure(payer, plan.unloaded_s)


def _load(stack: Stack, generator: str, job: Job) -> report.Run:
    """Run one load between two readings of all CPU times."""
    meter = stack.meter()
    wal_before = _ask(stack, counters.totals).wal_bytes
    before: Mapping[str, float] = {}

    def start() -> None:
        nonlocal before
        before = meter.read()

    with Instructions(stack.gateway_pids) as gateway:
        done = load.run(generator, job, start)
        spent = cpu.spent(before, meter.read())
    totals: Totals = _ask(stack, counters.totals)
    return report.Run(
        done,
        {**spent, "generator": done.cpu_s},
        totals.wal_bytes - wal_before,
        None if gateway.total is None else gateway.total / done.replies,
    )


def _bad_answers(loads: list[load.Load]) -> list[str]:
    return [
        f"{count} requests under load were not answered 201: {what}"
        for each in loads
        for what, count in each.wrong.items()
    ]


def _settle(stack: Stack, merchant: Merchant) -> None:
    """Wait until nothing is in flight: it belongs to the phase that ended."""

    async def wait(connection: counters.Connection) -> None:
        await settled(connection, merchant)

    _ask(stack, wait)


async def _kept(connection: counters.Connection) -> list[TableSize]:
    """Return what is on disk. Without a vacuum dead rows of the run would count, too."""
    await connection.execute("VACUUM (ANALYZE) payments, operations, events, idempotency_keys")
    return await sizes(connection)


async def _database(connection: counters.Connection) -> dict[str, str]:
    """Return the settings that decide what a commit costs."""
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
    settings = {name: str(await connection.fetchval(f"SHOW {name}")) for name in names}
    directory = await connection.fetchval("SELECT current_setting('data_directory', true)")
    return {**settings, "file_system": machine.file_system(Path(directory or "/"))}


def _ask(stack: Stack, question: Callable[[counters.Connection], Awaitable[T]]) -> T:
    """Query the stack's database over a new connection."""

    async def ask() -> T:
        connection = await asyncpg.connect(stack.database_url)
        try:
            return await question(connection)
        finally:
            await connection.close()

    return asyncio.run(ask())
