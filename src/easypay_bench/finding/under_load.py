"""What only a running gateway shows: the first page over HTTP, and how far the search table and
the statistics are behind while payments arrive."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.merchants import admin
from easypay.mode import Mode
from easypay.seeding.shops import shops
from easypay_bench import cpu, load
from easypay_bench.finding.databases import Made
from easypay_bench.load import LoadFailed
from easypay_bench.loadtest import fleet
from easypay_bench.loadtest.schedule import Schedule
from easypay_bench.loadtest.worker import Order
from easypay_bench.performance_bars import per_payment_us, percentile
from easypay_bench.stack import Stack, shop

CONNECTIONS: Final = 64
_WARM_UP_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.02
_UNTIL_IDLE_S: Final = 30.0
_FEED_SESSIONS: Final = """
    SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'easypay feed%'
"""
_LOOK: Final = """
    SELECT r.last_seq, f.event_id FROM feed_readers r JOIN feed f ON f.seq = r.last_seq
     WHERE r.name = 'payments'
"""
_LEFT: Final = """
    SELECT h.last_seq - r.last_seq FROM feed_head h, feed_readers r WHERE r.name = 'payments'
"""


class FirstPage(msgspec.Struct, frozen=True):
    """The first page of the biggest merchant, over connections that stay open."""

    per_s: float
    """All clients ask for the same, so that many share a read."""
    p99_ms: float
    different_per_s: float
    """Each request asks for another list, so that none is shared."""
    different_p99_ms: float
    wrong: int


class Behind(msgspec.Struct, frozen=True):
    """How the feed kept up with payments."""

    asked_per_s: float
    payments_per_s: float
    """What the gateway answered."""
    p50_ms: float
    """Age of the newest event in the search table, from when its outcome was decided."""
    p99_ms: float
    max_ms: float
    postgres_us: float
    """CPU of the sessions that number and fold, per event."""


def first_page(stack: Stack, made: Made, *, seconds: float) -> FirstPage:
    """GET the first page again and again, by wrk. Raises LoadFailed if it is not installed."""
    same = ["/api/v1/payments"]
    different = [f"{same[0]}?created_to=2999-01-01T00:00:00.{n:03}Z" for n in range(1_000)]
    with key(stack.database_url, made, "payments:read") as secret:
        shared, alone = (
            load.run_reads(
                stack.host, stack.port, secret, paths, connections=CONNECTIONS, seconds=seconds
            )
            for paths in (same, different)
        )
    return FirstPage(
        per_s=shared.replies / shared.seconds,
        p99_ms=shared.latency_ms.get("p99", 0.0),
        different_per_s=alone.replies / alone.seconds,
        different_p99_ms=alone.latency_ms.get("p99", 0.0),
        wrong=sum(shared.wrong.values()) + sum(alone.wrong.values()),
    )


def biggest(made: Made) -> UUID:
    """Return the merchant with a third of all payments."""
    return UUID(bytes=shops(made.wanted.merchants, 1)[0].id)


@contextmanager
def key(dsn: str, made: Made, scope: str) -> Iterator[str]:
    """Yield a key of the biggest merchant. It is revoked when the block ends."""
    key_id, secret = asyncio.run(_key(dsn, made, scope))
    try:
        yield secret
    finally:
        asyncio.run(_revoke(dsn, made, key_id))


async def _key(dsn: str, made: Made, scope: str) -> tuple[UUID, str]:
    connection = await asyncpg.connect(dsn)
    try:
        key, secret = await admin.create_key(
            connection, biggest(made), mode=Mode.LIVE, name="bench-find", scopes=[scope]
        )
        return key.id, secret
    finally:
        await connection.close()


async def _revoke(dsn: str, made: Made, key_id: UUID) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await admin.revoke_key(connection, biggest(made), key_id)
    finally:
        await connection.close()


def behind(stack: Stack, *, rate: float, seconds: float) -> Behind:
    """Take payments at a rate, and look how old the newest event is that search shows.

    Payments go to a new merchant and stay in the database. Raises LoadFailed, StackFailed.
    """
    with shop(stack) as merchant:
        order = Order(
            host=stack.host,
            port=stack.port,
            api_key=merchant.api_key,
            schedule=Schedule(model="constant", seconds=seconds, rate=rate),
            weights={"create": 1},
            connections=CONNECTIONS,
            max_in_flight=10_000,
            warmup_s=min(_WARM_UP_S, seconds),
        )
        return asyncio.run(_behind(stack.database_url, order))


async def _behind(dsn: str, order: Order) -> Behind:
    connection = await asyncpg.connect(dsn)
    try:
        await _until_idle(connection)
        load_task = asyncio.create_task(asyncio.to_thread(fleet.run, [order]))
        watched = _Watched()
        await watched.follow(connection, load_task, order)
        tally = await load_task
        await _until_idle(connection)
    finally:
        await connection.close()
    ages_ms = sorted(watched.ages_ms)
    if not ages_ms or not watched.events:
        raise LoadFailed("no payment reached the feed while the load ran")
    return Behind(
        asked_per_s=order.schedule.rate,
        payments_per_s=tally.in_time / order.schedule.seconds,
        p50_ms=percentile(ages_ms, 0.5),
        p99_ms=percentile(ages_ms, 0.99),
        max_ms=ages_ms[-1],
        postgres_us=per_payment_us(watched.cpu_s, watched.events),
    )


async def _until_idle(connection: Any) -> None:
    """Wait until the feed has nothing left to do. Raises LoadFailed if it does not come to rest."""
    ends_at = perf_counter() + _UNTIL_IDLE_S
    while await connection.fetchval(_LEFT):
        if perf_counter() > ends_at:
            raise LoadFailed(f"the feed is still behind after {_UNTIL_IDLE_S:.0f} s without load")
        await asyncio.sleep(_LOOK_EVERY_S)


class _Watched:
    """Looks at the feed while payments arrive."""

    def __init__(self) -> None:
        self.ages_ms: list[float] = []
        self.events = 0
        self._cpu_before_s = 0.0
        self._cpu: dict[int, float] = {}
        """By the sessions of the feed, those that ended as well: CPU seconds when last seen."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the feed's sessions since the warm-up."""
        return sum(self._cpu.values()) - self._cpu_before_s

    async def follow(self, connection: Any, load_task: "asyncio.Task[Any]", order: Order) -> None:
        """Look until the measured time is over, or the load has ended."""
        first = await self._look(connection)
        while not load_task.done():
            if await self._look(connection) != first:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        await asyncio.sleep(order.warmup_s)
        first = await self._look(connection)
        self.ages_ms.clear()
        self._cpu_before_s = sum(self._cpu.values())
        ends_at = perf_counter() + order.schedule.seconds
        while perf_counter() < ends_at and not load_task.done():
            self.events = await self._look(connection) - first
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self, connection: Any) -> int:
        """Note the age of the newest event that is folded, and the CPU. Returns its number."""
        row = await connection.fetchrow(_LOOK)
        for (pid,) in await connection.fetch(_FEED_SESSIONS):
            self._cpu[pid] = max(cpu.process_s(pid), self._cpu.get(pid, 0.0))
        if row is None:
            return 0
        self.ages_ms.append((clock.now() - ids.moment_of(row["event_id"])).total_seconds() * 1000)
        return int(row["last_seq"])
