"""Composition: builds one gateway process's parts, hands them down, starts and stops them."""

import asyncio
import gc
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from easypay import clock, failpoints
from easypay.api.admin import AdminApi
from easypay.api.observer import RequestObserver
from easypay.api.paging import Cursors
from easypay.api.payments import PaymentsApi
from easypay.api.routing import build_router, refusing_method
from easypay.api.system import SystemApi
from easypay.db import partitions
from easypay.db.connections import LOST, Lane, open_pool
from easypay.db.group_commit import GroupCommitter
from easypay.errors import EasyPayError
from easypay.keyed import Digest, keyed_digest
from easypay.merchants.directory import Directory
from easypay.merchants.model import digest_of
from easypay.merchants.vault import Vault
from easypay.observability import trace
from easypay.observability.access import AccessLog
from easypay.observability.instruments import Instruments
from easypay.observability.measured import MeasuredPool, MeasuredProcessor
from easypay.observability.vitals import Vitals
from easypay.payments import statements, store
from easypay.payments.flows import Payments
from easypay.payments.recorder import Recorder
from easypay.payments.resolver import Resolver
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.settings import Settings

log = logging.getLogger(__name__)

_DATABASE_PATIENCE_S: Final = 5.0
_MAINTENANCE_EVERY_S: Final = 24 * 3600.0


