"""Composition of one gateway process: build its parts, connect them, start and stop them."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import asyncpg
from starlette.types import Receive, Scope, Send

from easypay import failpoints
from easypay.api.admin import AdminApi
from easypay.api.batches import BatchesApi
from easypay.api.cached_reads import CachedReads
from easypay.api.customers import CustomersApi
from easypay.api.events import EventsApi
from easypay.api.exports import ExportsApi
from easypay.api.notifications import NotificationsApi
from easypay.api.observer import RequestObserver
from easypay.api.payments import PaymentsApi
from easypay.api.profiles import ProfilesApi
from easypay.api.reading import ReadingApi
from easypay.api.repeats import Repeats
from easypay.api.routing import build_router
from easypay.api.system import SystemApi
from easypay.cache.caches import Caches
from easypay.cache.feed_follower import FeedFollower
from easypay.cache.shared import SharedCache
from easypay.clock import monotonic
from easypay.customers.erasure import Eraser
from easypay.customers.flows import Customers
from easypay.customers.vault_calls import VaultCalls, vaults_of
from easypay.db import connection_budget, partitions, set_back
from easypay.db.connections import LOOKUPS, LOST, Lane, Wanted
from easypay.db.group_commit import CLOSE_WITHIN_S, GroupCommitter
from easypay.db.migrate import require_schema
from easypay.db.pool import make_pool, open_pool
from easypay.db.readiness import Readiness
from easypay.db.reading import Reading
from easypay.db.replica import Replica
from easypay.errors import EasyPayError
from easypay.events.leader import FeedLeader
from easypay.events.readers import Follower
from easypay.hmac_sha256 import keyed_digest
from easypay.merchants.directory import Directory
from easypay.merchants.model import digest_of
from easypay.merchants.vault import Box, Vault
from easypay.notifications.accounts import Signers
from easypay.notifications.store import STORE as STORE_NOTIFICATIONS
from easypay.observability.access_log import AccessLog
from easypay.observability.call_metrics import MeasuredPool, summary
from easypay.observability.metrics import Instruments
from easypay.observability.metrics_listener import MetricsListener
from easypay.observability.process_metrics import Vitals
from easypay.observability.slow_statements import SlowStatements
from easypay.payments import queue_acceptance, search_of_unknown, statements
from easypay.payments.chores import make_months_at_start
from easypay.payments.duplicates import BEGIN_CHECKED, DuplicateChecks
from easypay.payments.feed_fold import PAYMENTS
from easypay.payments.flows import Payments
from easypay.payments.lists import Lists
from easypay.payments.queue_room import QueueRoom
from easypay.payments.queued_requests import QUEUE_KEY
from easypay.payments.queueing import Queueing
from easypay.payments.read_places import Name, ReadPlace, ReadPlaces
from easypay.payments.resolver import Resolver
from easypay.payments.seals import Seals
from easypay.payments.statements import Item, Recorder, Result, Statement
from easypay.payments.stored_begin import BEGIN_STORED
from easypay.payments.stored_methods import LOOK_UP, StoredMethods
from easypay.payments.unrecorded_outcomes import UnrecordedOutcomes
from easypay.processors.integration import Integration
from easypay.processors.registry import installed
from easypay.server import caching, gateway_chores, handlers, watching
from easypay.server.background import kept_running
from easypay.server.traces import observed_by, processors_of, traces_of, watcher_of
from easypay.settings import QUESTION_CONNECTIONS, Settings
from easypay.webhooks.endpoints import READER as WEBHOOKS

_LANE_S_OF_PATIENCE: Final = 0.8
"""A lane gives up a connection while the clients of its items still wait."""
_OF_NEAR_BYTES: Final = 8
"""Requests that come again may take this part of the near cache's bytes, beside it."""
_CLOSE_S: Final = 1.0
"""The longest that a stop waits for the background tasks, and for the pool to close."""
_TELL_S: Final = 1.0
"""How long a stop waits until the shared cache knows of the last changes."""


