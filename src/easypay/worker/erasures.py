"""Composes the loop that goes on with erasures, from a worker process's parts."""

import asyncio
from functools import partial
from typing import Any, Final

from easypay.cache.caches import Caches
from easypay.customers.erasure import AT_ONCE_OF_WORKER, ERASURES, SCHEDULE, TURN_S, Eraser
from easypay.customers.vault_calls import VaultCalls, vaults_of
from easypay.db.work_loop import EndWatcher, WorkLoop
from easypay.server import caching
from easypay.settings import Settings

_LEASE_S: Final = 3 * TURN_S


class Erasures:
    """The loop, and what tells the caches of what it has changed."""

    def __init__(self, parts: Any, ended: EndWatcher) -> None:
        settings: Settings = parts.settings
        caches = Caches(settings.cache_near_bytes if settings.cache_url else 0)
        self._tell = caching.what_tells(settings, caches, parts.vault, parts.pool)
        changed = partial(caching.customer_changed, caches)
        calls = VaultCalls(
            pool=parts.pool,
            vaults=vaults_of(parts.processors),
            login_of=parts.directory.login,
            deadline_s=settings.processor_deadline_s,
        )
        eraser = Eraser(
            calls,
            call_s=0.0,
            changed=changed,
            payments_changed=caches.payments_changed,
        )
        self._loop = WorkLoop(
            "erasures",
            ERASURES,
            settings.database_url.get_secret_value(),
            eraser.do,
            at_once=AT_ONCE_OF_WORKER,
            lease_s=_LEASE_S,
            schedule=SCHEDULE,
            ended=ended,
        )

    async def run(self) -> None:
        """Work until `stop`, then wait to be cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop.run())
            if self._tell is not None:
                group.create_task(self._tell.run())

    def wake(self) -> None:
        """Look at the list now."""
        self._loop.wake()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, finish what is claimed within so many seconds, give back the rest."""
        await self._loop.stop(within_s)
