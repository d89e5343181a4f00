"""A work loop, the caches that it tells, and what runs beside it for as long as it works."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from easypay.cache.caches import Caches
from easypay.db.work_loop import WorkLoop
from easypay.server import caching
from easypay.settings import Settings

Runs = Callable[[], Coroutine[Any, Any, None]]
"""What runs until it is cancelled."""


def caches_of(parts: Any) -> tuple[Caches, list[Runs]]:
    """Return caches of a loop's own, and what must run beside it so that the caches elsewhere are
    told of what it changes."""
    settings: Settings = parts.settings
    caches = Caches(settings.cache_near_bytes if settings.cache_url else 0)
    tell = caching.what_tells(settings, caches, parts.vault, parts.pool)
    return caches, [] if tell is None else [tell.run]


class Together:
    """The loop of a list, and what runs beside it: if one of them fails, all end with it."""

    def __init__(self, loop: WorkLoop, *beside: Runs) -> None:
        self._loop = loop
        self._beside = beside

    async def run(self) -> None:
        """Work until `stop`, then wait to be cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in (self._loop.run, *self._beside):
                group.create_task(each())

    def wake(self) -> None:
        """Look at the list now."""
        self._loop.wake()

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, finish what is claimed within so many seconds, give back the rest."""
        await self._loop.stop(within_s)
