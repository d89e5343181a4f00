"""Composes the loop that sends queued payments, from the parts of a worker process."""

import asyncio
import logging
from typing import Any, Final

from easypay.clock import monotonic
from easypay.db.connections import ANSWER_WITHIN_S
from easypay.db.failures import is_passing
from easypay.db.work_list import work_lane
from easypay.db.work_loop import EndWatcher
from easypay.merchants.vault import Box
from easypay.payments import queue_claims, queue_rows
from easypay.payments.queue_worker import AT_ONCE, QueueWorker
from easypay.payments.queued_requests import QUEUE_KEY
from easypay.server import caching
from easypay.settings import Settings
from easypay.worker.operation_parts import OperationParts

_CLOCK_EVERY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 600.0
"""Longer than claims and pauses of queued operations are: half a minute, or twice a call's time."""
_GATHER_S: Final = 0.01
"""Outcomes that come within so long are recorded together: nobody waits for them."""

log = logging.getLogger(__name__)


class QueuedPayments:
    """The loop, with the connections that it needs. Its `run` may be called again if it failed."""

    def __init__(self, parts: Any, ended: EndWatcher, *, at_once: int = AT_ONCE) -> None:
        settings: Settings = parts.settings
        self._pool = parts.pool
        self._settings = settings
        self._parts = own = OperationParts(
            "queued payments",
            parts,
            record=queue_rows.RECORD_QUEUED_CHANGES,
            gather_s=_GATHER_S,
        )
        self._lane = work_lane(
            settings.database_url.get_secret_value(),
            queue_rows.QUEUED,
            more=queue_claims.STATEMENTS,
            settings=queue_claims.LANE_SETTINGS,
        )
        begin = caching.told_after(queue_rows.BEGIN_QUEUED, own.caches, lambda turns: turns)
        self._worker = QueueWorker(
            lane=self._lane,
            pool=parts.pool,
            begin=own.committer(begin),
            begin_follow_up=own.committer(queue_rows.BEGIN_QUEUED_FOLLOW_UP),
            leave=own.committer(queue_rows.LEAVE, lanes=1),
            recorder=own.recorder,
            unrecorded=own.unrecorded,
            processors=parts.processors,
            login_of=parts.directory.login,
            box=Box(parts.vault.derive(QUEUE_KEY)),
            deadline_s=settings.processor_deadline_s,
            settles_s=settings.database_patience_s + ANSWER_WITHIN_S,
            poll_s=settings.queue_poll_s,
            ended=ended,
            traced=None if parts.traces is None else parts.traces.work,
            at_once=at_once,
        )

    async def run(self) -> None:
        """Send until `stop`, then wait to be cancelled."""
        await self._parts.run(self._worker.run, self._mind_the_clock)

    def wake(self) -> None:
        """Look at the list now."""
        self._worker.wake()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, and end what is claimed within so many seconds."""
        give_up_at = monotonic() + within_s
        await self._worker.stop(within_s)
        await self._parts.close(give_up_at, self._lane)

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
