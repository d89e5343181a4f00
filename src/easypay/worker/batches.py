"""Composes the loop that runs batches, from the parts of a worker process.

The lines go through the flows of the API in this process. What they need of the database is opened
with the first line.
"""

import asyncio
import logging
from typing import Any, Final

from easypay.batches import claims
from easypay.batches.lines import SEAL_KEY
from easypay.batches.runner import Runner
from easypay.cache.caches import Caches
from easypay.clock import monotonic
from easypay.db import partitions
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.db.work_list import work_lane
from easypay.db.work_loop import EndWatcher
from easypay.hmac_sha256 import keyed_digest
from easypay.merchants.vault import Box
from easypay.payments import statements
from easypay.payments.duplicates import BEGIN_CHECKED, DuplicateChecks
from easypay.payments.flows import Payments
from easypay.payments.queue_room import QueueRoom
from easypay.payments.queued_requests import QUEUE_KEY
from easypay.payments.resolver import Resolver
from easypay.payments.statements import Recorder, Statement
from easypay.payments.stored_methods import LOOK_UP, StoredMethods
from easypay.payments.unrecorded_outcomes import UnrecordedOutcomes
from easypay.server import caching
from easypay.settings import Settings

_MONTHS_EVERY_S: Final = 600.0
_AGAIN_S: Final = 1.0
_CLOSE_S: Final = 1.0

log = logging.getLogger(__name__)


class Batches:
    """The loop, with the connections that it needs. Its `run` may be called again if it failed."""

    def __init__(self, parts: Any, ended: EndWatcher) -> None:
        settings: Settings = parts.settings
        self._pool = parts.pool
        self._settings = settings
        self._parts = parts
        self._months = partitions.Months()
        self._committers: list[GroupCommitter[Any, Any]] = []
        self._caches = Caches(settings.cache_near_bytes if settings.cache_url else 0)
        self._tell = caching.what_tells(settings, self._caches, parts.vault, parts.pool)
        self._lane = work_lane(settings.database_url.get_secret_value(), claims.GROUPS)
        self._runner = Runner(
            lane=self._lane,
            pool=parts.pool,
            payments=self._flows(),
            caller_of=parts.directory.acting,
            end=self._committer(claims.END, lanes=1),
            box=Box(parts.vault.derive(SEAL_KEY)),
            deadline_s=settings.processor_deadline_s,
            poll_s=settings.queue_poll_s,
            ended=ended,
        )

    def _flows(self) -> Payments:
        """Return the flows of the API. Unknown outcomes are found out by the gateways' resolver."""
        settings, parts = self._settings, self._parts
        recorder = Recorder(
            self._committer(
                caching.told_after(statements.RECORD_CHANGES, self._caches, caching.changed_by),
                patience_s=settings.record_patience_s,
            ),
            parts.pool,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            review_interval_s=settings.review_interval_s,
            not_sent_s=settings.not_sent_ends_after_s,
            changed=lambda key: self._caches.payments_changed([key]),
        )
        self._unrecorded = UnrecordedOutcomes(recorder, parts.pool)
        begin = self._committer(statements.BEGIN)
        follow_up = self._committer(statements.FOLLOW_UP)
        checked = self._committer(BEGIN_CHECKED, lanes=1)
        begin.on_left = follow_up.on_left = checked.on_left = self._unrecorded.withdraw
        card_digest = keyed_digest(parts.vault.derive("card fingerprint"))
        return Payments(
            begin=begin,
            follow_up=follow_up,
            read=self._committer(statements.READ, lanes=1),
            recorder=recorder,
            unrecorded=self._unrecorded,
            resolver=Resolver(
                pool=parts.pool,
                recorder=recorder,
                processors=parts.processors,
                directory=parts.directory,
                deadline_s=settings.processor_deadline_s,
                interval_s=settings.unknown_interval_s,
                gap_s=settings.unknown_pass_gap_s,
                absent_after_s=settings.unknown_absent_after_s,
                not_sent_s=settings.not_sent_ends_after_s,
                review_interval_s=settings.review_interval_s,
                poll_s=settings.resolver_poll_s,
            ),
            processors=parts.processors,
            pool=parts.pool,
            duplicates=DuplicateChecks(
                checked, parts.pool, parts.instruments.possible_duplicates.add
            ),
            login_of=parts.directory.login,
            stored=StoredMethods(
                lookups=self._committer(LOOK_UP, lanes=1),
                pool=parts.pool,
                login_of=parts.directory.login,
                box=Box(parts.vault.derive(QUEUE_KEY)),
                room=QueueRoom(
                    parts.pool,
                    most=settings.queue_limit,
                    most_of_merchant=settings.queue_limit_per_merchant,
                ),
            ),
            card_fingerprint=lambda number: card_digest(number.encode()),
            deadline_s=settings.processor_deadline_s,
        )

    async def run(self) -> None:
        """Run batches until `stop`, then wait to be cancelled."""
        while not await self._know_months():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(_AGAIN_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runner.run())
            group.create_task(self._load_months())
            if self._tell is not None:
                group.create_task(self._tell.run())

    def wake(self) -> None:
        """Look for work now."""
        self._runner.wake()

    async def stop(self, within_s: float) -> None:
        """Begin nothing more, and end what is under way within so many seconds."""
        give_up_at = monotonic() + within_s
        await self._runner.stop(within_s)
        await self._unrecorded.drain(give_up_at)
        await asyncio.gather(
            self._lane.close(_CLOSE_S), *(each.close(_CLOSE_S) for each in self._committers)
        )

    async def _load_months(self) -> None:
        while True:
            await asyncio.sleep(_MONTHS_EVERY_S)
            await self._know_months()

    async def _know_months(self) -> bool:
        """Read which months have tables. False if the database cannot say now."""
        try:
            async with self._pool.acquire() as connection:
                await self._months.load(connection)
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("batches wait for the database: %s", error)
            return False
        return True

    def _committer(
        self,
        statement: Statement[Any, Any],
        *,
        patience_s: float | None = None,
        lanes: int | None = None,
    ) -> GroupCommitter[Any, Any]:
        settings = self._settings
        dsn = settings.database_url.get_secret_value()
        committer: GroupCommitter[Any, Any] = statements.group_committer(
            statement,
            [
                statements.lane(statement, dsn, n + 1)
                for n in range(lanes or settings.groups_in_flight)
            ],
            month_of=self._months.of,
            size=settings.group_size,
            limit=None,  # no more than what is claimed can wait
            patience_s=patience_s or settings.database_patience_s,
        )
        self._committers.append(committer)
        return committer
