"""Composes the loop that ends what is left to do at the vault, from a worker process's parts."""

import asyncio
from functools import partial
from typing import Any, Final

from easypay.cache.caches import Caches
from easypay.customers.mending import AT_ONCE, SCHEDULE, Mender
from easypay.customers.vault_calls import VaultCalls, vaults_of
from easypay.customers.vault_work import VAULT_WORK
from easypay.db.work_loop import EndWatcher, WorkLoop
from easypay.server import caching
from easypay.settings import Settings

_CALLS: Final = 4
"""A piece of work makes at most so many calls, each within the deadline of a call."""


class StoredMethods:
    """The loop, and what tells the caches of what it has changed."""

    def __init__(self, parts: Any, ended: EndWatcher) -> None:
        settings: Settings = parts.settings
        caches = Caches(settings.cache_near_bytes if settings.cache_url else 0)
        self._tell = caching.what_tells(settings, caches, parts.vault, parts.pool)
        calls = VaultCalls(
            pool=parts.pool,
            vaults=vaults_of(parts.processors),
            login_of=parts.directory.login,
            deadline_s=settings.processor_deadline_s,
        )
        mender = Mender(calls, changed=partial(caching.customer_changed, caches))
        self._loop = WorkLoop(
            "stored payment methods",
            VAULT_WORK,
            settings.database_url.get_secret_value(),
            mender.do,
            at_once=AT_ONCE,
            lease_s=_CALLS * settings.processor_deadline_s + 30.0,
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