class Gateway:
    """The ASGI application of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.draining = False
        self.open_requests = 0
        self.open_connections: Callable[[], int] = lambda: 0
        """Set by the server, which has them."""
        self._answerer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._committers: list[GroupCommitter[Any, Any]] = []
        self._lanes: list[Lane] = []
        self._months = partitions.Months()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        scope["app"] = self
        self.open_requests += 1
        try:
            await self._answerer(scope)(scope, receive, send)
        except HTTPException as error:
            allowed = (error.headers or {}).get("Allow", "")
            refuse = refusing_method(allowed, lambda: self.draining, self._observer)
            await refuse(scope, receive, send)
        finally:
            self.open_requests -= 1

    def begin_drain(self) -> None:
        """Readiness goes, and every answer asks its connection to close."""
        self.draining = True

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except (EasyPayError, asyncpg.PostgresError, OSError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        settings = self.settings
        failpoints.arm(settings.failpoint)
        vault = Vault(settings.encryption_key.get_secret_value())
        self._instruments = Instruments(settings.metrics_dir)
        log_lines = AccessLog() if settings.request_log else AccessLog(None)
        self._observer = RequestObserver(self._instruments, log_lines)
        pool = await open_pool(
            settings.database_url.get_secret_value(), size=settings.database_pool_size
        )
        self._pool = MeasuredPool(pool, self._instruments)
        async with self._pool.acquire() as connection:
            await partitions.ensure(
                connection, at=clock.now(), months_ahead=settings.partitions_ahead_months
            )
            await self._months.load(connection)
        self._directory = Directory(
            self._pool,
            vault,
            {"test": settings.authorize_net_test_url, "live": settings.authorize_net_live_url},
            lease_s=settings.cache_lease_s,
        )
        self._processor = MeasuredProcessor(
            AuthorizeNet(
                connect_timeout_s=settings.processor_connect_timeout_s,
                max_connections=settings.processor_connections,
                after_write=(lambda: failpoints.reach("mid_send")) if settings.failpoint else None,
                more_headers=trace.outbound,
            ),
            self._instruments,
        )
        resolver = self._build_flows(keyed_digest(vault.derive("card fingerprint")))
        vitals = Vitals(
            self._instruments,
            pool=self._pool,
            committers=self._committers,
            directory=self._directory,
            resolver=resolver,
            open_requests=lambda: self.open_requests,
            open_connections=lambda: self.open_connections(),
        )
        apis = self._build_apis(vault, vitals)
        self._answerer = build_router(apis, lambda: self.draining, self._observer)
        for lane in self._lanes:
            await lane.open()
        self._tasks = [
            asyncio.create_task(self._directory.watch()),
            asyncio.create_task(resolver.run()),
            asyncio.create_task(self._maintain()),
            asyncio.create_task(vitals.run()),
        ]
        _spare_the_collector()

    def _build_flows(self, card_digest: Digest) -> Resolver:
        """What takes payments; returned is what finds out about those that are unknown."""
        settings = self.settings
        recorder = Recorder(
            self._committer("record", bounded=False, patience_s=math.inf),
            self._pool,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            review_interval_s=settings.review_interval_s,
        )
        resolver = Resolver(
            pool=self._pool,
            recorder=recorder,
            processor=self._processor,
            account_of=self._directory.account,
            deadline_s=settings.processor_deadline_s,
            interval_s=settings.unknown_interval_s,
            absent_after_s=settings.unknown_absent_after_s,
            review_interval_s=settings.review_interval_s,
            poll_s=settings.resolver_poll_s,
        )
        self._payments = Payments(
            begin=self._committer("begin"),
            follow_up=self._committer("follow-up"),
            read=self._committer("read"),
            recorder=recorder,
            resolver=resolver,
            processor=self._processor,
            pool=self._pool,
            card_fingerprint=lambda number: card_digest(number.encode()),
            deadline_s=settings.processor_deadline_s,
        )
        return resolver

    def _build_apis(self, vault: Vault, vitals: Vitals) -> dict[str, object]:
        """The objects whose methods answer, by the name that the table of routes has for them."""
        settings = self.settings
        admin_key = settings.admin_key
        admin_digest = None if admin_key is None else digest_of(admin_key.get_secret_value())

        def metrics() -> bytes:
            vitals.read()
            return self._instruments.registry.text()

        return {
            "payments": PaymentsApi(
                payments=self._payments,
                directory=self._directory,
                pool=self._pool,
                cursors=Cursors(vault.derive("cursors")),
                fingerprinting=keyed_digest(vault.derive("request fingerprint")),
                key_days=settings.idempotency_key_days,
            ),
            "admin": AdminApi(
                pool=self._pool,
                vault=vault,
                admin_digest=admin_digest,
                processor=self._processor,
                processor_urls={
                    "test": settings.authorize_net_test_url,
                    "live": settings.authorize_net_live_url,
                },
            ),
            "system": SystemApi(
                is_ready=self._why_not_ready,
                metrics=metrics,
                metrics_open=settings.metrics_open,
                admin_digest=admin_digest,
            ),
        }

    async def _stop(self) -> None:
        """Nothing that was sent is left unrecorded: flows end first, then what carries them."""
        self.begin_drain()
        await self._payments.drain()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for committer in self._committers:
            await committer.close()
        await self._processor.close()
        await self._pool.close()

    def _committer(
        self, name: str, *, bounded: bool = True, patience_s: float = _DATABASE_PATIENCE_S
    ) -> GroupCommitter[Any, Any]:
        settings = self.settings
        dsn = settings.database_url.get_secret_value()
        lanes = [statements.lane(name, dsn, n + 1) for n in range(settings.groups_in_flight)]
        self._lanes += lanes
        committer = statements.group_committer(
            name,
            lanes,
            month_of=self._months.of,
            size=settings.group_size,
            limit=settings.max_queued if bounded else None,
            patience_s=patience_s,
            watcher=self._watch_group,
        )
        self._committers.append(committer)
        return committer

    def _watch_group(self, name: str, size: int, waited_s: float, took_s: float) -> None:
        instruments = self._instruments
        instruments.group_size.observe(size, name)
        instruments.group_wait.observe(waited_s, name)
        instruments.database.observe(took_s, name)

    async def _why_not_ready(self) -> str | None:
        if self.draining:
            return "draining"
        try:
            await asyncio.wait_for(self._pool.fetchval("SELECT 1"), 1)
        except (*LOST, asyncpg.PostgresError):
            return "the database does not answer"
        return None

    async def _maintain(self) -> None:
        """Daily: months ahead, idempotency keys past their time, an alarm for strays."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await partitions.ensure(
                        connection,
                        at=clock.now(),
                        months_ahead=self.settings.partitions_ahead_months,
                    )
                    await self._months.load(connection)
                    strays = await partitions.strays(connection)
                    await store.purge_keys(connection, days=self.settings.idempotency_key_days)
                if any(strays.values()):
                    log.critical("rows outside every month, is a clock far off? %s", strays)
            except (*LOST, asyncpg.PostgresError) as error:
                log.error("maintenance failed and is tried again in a minute: %s", error)
                await asyncio.sleep(60)
                continue
            await asyncio.sleep(_MAINTENANCE_EVERY_S)


def _spare_the_collector() -> None:
    """What lives as long as the process is looked at once, and what a request makes dies by
    reference counting: with the default thresholds the collector takes a tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def build_app(settings: Settings) -> Gateway:
    """The ASGI application of one gateway process. It connects when its lifespan starts."""
    return Gateway(settings)
