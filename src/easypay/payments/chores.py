"""Periodic chores. Each runs by itself: one that fails stops no other.

Each has a time limit and is retried a minute after a failure. None waits for a lock longer than two
seconds, so no chore holds up payments.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from easypay.customers.event_purge import purge_objects
from easypay.db import partitions, set_back
from easypay.db.failures import is_passing
from easypay.errors import EasyPayError
from easypay.observed import observed
from easypay.payments.duplicate_purge import purge_guards
from easypay.payments.purge import purge_keys

log = logging.getLogger(__name__)

_AGAIN_S: Final = 60.0
_HOUR_S: Final = 3600.0
_GUARDS_S: Final = 600.0
_SIGN_LIMIT_S: Final = 10.0


class Chore(NamedTuple):
    """`work` runs every `every_s` seconds, for at most `limit_s`."""

    name: str
    work: Callable[[], Awaitable[None]]
    every_s: float
    limit_s: float


async def keep_doing(chore: Chore) -> None:
    """Run a chore again and again until cancelled."""
    work = observed(chore.name)(chore.work)
    while True:
        try:
            async with asyncio.timeout(chore.limit_s):
                await work()
        except partitions.MonthsMissing as error:
            log.critical("%s failed; next try in a minute: %s", chore.name, error)
        except Exception as error:
            log.error(
                "%s failed; next try in a minute: %s: %s",
                chore.name,
                type(error).__name__,
                error,
                exc_info=None if is_passing(error) or isinstance(error, EasyPayError) else error,
            )
        else:
            await asyncio.sleep(chore.every_s)
            continue
        await asyncio.sleep(_AGAIN_S)


def sign_of_life(pool: Any) -> Chore:
    """Return the chore of every gateway and worker that tells when this database was served last.

    It ends the process as a signal does if the database was set back meanwhile.
    """
    signs = set_back.SignsOfLife(pool, lambda: os.kill(os.getpid(), signal.SIGTERM))
    return Chore("the sign of life", signs.leave, set_back.SIGN_EVERY_S, _SIGN_LIMIT_S)


def chores(
    pool: Any,
    months: partitions.Months,
    *,
    months_ahead: int,
    key_days: int,
    customer_event_days: int,
) -> list[Chore]:
    """Return all chores of a gateway."""

    async def make_months() -> None:
        async with pool.acquire() as connection:
            made = await partitions.ensure(connection, months_ahead=months_ahead)
        if made:
            log.info("made the tables %s", ", ".join(made))

    async def learn_months() -> None:
        async with pool.acquire() as connection:
            await months.load(connection)

    async def look_for_strays() -> None:
        async with pool.acquire() as connection:
            found = await partitions.strays(connection)
        if any(found.values()):
            log.critical("rows outside every month (a clock may be far off): %s", found)

    async def forget_keys() -> None:
        await purge_keys(pool, days=key_days)

    async def forget_customer_events() -> None:
        await purge_objects(pool, days=customer_event_days)

    async def forget_guards() -> None:
        await purge_guards(pool)

    return [
        Chore("making months ahead", make_months, _HOUR_S, 60),
        Chore("learning which months there are", learn_months, _HOUR_S, 30),
        Chore("looking for rows outside every month", look_for_strays, _HOUR_S, 60),
        Chore("forgetting old duplicate guards", forget_guards, _GUARDS_S, 300),
        Chore("forgetting old keys", forget_keys, 24 * _HOUR_S, 4 * _HOUR_S),
        Chore("forgetting old events of customers", forget_customer_events, 24 * _HOUR_S, 600),
    ]


async def make_months_at_start(connection: Any, *, months_ahead: int) -> None:
    """Make the months ahead. If some cannot be made but the present month exists, log that.

    Raises MonthsMissing if the present month is missing, and the database's errors.
    """
    try:
        await partitions.ensure(connection, months_ahead=months_ahead)
    except partitions.MonthsMissing as error:
        if not await partitions.has_present_month(connection):
            raise
        log.critical("%s; the present month exists; the others will be tried again", error)
