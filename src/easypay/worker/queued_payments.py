"""Composes the loop that sends queued payments, from the parts of a worker process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from easypay.cache.caches import Caches
from easypay.clock import monotonic
from easypay.db import partitions
from easypay.db.connections import ANSWER_WITHIN_S, Lane
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.db.work_list import work_lane
from easypay.db.work_loop import EndWatcher
from easypay.merchants.vault import Box
from easypay.payments import queue_claims, queue_rows, statements
from easypay.payments.queue_worker import AT_ONCE, QueueWorker
from easypay.payments.queued_requests import QUEUE_KEY
from easypay.payments.statements import Recorder, Statement
from easypay.payments.unrecorded_outcomes import UnrecordedOutcomes
from easypay.server import caching
from easypay.settings import Settings

_MONTHS_EVERY_S: Final = 600.0
_CLOCK_EVERY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 600.0
"""Longer than claims and pauses of queued operations are: half a minute, or twice a call's time."""
_AGAIN_S: Final = 1.0
_CLOSE_S: Final = 1.0

log = logging.getLogger(__name__)


class QueuedPayments:
    """The loop, with the connections that it needs. Its `run` may be called again if it failed."""

    def __init__(self, parts: Any, ended: EndWatcher, *, at_once: int = AT_ONCE) -> None:
        settings: Settings = parts.settings
        self._pool = parts.pool
        self._settings = settings
        self._months = partitions.Months()
        self._committers: list[GroupCommitter[Any, Any]] = []
        self._caches = Caches(settings.cache_near_bytes if settings.cache_url else 0)
        self._tell = caching.what_tells(settings, self._caches, parts.vault, parts.pool)
        dsn = settings.database_url.get_secret_value()
        self._lane = work_lane(
            dsn,
            queue_rows.QUEUED,
            more=queue_claims.STATEMENTS,
            settings=queue_claims.LANE_SETTINGS,
        )
        recorder = Recorder(
            self._committer(
                caching.told_after(statements.RECORD_CHANGES, self._caches, caching.changed_by),
                patience_s=settings.record_patience_s,
            ),
            parts.pool,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            review_interval_s=settings.review_interval_s,
            not_sent_s=settings.not_sent_ends_after_s,
        )
        self._unrecorded = UnrecordedOutcomes(recorder, parts.pool)
        self._worker = QueueWorker(
            lane=self._lane,
            pool=parts.pool,
            begin=self._committer(
                caching.told_after(queue_rows.BEGIN_QUEUED, self._caches, lambda turns: turns)
            ),
            begin_follow_up=self._committer(queue_rows.BEGIN_QUEUED_FOLLOW_UP),
            leave=self._committer(queue_rows.LEAVE),
            recorder=recorder,
            unrecorded=self._unrecorded,
            processors=parts.processors,
            login_of=parts.directory.login,
            box=Box(parts.vault.derive(QUEUE_KEY)),
            deadline_s=settings.processor_deadline_s,
            settles_s=settings.database_patience_s + ANSWER_WITHIN_S,
            poll_s=settings.queue_poll_s,
            ended=ended,
            at_once=at_once,
        )

    async def run(self) -> None:
        """Send until `stop`, then wait to be cancelled."""
        while not await self._know_months():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(_AGAIN_S)
        tasks: list[Callable[[], Awaitable[None]]] = [
            *(self._worker.run, self._load_months, self._mind_the_clock)
        ]
        if self._tell is not None:
            tasks.append(self._tell.run)
        async with asyncio.TaskGroup() as group:
            for each in tasks:
                group.create_task(each())  # type: ignore[arg-type]  # all are coroutine functions

    def wake(self) -> None:
        """Look at the list now."""
        self._worker.wake()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, and end what is claimed within so many seconds."""
        give_up_at = monotonic() + within_s
        await self._worker.stop(within_s)
        await self._unrecorded.drain(give_up_at)
        await asyncio.gather(
            self._lane.close(_CLOSE_S), *(each.close(_CLOSE_S) for each in self._committers)
        )

    async def _load_months(self) -> None:
        while True:
            await asyncio.sleep(_MONTHS_EVERY_S)
            await self._know_months()

    async def _mind_the_clock(self) -> None:
        """Let nothing wait for an hour that has come already, if the database's clock is set
        back."""
        longest_s = max(_LONGEST_PAUSE_S, 4 * self._settings.processor_deadline_s)
        while True:
            await asyncio.sleep(_CLOCK_EVERY_S)
            try:
                if count := await queue_rows.mind_the_clock(self._pool, longest_s):
                    log.warning(
                        "%d queued operations were due in the far future, and are due now: the "
                        "database's clock was set back",
                        count,
                    )
            except Exception as error:
                if not is_passing(error):
                    raise

    async def _know_months(self) -> bool:
        """Read which months have tables. False if the database cannot say now."""
        try:
            async with self._pool.acquire() as connection:
                await self._months.load(connection)
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("queued payments wait for the database: %s", error)
            return False
        return True

    def _committer(
        self, statement: Statement[Any, Any], *, patience_s: float | None = None
    ) -> GroupCommitter[Any, Any]:
        settings = self._settings
        patience_s = patience_s or settings.database_patience_s
        dsn = settings.database_url.get_secret_value()
        lanes: Sequence[Lane] = [
            statements.lane(statement, dsn, n + 1) for n in range(settings.groups_in_flight)
        ]
        committer: GroupCommitter[Any, Any] = statements.group_committer(
            statement,
            lanes,
            month_of=self._months.of,
            size=settings.group_size,
            limit=None,  # no more than what is claimed can wait
            patience_s=patience_s,
        )
        self._committers.append(committer)
        return committer
