"""One worker process: a loop for each work list, and a stop that loses no work.

On SIGTERM or SIGINT the loops claim nothing more. What is claimed is finished within
`shutdown_grace_s`, the rest is given back, due at once, and the process exits 0. A second signal
gives back at once. After a `kill -9` the leases end, and other workers claim the work.
"""

import asyncio
import logging
import signal
from collections.abc import Sequence
from functools import partial

import asyncpg

from easypay import failpoints
from easypay.alerts.watch import AlertWatch, own, scraped, times_of
from easypay.alerts.ways import ways_of
from easypay.db import set_back
from easypay.db.connections import LOST
from easypay.db.migrate import require_schema
from easypay.db.pool import open_pool
from easypay.errors import EasyPayError
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.observability import logs
from easypay.observability.call_metrics import MeasuredPool
from easypay.observability.metrics import Instruments
from easypay.observability.metrics_listener import MetricsListener
from easypay.observability.process_metrics import read_process
from easypay.observability.server_metrics import ServerMetrics
from easypay.observability.slow_statements import SlowStatements
from easypay.payments.chores import keep_doing, sign_of_life
from easypay.processors.registry import installed
from easypay.server import caching, watching
from easypay.server.background import kept_running
from easypay.server.traces import processors_of, traces_of, watcher_of
from easypay.settings import WORKER_POOL_SIZE, Settings
from easypay.worker import depths, running_out
from easypay.worker.reconciling import Reconciling
from easypay.worker.registry import LISTS, Listed, Loop, Parts

log = logging.getLogger(__name__)

_CLOSE_S = 1.0


def work(settings: Settings, *, log_level: str = "info", lists: Sequence[Listed] = LISTS) -> int:
    """Work on every list until a signal. Returns the exit status."""
    import uvloop

    logs.configure(log_level.upper())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, lists))


async def _run(settings: Settings, lists: Sequence[Listed]) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal)
    try:
        parts = await parts_of(settings)
    except (EasyPayError, asyncpg.PostgresError, OSError, ValueError) as error:
        log.critical("the worker cannot start: %s", error)
        return 1
    loops, tasks = _start(parts, lists)
    names = ", ".join(listed.name for listed in lists) or "nothing: there is no work list yet"
    log.info("working on %s", names)
    await stop.wait()
    log.info("draining: finishing what is claimed")
    draining = asyncio.create_task(_drain(loops, settings.shutdown_grace_s))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        await _drain(loops, 0.0)
        await draining
    hurried.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CLOSE_S)
    await asyncio.gather(
        *(processor.close() for processor in parts.processors.values()),
        parts.pool.close(_CLOSE_S),
        return_exceptions=True,
    )
    if parts.traces is not None:
        await parts.traces.close(_CLOSE_S)
    return 0


async def _drain(loops: Sequence[Loop], within_s: float) -> None:
    await asyncio.gather(*(each.stop(within_s) for each in loops))


async def parts_of(settings: Settings) -> Parts:
    """Return what the loops are made of. Raises the database's errors and SchemaMismatch."""
    failpoints.arm(settings.failpoint)
    if settings.clock_file is not None:
        failpoints.shift_clock(settings.clock_file)
    instruments = Instruments(settings.metrics_dir)
    dsn = settings.database_url.get_secret_value()
    slow = SlowStatements(settings.slow_statement_s)
    traces = traces_of(settings, instruments, "easypay-worker")
    saw = watcher_of(slow.saw, traces)
    pool = MeasuredPool(
        await open_pool(dsn, size=WORKER_POOL_SIZE, name="worker pool"), instruments, saw
    )
    try:
        async with pool.acquire() as connection:
            await require_schema(connection)
            await set_back.check_at_start(connection)
    except (*LOST, EasyPayError):
        await pool.close(0)
        raise
    vault = Vault(settings.encryption_key.get_secret_value())
    integrations = installed(settings.processor_addresses)
    return Parts(
        settings=settings,
        pool=pool,
        instruments=instruments,
        slow=slow,
        vault=vault,
        directory=Directory(
            pool.for_clients(settings.database_patience_s),
            vault,
            integrations,
            lease_s=settings.cache_lease_s,
        ),
        processors=processors_of(settings, integrations, instruments, traces),
        traces=traces,
    )


def _start(parts: Parts, lists: Sequence[Listed]) -> tuple[list[Loop], list[asyncio.Task[None]]]:
    """Start every loop, and what measures them."""
    settings, instruments = parts.settings, parts.instruments

    def watcher(name: str) -> partial[None]:
        return partial(instruments.work_ended.add, name)

    loops = {listed.name: listed.make(parts, watcher(listed.name)) for listed in lists}

    async def count_depths() -> None:
        await depths.watch(parts.pool, lists, instruments)

    async def look_at_what_runs_out() -> None:
        await running_out.watch(parts.pool, instruments)

    def metrics_text(accept: bytes) -> tuple[bytes, bytes]:
        read_process(instruments)
        return instruments.registry.exposition(accept)

    runs = {
        **{f"the work on {name}": loop.run for name, loop in loops.items()},
        "the API key watcher": parts.directory.watch,
        "the depths of the work lists": count_depths,
        "what runs out": look_at_what_runs_out,
        "reconciliation": Reconciling(parts).run,
    }
    if ways := ways_of(settings):
        sources = [own(instruments.registry), *map(scraped, settings.alerts_scrape)]
        times = times_of(settings.alerts_every_s)
        runs["the alerts"] = AlertWatch(parts.pool, sources, ways, times=times).run
    if settings.metrics_listen:
        runs["the metrics listener"] = MetricsListener(settings.metrics_listen, metrics_text).run
    if settings.server_metrics_every_s:
        runs["the figures of the servers"] = ServerMetrics(
            parts.pool,
            instruments,
            every_s=settings.server_metrics_every_s,
            cache=caching.url_of(settings),
        ).run
    tasks = [asyncio.create_task(kept_running(name, run)) for name, run in runs.items()]
    tasks.append(asyncio.create_task(keep_doing(sign_of_life(parts.pool))))
    tasks += watching.start(instruments, parts.pool, parts.slow)
    return list(loops.values()), tasks
