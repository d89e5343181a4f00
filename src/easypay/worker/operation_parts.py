"""What the loops that begin operations share: committers, the recorder, and the caches they tell.

`queued_payments` and `batches` each have one, with connections of their own, so that neither waits
for the other.
"""

import asyncio
import logging
from typing import Any, Final

from easypay.db import partitions
from easypay.db.connections import Lane
from easypay.db.failures import is_passing
from easypay.db.group_commit import GroupCommitter
from easypay.payments import statements
from easypay.payments.outcome_changes import Change
from easypay.payments.statements import Recorder, Statement
from easypay.payments.unrecorded_outcomes import UnrecordedOutcomes
from easypay.server import caching
from easypay.worker.together import Runs, caches_of

_MONTHS_EVERY_S: Final = 600.0
_AGAIN_S: Final = 1.0
_CLOSE_S: Final = 1.0

log = logging.getLogger(__name__)


class OperationParts:
    """The shared parts, made from those of a worker process. `name` is that of the loop, for the
    log. `record` is the statement of the recorder, which gathers outcomes for `gather_s` seconds.
    """

    def __init__(
        self,
        name: str,
        parts: Any,
        *,
        record: Statement[Change, bool] = statements.RECORD_CHANGES,
        gather_s: float = 0.0,
    ) -> None:
        self._name = name
        self._pool = parts.pool
        self._slow = parts.slow
        self._traces = parts.traces
        self._settings = settings = parts.settings
        self._months = partitions.Months()
        self._committers: list[GroupCommitter[Any, Any]] = []
        caches, self._beside = caches_of(parts)
        self.caches = caches
        self.recorder = Recorder(
            self.committer(
                caching.told_after(record, caches, caching.changed_by),
                patience_s=settings.record_patience_s,
                gather_s=gather_s,
            ),
            parts.pool,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            review_interval_s=settings.review_interval_s,
            not_sent_s=settings.not_sent_ends_after_s,
            changed=lambda key: caches.payments_changed([key]),
        )
        self.unrecorded = UnrecordedOutcomes(self.recorder, parts.pool)

    def committer(
        self,
        statement: Statement[Any, Any],
        *,
        patience_s: float | None = None,
        gather_s: float = 0.0,
        lanes: int | None = None,
    ) -> GroupCommitter[Any, Any]:
        """Return the committer of a statement, with the usual number of lanes if none is given."""
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
            gather_s=gather_s,
        )
        if self._traces is not None:
            self._traces.observe_groups(committer)
        self._slow.watch(committer)
        self._committers.append(committer)
        return committer

    async def run(self, *loops: Runs) -> None:
        """Run the loops beside what they need, once it is known which months have tables."""
        while not await self._know_months():  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(_AGAIN_S)
        async with asyncio.TaskGroup() as group:
            for loop in (*loops, self._load_months, *self._beside):
                group.create_task(loop())

    async def close(self, give_up_at: float, lane: Lane) -> None:
        """Record what could not be recorded before, until this `monotonic` time, and close the
        connections: those of the committers and the loop's own."""
        await self.unrecorded.drain(give_up_at)
        await asyncio.gather(
            lane.close(_CLOSE_S), *(each.close(_CLOSE_S) for each in self._committers)
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
            log.warning("%s wait for the database: %s", self._name, error)
            return False
        return True
