"""The yardstick: what the gateway's grouped SQL can do without HTTP and without a processor.

Two frozen statements (`yardstick_statements`) take a payment through begin and record, over the
gateway's own lanes and group commit. A closed loop: each payment begins when the last is recorded.
The gateway's rate is a share of the yardstick's, from runs in turn. The machine's speed cancels out
of that share. As the statements never change, it also shows what a change of the gateway's costs.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

import asyncpg
import msgspec
import uvloop

from easypay.db import partitions
from easypay.db.connections import Lane
from easypay.db.group_commit import GroupCommitter
from easypay.payments.statements import Statement, group_committer, in_months
from easypay.settings import Settings
from easypay_bench import cpu
from easypay_bench.http_calls import StackFailed
from easypay_bench.performance_bars import per_payment_us
from easypay_bench.yardstick_statements import BEGIN, RECORD, Row, begin_row, record_row

IN_FLIGHT: Final = (64, 256)
_PATIENCE_S: Final = 30.0
_WARMUP_S: Final = 1.0


class Rate(msgspec.Struct, frozen=True):
    """Payments per second with `in_flight` at once. What each costs, in microseconds of CPU: the
    Python that drives the statements, and PostgreSQL."""

    in_flight: int
    payments_per_s: float
    python_us: float
    postgres_us: float


class Pair(msgspec.Struct, frozen=True):
    """The yardstick and the gateway, one after the other, in payments per second."""

    yardstick_per_s: float
    gateway_per_s: float

    @property
    def ratio(self) -> float:
        return self.gateway_per_s / self.yardstick_per_s


class Compared(msgspec.Struct, frozen=True):
    """The gateway beside the yardstick, with as many connections as payments in flight.

    `python_us`, `postgres_us`: the yardstick's CPU per payment, the median of its runs.
    """

    connections: int
    pairs: list[Pair]
    python_us: float
    postgres_us: float

    @property
    def ratio(self) -> float:
        """The gateway's share of the yardstick's rate: the median of the pairs."""
        return statistics.median(pair.ratio for pair in self.pairs)

    @property
    def lowest(self) -> float:
        return min(pair.ratio for pair in self.pairs)

    @property
    def highest(self) -> float:
        return max(pair.ratio for pair in self.pairs)


class Groups(msgspec.Struct, frozen=True):
    """A gateway's settings of group commit: commits of one kind at once, payments in one."""

    in_flight: int
    size: int


def groups_of(changed: Mapping[str, str]) -> Groups:
    """Return a gateway's settings: the defaults, unless `changed` (`{"GROUP_SIZE": "32"}`)."""
    named = {name.lower(): value for name, value in changed.items()}

    def setting(name: str) -> int:
        return int(named.get(name, Settings.model_fields[name].default))

    return Groups(setting("groups_in_flight"), setting("group_size"))


def compare(
    connections: int,
    pairs: int,
    yardstick: Callable[[int], Rate],
    gateway: Callable[[int], float],
) -> Compared:
    """Run the two in turn, the yardstick first; both are told how many payments to have in flight.
    `gateway` returns payments per second."""
    rates, found = [], []
    for _ in range(pairs):
        rate = yardstick(connections)
        rates.append(rate)
        found.append(Pair(rate.payments_per_s, gateway(connections)))
    return Compared(
        connections,
        found,
        python_us=statistics.median(rate.python_us for rate in rates),
        postgres_us=statistics.median(rate.postgres_us for rate in rates),
    )


def measure(
    dsn: str, postmaster_pid: int, groups: Groups, *, in_flight: int, seconds: float
) -> Rate:
    """Run the yardstick with so many payments in flight, in an event loop of its own.

    Raises StackFailed if a statement did not do its work.
    """
    with _without_collections(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(dsn, postmaster_pid, groups, in_flight, seconds))


async def _measure(
    dsn: str, postmaster_pid: int, groups: Groups, in_flight: int, seconds: float
) -> Rate:
    months = await _months(dsn)
    begin = _committer(BEGIN, dsn, groups, months)
    record = _committer(RECORD, dsn, groups, months)
    try:
        # The first load connects, prepares and plans.
        await _load(begin, record, in_flight, min(_WARMUP_S, seconds))
        started, python_s = time.perf_counter(), time.process_time()
        postgres_s = cpu.family_s(postmaster_pid)
        payments = await _load(begin, record, in_flight, seconds)
        took_s, python_s = time.perf_counter() - started, time.process_time() - python_s
        postgres_s = cpu.family_s(postmaster_pid) - postgres_s
    finally:
        await asyncio.gather(begin.close(), record.close())
    return Rate(
        in_flight,
        payments / took_s,
        per_payment_us(python_s, payments),
        per_payment_us(postgres_s, payments),
    )


async def _load(
    begin: GroupCommitter[Row, bool],
    record: GroupCommitter[Row, bool],
    in_flight: int,
    seconds: float,
) -> int:
    """Take payments for some time; return how many."""
    merchant_id = uuid4()
    ends_at = time.perf_counter() + seconds

    async def take_payments() -> int:
        taken = 0
        while time.perf_counter() < ends_at:
            begun = begin_row(merchant_id)
            if not await begin.submit(begun):
                raise StackFailed("the yardstick: begin did not claim a new key")
            if not await record.submit(record_row(begun)):
                raise StackFailed("the yardstick: record did not find the operation")
            taken += 1
        return taken

    return sum(await asyncio.gather(*(take_payments() for _ in range(in_flight))))


async def _months(dsn: str) -> partitions.Months:
    months = partitions.Months()
    connection = await asyncpg.connect(dsn)
    try:
        await months.load(connection)
    finally:
        await connection.close()
    return months


def _committer(
    statement: Statement[Row, bool], dsn: str, groups: Groups, months: partitions.Months
) -> GroupCommitter[Row, bool]:
    lanes = [
        Lane(
            dsn,
            f"yardstick {statement.name} {number + 1}",
            lambda variant: in_months(statement.sql, variant),
            lookups=statement is RECORD,
        )
        for number in range(groups.in_flight)
    ]
    return group_committer(
        statement,
        lanes,
        month_of=months.of,
        size=groups.size,
        limit=None,
        patience_s=_PATIENCE_S,
    )


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep the garbage collector away: this process has more objects to visit than a gateway."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
