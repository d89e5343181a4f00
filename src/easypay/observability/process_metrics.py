"""What a process measures itself: ten times a second the lag of its event loop, once a second its
size and its queues."""

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from easypay import clock
from easypay.clock import monotonic
from easypay.db import connection_budget
from easypay.db.connections import LOST
from easypay.db.group_commit import GroupCommitter
from easypay.db.replica import Replica
from easypay.merchants.directory import Directory
from easypay.observability.call_metrics import MeasuredProcessor
from easypay.observability.metrics import Instruments
from easypay.payments.read_places import ReadPlaces
from easypay.payments.resolver import Resolver
from easypay.processors.integration import ConnectionFigures

log = logging.getLogger(__name__)

LAG_EVERY_S: Final = 0.1
_READ_EVERY_S: Final = 1.0
_UNKNOWN_EVERY_S: Final = 5.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

WAITING: Final = """
    SELECT count(*) FILTER (WHERE NOT held),
           coalesce(extract(epoch FROM db_now() - min(since) FILTER (WHERE NOT held)), 0)::float8,
           count(*) FILTER (WHERE held)
      FROM unresolved_operations
"""
_MOST_COUNTED: Final = 100_000
WATCHED: Final = f"""
    SELECT (SELECT count(*) FROM (SELECT FROM watched_operations LIMIT {_MOST_COUNTED}) w),
           count(*) FILTER (WHERE state = 'returning'),
           count(*) FILTER (WHERE state = 'needs_person'),
           db_now()
      FROM late_charges WHERE state IN ('returning', 'needs_person')
"""
_WRONG_CLOCK_S: Final = 30.0
_DAY_S: Final = 86_400.0
_WARN_EVERY_S: Final = 60.0


