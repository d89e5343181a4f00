"""Composes the loop that follows notifications and sees whether they come, from a worker process's
parts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from easypay.db.failures import is_passing
from easypay.db.work_loop import EndWatcher, WorkLoop
from easypay.notifications import store
from easypay.notifications.following import AT_ONCE, LEASE_S, SCHEDULE, Follower
from easypay.notifications.store import NOTIFICATIONS
from easypay.notifications.watching import Watch
from easypay.payments.resolver import SENT_MARGIN_S
from easypay.settings import Settings

log = logging.getLogger(__name__)

_WATCH_EVERY_S: Final = 10.0
"""How often it is looked which accounts are due."""
_PURGE_EVERY_S: Final = 3600.0


class Notifications:
    """The loop, the watch and the purge."""

    def __init__(self, parts: Any, ended: EndWatcher) -> None:
        settings: Settings = parts.settings
        self._pool = parts.pool
        self._instruments = parts.instruments
        deadline_s = settings.processor_deadline_s
        follower = Follower(
            parts.pool, abandoned_after_s=deadline_s + min(SENT_MARGIN_S, deadline_s)
        )
        self._watch = Watch(
            parts.pool,
            parts.directory,
            parts.processors,
            lambda result, by: parts.instruments.notifications_expected.add(result, by=by),
        )
        self._loop = WorkLoop(
            "notifications",
            NOTIFICATIONS,
            settings.database_url.get_secret_value(),
            follower.do,
            at_once=AT_ONCE,
            lease_s=LEASE_S,
            schedule=SCHEDULE,
            ended=ended,
        )

    async def run(self) -> None:
        """Work until `stop`, then wait to be cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop.run())
            group.create_task(_repeat("watch", self._look, _WATCH_EVERY_S))
            group.create_task(_repeat("purge", self._purge, _PURGE_EVERY_S))

    def wake(self) -> None:
        """Look at the list now."""
        self._loop.wake()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, finish what is claimed within so many seconds, give back the rest."""
        await self._loop.stop(within_s)

    async def _look(self) -> None:
        await self._watch.step()
        counts = await store.counts(self._pool)
        for state in ("active", "inactive", "missing"):
            self._instruments.processor_webhooks.set(counts.get(state, 0), state)

    async def _purge(self) -> None:
        await store.purge(self._pool)


async def _repeat(name: str, chore: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        try:
            await chore()
        except Exception as error:
            if not is_passing(error):
                log.exception("the %s of notifications failed", name)
            else:
                log.warning("the %s of notifications failed: %s", name, error)
        await asyncio.sleep(every_s)
