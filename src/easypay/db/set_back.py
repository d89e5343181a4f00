"""Notices that the database was set back to an earlier time, before anything is charged twice.

What was committed after the copy is lost, and the keys of these requests with it: a repeat would be
sent again. So gateways and workers leave a mark in the database, and compare it at their start.

- A dump that was restored is another copy: its tables have other numbers, or its server has.
- A recovery to a point in time begins a new timeline, and the sign of life that it has is as old as
  the point. A failover begins a new timeline, too; its sign of life is a minute old at most.

A process that was running all the time knows the last sign that it left: if that is still there,
nothing older than a minute is lost, however long the database was away.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from easypay.errors import EasyPayError

log = logging.getLogger(__name__)

SIGN_EVERY_S: Final = 60.0
SILENT_S: Final = 600
"""Longer than a failover takes."""

AFTER_RESTORE: Final = (
    "Run `easypay db after-restore`: it brings back what the processor has since then. If nothing "
    "was lost, `easypay db after-restore --accept --because …`"
)

# The number of a table is another one in every copy that was not made of files; so are those of a
# database and of a server.
_PRESENT: Final = """
    SELECT (SELECT system_identifier FROM pg_control_system())
           || '.' || (SELECT oid FROM pg_database WHERE datname = current_database())
           || '.' || 'configuration'::regclass::oid AS copy,
           left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline
"""
_MARKED: Final = """
    SELECT copy, timeline, alive_at, alive_at < db_now() - make_interval(secs => $1) AS silent
      FROM configuration
"""
_MARK: Final = "UPDATE configuration SET copy = $1, timeline = $2, alive_at = db_now()"
_SIGN: Final = """
    UPDATE configuration SET timeline = $2, alive_at = db_now()
     WHERE copy = $1 AND (timeline = $2 OR alive_at >= $3
           OR alive_at >= db_now() - make_interval(secs => $4))
    RETURNING alive_at
"""


class SetBack(EasyPayError):
    """The database is a copy of an earlier time, and what the processor did since is not in it."""


class Present(NamedTuple):
    """Which copy of the database this is, and its timeline. None if the server does not tell."""

    copy: str | None
    timeline: str | None


async def present(connection: Any) -> Present:
    """Return what this database is, as its server says."""
    try:
        row = await connection.fetchrow(_PRESENT)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError) as error:
        log.warning("the server does not say which copy of the database this is: %s", error)
        return Present(None, None)
    return Present(*row)


async def why_set_back(connection: Any) -> str | None:
    """Return why the database must be taken for a copy of an earlier time; None if it need not."""
    marked, now = await connection.fetchrow(_MARKED, SILENT_S), await present(connection)
    if marked["copy"] is None or now.copy is None:
        return None
    last = f"the last sign of a gateway in it is of {marked['alive_at']:%Y-%m-%d %H:%M:%S} UTC"
    if marked["copy"] != now.copy:
        return f"it was restored from a dump or copied: {last}"
    if marked["timeline"] != now.timeline and marked["silent"]:
        return f"it was recovered to a point in time: {last}"
    return None


async def check_at_start(connection: Any) -> None:
    """Mark the database as served from now on. Raises SetBack if it was set back."""
    why = await why_set_back(connection)
    if why is not None:
        raise SetBack(f"this database was set back, {why}. {AFTER_RESTORE}")
    await mark(connection)


async def mark(connection: Any) -> None:
    """Mark the database as the one that is served, with a sign of life."""
    now = await present(connection)
    if now.copy is not None:
        await connection.execute(_MARK, now.copy, now.timeline)


class SignsOfLife:
    """Leaves a sign of life each minute. `stop` is called if the database was set back meanwhile:
    no process may go on serving it."""

    def __init__(self, pool: Any, stop: Callable[[], None]) -> None:
        self._pool = pool
        self._stop = stop
        self._last: datetime | None = None

    async def leave(self) -> None:
        """Leave a sign, or stop the process."""
        async with self._pool.acquire() as connection:
            now = await present(connection)
            if now.copy is None:
                return
            last = await connection.fetchval(_SIGN, now.copy, now.timeline, self._last, SILENT_S)
            if last is not None:
                self._last = last
                return
            why = await why_set_back(connection) or "what was committed is not in it"
        log.critical("this process stops: the database was set back, %s. %s", why, AFTER_RESTORE)
        self._stop()