class Vitals:
    """Copies gauges, and what others count, into the metrics of this process."""

    def __init__(
        self,
        instruments: Instruments,
        *,
        pool: Any,
        places: ReadPlaces,
        replica: Replica | None,
        committers: Sequence[GroupCommitter[Any, Any]],
        directory: Directory,
        resolver: Resolver,
        processors: Mapping[str, MeasuredProcessor],
        open_requests: Callable[[], int],
        open_connections: Callable[[], int],
        turned_away: Callable[[], Mapping[str, int]],
        months_reach: Callable[[datetime], datetime],
        needed_by: tuple[int, int],
        more: Callable[[], None] = lambda: None,
    ) -> None:
        self._instruments = instruments
        self._pool = pool
        self._places = places
        self._replica = replica
        self._committers = committers
        self._directory = directory
        self._resolver = resolver
        self._processors = processors
        self._open_requests = open_requests
        self._open_connections = open_connections
        self._turned_away = turned_away
        self._months_reach = months_reach
        self._needed_by = needed_by
        """The most connections to the database of one gateway, and of one worker."""
        self._more = more
        self._warn_at = 0.0

    async def run(self) -> None:
        """Run until cancelled. Errors are logged, at most once a second, and retried."""
        lag = self._instruments.loop_lag
        read_at = ask_at = 0.0
        while True:
            due = monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            now = monotonic()
            lag.observe(max(0.0, now - due))
            try:
                if now >= read_at:
                    read_at = now + _READ_EVERY_S
                    self.read()
                if now >= ask_at:
                    ask_at = now + _UNKNOWN_EVERY_S
                    await self._count_open_work()
            except Exception:
                log.exception("the process metrics could not be read; they are read again")

    def read(self) -> None:
        """Read everything that needs no waiting."""
        metrics = self._instruments
        metrics.open_requests.set(self._open_requests())
        metrics.open_connections.set(self._open_connections())
        for reason, count in self._turned_away().items():
            metrics.turned_away.set(count, reason)
        for committer in self._committers:
            metrics.group_queue.set(committer.waiting, committer.name)
        idle = self._pool.get_idle_size()
        metrics.pool.set(idle, "idle")
        metrics.pool.set(self._pool.get_size() - idle, "used")
        read = [place.reading for place in self._places.all]
        metrics.reading.set(sum(each.busy for each in read), "running")
        metrics.reading.set(sum(each.waiting for each in read), "waiting")
        metrics.shared_reads.set(self._places.shared.shared)
        if self._replica is not None:
            metrics.replica_lag.set(self._replica.lag_s)
            metrics.replica_in_use.set(self._replica.usable)
        for name, processor in self._processors.items():
            if (figures := processor.connection_figures()) is not None:
                self._copy(name, figures)
        metrics.cache.set(self._directory.hits, "api_keys", "hit")
        metrics.cache.set(self._directory.misses, "api_keys", "miss")
        metrics.inconclusive.set(self._resolver.inconclusive)
        metrics.found_late.set(self._resolver.found_late)
        read_process(metrics)
        metrics.processes.set(1)
        self._more()

    def _copy(self, processor: str, figures: ConnectionFigures) -> None:
        metrics = self._instruments
        metrics.processor_connections.set(figures.idle, processor, "idle")
        metrics.processor_connections.set(figures.used, processor, "used")
        metrics.processor_connection_age.set(figures.oldest_s, processor)
        made = metrics.processor_connections_made
        made.set(figures.opened - figures.replaced, processor, "opened")
        made.set(figures.replaced, processor, "replaced")
        made.set(figures.failed, processor, "failed")
        metrics.processor_reuses.set(figures.reused, processor)
        for result, count in figures.lookups.items():
            metrics.dns_lookups.set(count, processor, result)
        metrics.dns_stale.set(figures.stale, processor)
        if figures.certificate_ends is not None:
            left_s = figures.certificate_ends - clock.now().timestamp()
            metrics.certificate_days.set(left_s / _DAY_S, processor)

    async def _count_open_work(self) -> None:
        try:
            unknown, age_s, held = await self._pool.fetchrow(WAITING)
            before = clock.now()
            watched, returning, needs_person, there = await self._pool.fetchrow(WATCHED)
            self._compare_clocks(offset_s(before, there, clock.now()))
            ahead = self._months_reach(there) - there
            self._instruments.horizon.set(ahead.total_seconds() / _DAY_S)
            await self._count_connections()
        except (*LOST, OSError, asyncpg.PostgresError) as error:
            log.warning("cannot count the unknown outcomes: %s", error)
            return
        self._instruments.unknown.set(unknown)
        self._instruments.held.set(held)
        self._instruments.unknown_age.set(age_s)
        self._instruments.watched.set(watched)
        self._instruments.late_charges.set(returning, "returning")
        self._instruments.late_charges.set(needs_person, "needs_person")

    async def _count_connections(self) -> None:
        async with self._pool.acquire() as connection:
            budget = await connection_budget.count(connection, *self._needed_by)
        gauge = self._instruments.connections
        gauge.set(budget.allowed, "allowed")
        gauge.set(budget.easypay, "easypay")
        gauge.set(budget.others, "others")
        if not budget.pooled:
            gauge.set(budget.needed, "needed")

    def _compare_clocks(self, ahead_s: float) -> None:
        self._instruments.clock_offset.set(ahead_s)
        if abs(ahead_s) > _WRONG_CLOCK_S and monotonic() >= self._warn_at:
            self._warn_at = monotonic() + _WARN_EVERY_S
            log.critical(
                "the clock of this host is %.0f s %s the database's: set it right",
                abs(ahead_s),
                "ahead of" if ahead_s > 0 else "behind",
            )


def read_process(metrics: Instruments) -> None:
    """Read what every kind of process has: its CPU time and its memory."""
    metrics.process_cpu.set(time.process_time())
    metrics.process_memory.set(resident_bytes())


def offset_s(before: datetime, there: datetime, after: datetime) -> float:
    """Return how far our clock is provably ahead: `there` was read between our two readings, so a
    difference within them proves nothing."""
    if there < before:
        return (before - there).total_seconds()
    return min(0.0, (after - there).total_seconds())


def resident_bytes() -> int:
    """Return the memory of this process; its peak if the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:  # no such file on this system, or no file can be opened now
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
