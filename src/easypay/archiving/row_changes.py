"""Tells whether a row of a month has changed since its export or its compaction began.

Triggers on the month's own tables write to `archive_changes`. Other months do not have them, so
payments of today cost what they always did. They are made before the first row is read: making one
waits until every transaction that has written to the table has ended.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from easypay.db.partitions import suffix_of, tables_of
from easypay.errors import EasyPayError

_TRIES: Final = 20
_PAUSE_S: Final = 1.0


class CannotWatch(EasyPayError):
    """The month's tables are in use, so the triggers could not be made."""


class Watch(NamedTuple):
    """What is watched: the trigger's name, the text of its notes, the tables, and how long writers
    of these tables may have to wait while the triggers are made."""

    trigger: str
    note: str
    tables: Sequence[str]
    lock_timeout: str

    @property
    def wait(self) -> str:
        """Return the statement that limits how long locks are waited for."""
        return f"SET LOCAL lock_timeout = '{self.lock_timeout}'"


def of_export(month: datetime) -> Watch:
    """Return what is watched while a month is exported."""
    tables = list(tables_of(month).values())
    return Watch("archive_notes_changes", suffix_of(month), tables, "500ms")


async def watch(connection: Any, of: Watch) -> None:
    """Note every change from now on, and forget those noted before. Raises CannotWatch."""
    make = ";".join(
        f"CREATE OR REPLACE TRIGGER {of.trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION note_archive_change('{of.note}')"
        for table in of.tables
    )
    for tries_left in reversed(range(_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(f"{of.wait}; {make}")
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if not tries_left:
                raise CannotWatch(
                    f"{', '.join(of.tables)}: in use by a long transaction: {error}. "
                    "Try again when it has ended"
                ) from error
            await asyncio.sleep(_PAUSE_S)
        else:
            break
    await connection.execute("DELETE FROM archive_changes WHERE month = $1", of.note)


async def unwatch(connection: Any, of: Watch) -> None:
    """Remove the triggers. If the tables are in use or the connection is lost, the triggers stay,
    which does no harm."""
    if connection.is_closed():
        return
    try:
        async with connection.transaction():
            await connection.execute(f"{of.wait}; {drop_triggers_sql(of)}")
            await connection.execute("DELETE FROM archive_changes WHERE month = $1", of.note)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return


def drop_triggers_sql(of: Watch) -> str:
    """Return statements that remove the triggers."""
    return ";".join(f"DROP TRIGGER IF EXISTS {of.trigger} ON {table}" for table in of.tables)


async def happened(connection: Any, of: Watch) -> bool:
    """Whether a row has changed since `watch`."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM archive_changes WHERE month = $1)", of.note
    )
    return found
