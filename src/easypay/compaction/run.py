"""Compacts all months that are due, or one; and the chore of a gateway that does so every day."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import msgspec

from easypay.archiving.obstacles import Obstacle
from easypay.compaction import copy as copying
from easypay.compaction import turn
from easypay.compaction.compact import NOT_NOW, SETTINGS, Done, compact
from easypay.compaction.copy import Progress
from easypay.compaction.due import due
from easypay.db.connections import Connector
from easypay.db.partitions import suffix_of
from easypay.payments.chores import Chore

log = logging.getLogger(__name__)

Watcher = Callable[[Done], None]
"""Called with each month that was compacted."""
_DAY_S: Final = 24 * 3600.0
_LIMIT_S: Final = 12 * 3600.0
_ANSWER_WITHIN_S: Final = 2 * 3600.0
"""The longest statement builds an index of a month. A silent server holds nobody for longer."""


class Stays(msgspec.Struct, frozen=True):
    """A month that stays as it is. `in_the_way` is empty if no row of it is the reason."""

    month: str
    why: str
    in_the_way: Sequence[Obstacle]


class Report(msgspec.Struct, frozen=True):
    """What was done with the months that are due."""

    compacted: list[Done]
    stay: list[Stays]


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """Yield the connection that compacts."""
    connection = await Connector(dsn).connect(
        timeout=10, command_timeout=_ANSWER_WITHIN_S, server_settings=SETTINGS
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def run(
    connection: Any,
    runner: Any,
    *,
    month: datetime | None,
    key_days: int,
    progress: Progress,
    watcher: Watcher = lambda done: None,
) -> Report:
    """Compact one month, or all that are due, oldest first. A month that stays stops no other.

    `runner` keeps the lease: a pool, or a connection of its own. Raises AnotherRuns, LeaseLost and
    the database's errors.
    """
    report = Report([], [])
    async with turn.taken(runner) as token:
        await copying.clean(connection, token)
        months = await due(connection, key_days=key_days) if month is None else [month]
        for each in months:
            try:
                done = await compact(connection, each, token, key_days=key_days, progress=progress)
            except NOT_NOW as error:
                found = getattr(error, "obstacles", ())
                report.stay.append(Stays(suffix_of(each), error.detail, found))
            else:
                report.compacted.append(done)
                watcher(done)
    return report


def chore(pool: Any, dsn: str, *, key_days: int, watcher: Watcher) -> Chore:
    """Return the chore of a gateway. Of all gateways one does it; on a day on which no month is due
    it only looks."""

    def tell(done: Done) -> None:
        log.info(
            "compacted %s: %d operations, %d bytes before, %d now",
            *(done.month, done.operations, done.bytes_before, done.bytes_after),
        )
        watcher(done)

    async def compact_months() -> None:
        async with pool.acquire() as looking:
            wanted = await due(looking, key_days=key_days) or await copying.leftovers(looking)
        if not wanted:
            return
        try:
            async with connected(dsn) as connection:
                report = await run(
                    connection,
                    pool,
                    month=None,
                    key_days=key_days,
                    progress=lambda what, done, total: None,
                    watcher=tell,
                )
        except turn.AnotherRuns:
            return
        for stays in report.stay:
            log.info("not compacted, tried again tomorrow: %s", stays.why)

    return Chore("compacting old months", compact_months, _DAY_S, _LIMIT_S)
