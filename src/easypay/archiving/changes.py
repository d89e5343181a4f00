"""Tells whether a row of a month has changed since its export began.

Triggers on the month's own tables write to `archive_changes`. Other months do not have them, so
payments of today cost what they always did. They are made before the first row is exported: making
one waits until every transaction that has written to the table has ended.
"""

import asyncio
from datetime import datetime
from typing import Any, Final

import asyncpg

from easypay.db.partitions import suffix_of, tables_of
from easypay.errors import EasyPayError

_TRIGGER: Final = "archive_notes_changes"
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '500ms'"
_TRIES: Final = 20
_PAUSE_S: Final = 1.0


class CannotWatch(EasyPayError):
    """The month's tables are in use, so the triggers could not be made."""


async def watch(connection: Any, month: datetime) -> None:
    """Note every change from now on, and forget those noted before. Raises CannotWatch."""
    suffix = suffix_of(month)
    make = ";".join(
        f"CREATE OR REPLACE TRIGGER {_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION note_archive_change('{suffix}')"
        for table in tables_of(month).values()
    )
    for tries_left in reversed(range(_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(f"{_LOCK_TIMEOUT}; {make}")
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if not tries_left:
                raise CannotWatch(
                    f"the tables of {suffix} are in use by a long transaction: {error}. "
                    "Try again when it has ended"
                ) from error
            await asyncio.sleep(_PAUSE_S)
        else:
            break
    await connection.execute("DELETE FROM archive_changes WHERE month = $1", suffix)


async def unwatch(connection: Any, month: datetime) -> None:
    """Remove the triggers. If the tables are in use or the connection is lost, the triggers stay,
    which does no harm."""
    if connection.is_closed():
        return
    try:
        async with connection.transaction():
            await connection.execute(_LOCK_TIMEOUT)
            for table in tables_of(month).values():
                await connection.execute(f"DROP TRIGGER IF EXISTS {_TRIGGER} ON {table}")
            await connection.execute(
                "DELETE FROM archive_changes WHERE month = $1", suffix_of(month)
            )
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return


def drop_triggers_sql(tables: list[str]) -> str:
    """Return statements that remove the triggers of tables that are locked already."""
    return ";".join(f"DROP TRIGGER IF EXISTS {_TRIGGER} ON {table}" for table in tables)


async def happened(connection: Any, month: datetime) -> bool:
    """Whether a row of the month has changed since `watch`."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM archive_changes WHERE month = $1)", suffix_of(month)
    )
    return found
