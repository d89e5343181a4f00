"""Composes the loop that follows notifications and sees whether they come, from a worker process's
parts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from easypay.db.failures import is_passing
from easypay.db.work_loop import EndWatcher, WorkLoop
from easypay.notifications import store
from easypay.notifications.following import AT_ONCE, LEASE_S, SCHEDULE, Follower
from easypay.notifications.store import NOTIFICATIONS
from easypay.notifications.watching import Watch
from easypay.payments.resolver import SENT_MARGIN_S
from easypay.settings import Settings
from easypay.worker.together import Together

log = logging.getLogger(__name__)

_WATCH_EVERY_S: Final = 10.0
"""How often it is looked which accounts are due."""
_PURGE_EVERY_S: Final = 3600.0


def notifications(parts: Any, ended: EndWatcher) -> Together:
    """Return the loop that follows notifications, with the watch and the purge beside it."""
    settings: Settings = parts.settings
    pool, instruments = parts.pool, parts.instruments
    deadline_s = settings.processor_deadline_s
    follower = Follower(pool, abandoned_after_s=deadline_s + min(SENT_MARGIN_S, deadline_s))
    watch = Watch(
        pool,
        parts.directory,
        parts.processors,
        lambda result, by: instruments.notifications_expected.add(result, by=by),
    )

    async def look() -> None:
        await watch.step()
        counts = await store.counts(pool)
        for state in ("active", "inactive", "missing"):
            instruments.processor_webhooks.set(counts.get(state, 0), state)

    async def purge() -> None:
        await store.purge(pool)

    loop = WorkLoop(
        "notifications",
        NOTIFICATIONS,
        settings.database_url.get_secret_value(),
        follower.do,
        at_once=AT_ONCE,
        lease_s=LEASE_S,
        schedule=SCHEDULE,
        ended=ended,
    )
    return Together(
        loop,
        partial(_repeat, "watch", look, _WATCH_EVERY_S),
        partial(_repeat, "purge", purge, _PURGE_EVERY_S),
    )


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