class Gateway:
    """The ASGI application of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.draining = False
        self.open_requests = 0
        self.open_connections: Callable[[], int] = lambda: 0
        self.turned_away: Counter[str] = Counter()
        """The server sets both."""
        self.repeats = Repeats(settings.cache_near_bytes // _OF_NEAR_BYTES, lambda: self.draining)
        """Answers that the server may give again by itself."""
        self._stop_by = 0.0
        self._answerer: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._committers: list[GroupCommitter[Any, Any]] = []
        self._lanes: list[Lane] = []
        self._months = partitions.Months()
        self._replica: Replica | None = None
        self._exports: ExportsApi | None = None
        self._teller: SharedCache | FeedFollower | None = None
        self._telling: asyncio.Task[None] | None = None
        self._events: EventsApi | None = None
        self._profiles: ProfilesApi | None = None
        self._batches: BatchesApi | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        self.open_requests += 1
        try:
            await self._answerer(scope)(scope, receive, send)
        finally:
            self.open_requests -= 1

    def begin_drain(self) -> None:
        """Turn readiness off, and have each response close its connection."""
        if not self.draining:
            self.draining = True
            if self._exports is not None:
                self._exports.stop()
            if self._events is not None:
                self._events.stop()
            if self._batches is not None:
                self._batches.stop()
            if self._profiles is not None:
                self._profiles.stop()
            self._stop_by = monotonic() + self.settings.drain_s + self.settings.shutdown_grace_s

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except (EasyPayError, asyncpg.PostgresError, OSError, caching.BadCacheUrl) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        settings = self.settings
        failpoints.arm(settings.failpoint)
        if settings.clock_file is not None:
            failpoints.shift_clock(settings.clock_file)
        vault = Vault(settings.encryption_key.get_secret_value())
        integrations = installed(settings.processor_addresses)
        self._instruments = Instruments(settings.metrics_dir)
        self._traces = traces_of(settings, self._instruments, "easypay")
        log_lines = AccessLog(silent=not settings.request_log)
        observer = RequestObserver(self._instruments, log_lines)
        await self._open_database()
        self._directory = Directory(
            self._clients_pool, vault, integrations, lease_s=settings.cache_lease_s
        )
        self._caches = Caches(settings.cache_near_bytes)
        self._teller = caching.what_tells(settings, self._caches, vault, self._pool)
        self._processors = processors_of(settings, integrations, self._instruments, self._traces)
        resolver = self._build_flows(vault)
        self._feed = self._build_feed()
        vitals = Vitals(
            self._instruments,
            pool=self._pool,
            places=self._places,
            replica=self._replica,
            committers=self._committers,
            directory=self._directory,
            resolver=resolver,
            processors=self._processors,
            open_requests=lambda: self.open_requests,
            open_connections=lambda: self.open_connections(),
            turned_away=lambda: self.turned_away,
            months_reach=self._months.reach,
            needed_by=(settings.database_connections, settings.worker_connections),
            more=lambda: caching.copy_counts(self._caches, self._instruments),
        )

        def metrics_text(accept: bytes) -> tuple[bytes, bytes]:
            vitals.read()
            return self._instruments.registry.exposition(accept)

        self._metrics_text = metrics_text
        apis = self._build_apis(vault, integrations)
        cached = CachedReads(self._caches, self._directory, settings.database_replica_lag_s)
        keep = partial(self.repeats.keep, observer)
        observing = observed_by(observer, self._traces)
        self._answerer = build_router(apis, lambda: self.draining, observing, cached.before, keep)
        for lane in self._lanes:
            await lane.open()
        self._tasks = [
            asyncio.create_task(kept_running(name, run))
            for name, run in (
                ("the API key watcher", self._directory.watch),
                ("the resolver", resolver.run),
                ("the feed", self._feed.run),
                ("the process metrics", vitals.run),
                *([("the watch of the replica", self._replica.run)] if self._replica else ()),
            )
        ]
        self._tasks += gateway_chores.start(settings, self._pool, self._months, self._instruments)
        if self._teller is not None:
            self._telling = asyncio.create_task(kept_running("the caches", self._teller.run))
        if settings.metrics_listen:
            listener = MetricsListener(settings.metrics_listen, metrics_text)
            run = kept_running("the metrics listener", listener.run)
            self._tasks.append(asyncio.create_task(run))
        self._tasks += watching.start(self._instruments, self._pool, self._slow)
        _spare_the_collector()

    async def _open_database(self) -> None:
        """Open the pools and look whether the database is as this version needs it."""
        settings = self.settings
        dsn = settings.database_url.get_secret_value()
        pool = await open_pool(dsn, size=settings.database_pool_size)
        self._slow = SlowStatements(settings.slow_statement_s)
        saw = watcher_of(self._slow.saw, self._traces)
        self._pool = MeasuredPool(pool, self._instruments, saw)
        async with self._pool.acquire() as connection:
            await require_schema(connection)
            await set_back.check_at_start(connection)
            await connection_budget.check_at_start(
                connection, settings.database_connections, settings.worker_connections
            )
            await make_months_at_start(connection, months_ahead=settings.partitions_ahead_months)
            await self._months.load(connection)
        self._clients_pool = self._pool.for_clients(settings.database_patience_s)
        primary = await self._read_place("primary", dsn)
        replica = None
        if settings.database_replica_url is not None:
            replica_dsn = settings.database_replica_url.get_secret_value()
            replica = await self._read_place("replica", replica_dsn)
            self._replica = Replica(
                replica_dsn,
                self._pool,
                limit_s=settings.database_replica_lag_s,
                for_each=settings.replica_connections,
            )
        self._places = ReadPlaces(primary, replica, self._replica, self._instruments.reads.add)

    async def _read_place(self, name: Name, dsn: str) -> ReadPlace:
        """Return the connections for lists and other reading of a server. Each connects when it is
        needed."""
        settings = self.settings
        wanted: Wanted = "read-write" if name == "primary" else "standby"
        reading = Reading(
            dsn,
            connections=settings.database_reading_connections,
            queue=settings.reading_queue,
            limit_s=settings.reading_timeout_s,
            patience_s=settings.database_patience_s,
            watcher=watcher_of(self._watch_reading, self._traces),
            wanted=wanted,
        )
        questions = await make_pool(
            dsn,
            size=QUESTION_CONNECTIONS,
            name="questions",
            wanted=wanted,
        )
        saw = watcher_of(self._slow.saw, self._traces)
        measured = MeasuredPool(questions, self._instruments, saw)
        return ReadPlace(
            name=name,
            dsn=dsn,
            wanted=wanted,
            reading=reading,
            lists=Lists(reading, self._months),
            questions=measured.for_clients(settings.database_patience_s),
        )

    def _build_flows(self, vault: Vault) -> Resolver:
        """Build what takes payments. Return the resolver, which clears up unknown outcomes."""
        settings = self.settings
        card_digest = keyed_digest(vault.derive("card fingerprint"))

        def card_fingerprint(number: str) -> bytes:
            return card_digest(number.encode())

        record = self._committer(
            caching.told_after(statements.RECORD_CHANGES, self._caches, caching.changed_by),
            bounded=False,
            patience_s=settings.record_patience_s,
        )
        record.on_left = lambda change: self._caches.payments_changed([change.operation])
        recorder = Recorder(
            record,
            self._pool,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            review_interval_s=settings.review_interval_s,
            not_sent_s=settings.not_sent_ends_after_s,
            changed=lambda key: self._caches.payments_changed([key]),
        )
        resolver = Resolver(
            pool=self._pool,
            recorder=recorder,
            processors=self._processors,
            directory=self._directory,
            deadline_s=settings.processor_deadline_s,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            interval_s=settings.unknown_interval_s,
            gap_s=settings.unknown_pass_gap_s,
            absent_after_s=settings.unknown_absent_after_s,
            not_sent_s=settings.not_sent_ends_after_s,
            review_interval_s=settings.review_interval_s,
            poll_s=settings.resolver_poll_s,
        )
        self._unrecorded = UnrecordedOutcomes(recorder, self._pool, self._instruments.kept.set)
        begin = self._committer(statements.BEGIN)
        follow_up = self._committer(statements.FOLLOW_UP)
        checked = self._committer(BEGIN_CHECKED, opened=False)
        begin.on_left = follow_up.on_left = checked.on_left = self._unrecorded.withdraw
        self._readiness = Readiness(self._pool, [begin, record])
        stored = self._stored_methods(vault, card_fingerprint)
        self._payments = Payments(
            begin=begin,
            follow_up=follow_up,
            read=self._committer(statements.READ),
            recorder=recorder,
            unrecorded=self._unrecorded,
            resolver=resolver,
            processors=self._processors,
            pool=self._clients_pool,
            duplicates=DuplicateChecks(
                checked, self._clients_pool, self._instruments.possible_duplicates.add
            ),
            login_of=self._directory.login,
            stored=stored,
            card_fingerprint=card_fingerprint,
            deadline_s=settings.processor_deadline_s,
        )
        self._queueing = Queueing(
            committer=self._committer(queue_acceptance.ENQUEUE, opened=False),
            payments=self._payments,
            pool=self._clients_pool,
            stored=stored,
            card_fingerprint=card_fingerprint,
            **({} if self._traces is None else {"link": self._traces.link}),
        )
        return resolver

    def _stored_methods(
        self, vault: Vault, card_fingerprint: Callable[[str], bytes]
    ) -> StoredMethods:
        settings = self.settings
        begin = self._committer(BEGIN_STORED, opened=False, lanes=1)
        begin.on_left = self._unrecorded.withdraw
        return StoredMethods(
            lookups=self._committer(LOOK_UP, opened=False, lanes=1),
            begin=begin,
            pool=self._clients_pool,
            login_of=self._directory.login,
            card_fingerprint=card_fingerprint,
            box=Box(vault.derive(QUEUE_KEY)),
            room=QueueRoom(
                self._clients_pool,
                most=settings.queue_limit,
                most_of_merchant=settings.queue_limit_per_merchant,
            ),
        )

    def _build_customers(self) -> Customers:
        """Build what stores customers and their payment methods."""
        self._vault_calls = VaultCalls(
            pool=self._clients_pool,
            vaults=vaults_of(self._processors),
            login_of=self._directory.login,
            deadline_s=self.settings.processor_deadline_s,
        )
        changed = partial(caching.customer_changed, self._caches)
        return Customers(self._vault_calls, changed=changed)

    def _build_eraser(self) -> Eraser:
        """Build what erases customers, for the first seconds of each erasure."""
        return Eraser(
            self._vault_calls,
            call_s=2 * self.settings.processor_deadline_s,
            changed=partial(caching.customer_changed, self._caches),
            payments_changed=self._caches.payments_changed,
        )

    def _build_feed(self) -> FeedLeader:
        dsn = self.settings.database_url.get_secret_value()
        limit_s = self.settings.database_patience_s * _LANE_S_OF_PATIENCE
        instruments = self._instruments

        def watch(events: int, behind_s: float) -> None:
            instruments.feed_events.add(by=events)
            instruments.feed_behind.observe(behind_s)

        return FeedLeader(
            self._pool,
            dsn,
            Follower(PAYMENTS, dsn, limit_s=limit_s),
            limit_s=limit_s,
            watch=watch,
            beside=search_of_unknown.take,
            chore=Seals().step,
            impatient=(WEBHOOKS,),
            somebody_waits=lambda: self._events is not None and self._events.somebody_waits,
        )

    def _build_apis(
        self, vault: Vault, integrations: Mapping[str, Integration]
    ) -> dict[str, object]:
        """Return the objects whose methods are the handlers, by their name in ROUTES."""
        settings = self.settings
        admin_key = settings.admin_key
        admin_digest = None if admin_key is None else digest_of(admin_key.get_secret_value())
        shared = handlers.Shared(
            *(settings, self._instruments, vault, self._directory),
            *(self._clients_pool, self._places, self._months),
        )
        self._exports = handlers.exports_api(shared)
        self._customers = self._build_customers()
        self._events = handlers.events_api(shared)
        self._batches = handlers.batches_api(shared)
        self._profiles = ProfilesApi(
            admin_digest=admin_digest,
            longest_s=settings.profile_longest_s,
            running=self._instruments.profiles.set,
        )
        return {
            "profiles": self._profiles,
            "payments": PaymentsApi(
                payments=self._payments,
                queueing=self._queueing,
                directory=self._directory,
                pool=self._clients_pool,
                fingerprinting=keyed_digest(vault.derive("request fingerprint")),
                unknown_retry_s=settings.unknown_first_inquiry_s,
            ),
            "reading": ReadingApi(
                directory=self._directory,
                places=self._places,
                payments=self._payments,
                months=self._months,
                cursors=shared.cursors,
                key_days=settings.idempotency_key_days,
                is_draining=lambda: self.draining,
            ),
            **handlers.other_apis(shared),
            "exports": self._exports,
            "events": self._events,
            "batches": self._batches,
            "admin": AdminApi(
                pool=self._clients_pool,
                vault=vault,
                admin_digest=admin_digest,
                integrations=integrations,
                processors=self._processors,
                on_change=self._caches.delete_merchant,
            ),
            "customers": CustomersApi(
                customers=self._customers,
                eraser=self._build_eraser(),
                directory=self._directory,
                pool=self._clients_pool,
                cursors=shared.cursors,
                fingerprinting=keyed_digest(vault.derive("request fingerprint")),
                card_fingerprint=keyed_digest(vault.derive("card fingerprint")),
            ),
            "notifications": self._build_notifications(vault, integrations),
            "system": SystemApi(
                is_ready=self._why_not_ready,
                metrics=self._metrics_text,
                admin_digest=admin_digest,
            ),
        }

    def _build_notifications(
        self, vault: Vault, integrations: Mapping[str, Integration]
    ) -> NotificationsApi:
        return NotificationsApi(
            signers=Signers(self._clients_pool, vault, integrations, self._directory),
            committer=self._committer(STORE_NOTIFICATIONS, opened=False, lanes=1),
            counted=self._instruments.notifications.add,
        )

    async def _stop(self) -> None:
        """Stop the flows first, each within its limits, then what they use. What the database does
        not take in time is logged and left to the sweep."""
        self.begin_drain()
        await self._payments.drain()
        await self._customers.drain()
        await self._unrecorded.drain(self._stop_by)
        self._readiness.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=min(_CLOSE_S, self._left_s()))
        if self._telling is not None:
            # Nothing more is recorded: what the other processes do not know yet is the rest.
            await caching.all_told(self._teller, min(_TELL_S, self._left_s()))
            self._telling.cancel()
            await asyncio.wait([self._telling], timeout=min(_CLOSE_S, self._left_s()))
        with suppress(*LOST):
            await asyncio.wait_for(self._feed.stop(), min(_CLOSE_S, self._left_s()))
        left_s = self._left_s()
        await asyncio.gather(
            *(committer.close(min(CLOSE_WITHIN_S, left_s)) for committer in self._committers),
            *(processor.close() for processor in self._processors.values()),
            self._pool.close(min(_CLOSE_S, left_s)),
            *(place.close(min(_CLOSE_S, left_s)) for place in self._places.all),
        )
        if self._traces is not None:
            await self._traces.close(self._left_s())

    def _left_s(self) -> float:
        """Return how much of the time for a stop is left, at least 0.2 s."""
        return max(0.2, self._stop_by - monotonic())

    def _committer(
        self,
        statement: Statement[Item, Result],
        *,
        bounded: bool = True,
        patience_s: float | None = None,
        opened: bool = True,
        lanes: int | None = None,
    ) -> GroupCommitter[Item, Result]:
        """Return the committer of a statement, with the usual number of lanes if none is given.
        `opened`: they connect when the process starts, not with the first item."""
        settings = self.settings
        dsn = settings.database_url.get_secret_value()
        limit_s = settings.database_patience_s * _LANE_S_OF_PATIENCE
        made = [
            statements.lane(statement, dsn, n + 1, limit_s=limit_s)
            for n in range(lanes or settings.groups_in_flight)
        ]
        if opened:
            self._lanes += made
        committer = statements.group_committer(
            statement,
            made,
            month_of=self._months.of,
            size=settings.group_size,
            limit=settings.max_queued if bounded else None,
            patience_s=patience_s or settings.database_patience_s,
            watcher=self._watch_group,
        )
        if self._traces is not None:
            self._traces.observe_groups(committer)
        self._slow.watch(committer)
        self._committers.append(committer)
        return committer

    def _watch_group(self, name: str, size: int, waited_s: float, took_s: float) -> None:
        instruments = self._instruments
        instruments.group_size.observe(size, name)
        instruments.group_wait.observe(waited_s, name)
        instruments.database.observe(took_s, name)

    def _watch_reading(self, sql: str, took_s: float) -> None:
        self._instruments.database.observe(took_s, summary(sql))
        self._slow.saw(sql, took_s, LOOKUPS)

    async def _why_not_ready(self) -> str | None:
        if self.draining:
            return "draining"
        return await self._readiness.why_not()


def _spare_the_collector() -> None:
    """Freeze long-lived objects so that the collector skips them. What a request makes is freed by
    reference counting: with the default thresholds the collector takes a tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def build_app(settings: Settings) -> Gateway:
    """Return the ASGI application of one process. It connects when its lifespan starts."""
    return Gateway(settings)
