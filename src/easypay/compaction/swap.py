"""Puts the new table in the place of the old one, in one transaction.

The transaction locks the month's operations, then `operations` itself, looks once more whether
anything has changed since the copy began, and swaps. It is one message to the server, so it cannot
stop half way with the locks held, whatever becomes of this process. Every lock is waited for at
most 200 ms: payments wait no longer than that, and then it is tried again later. Nobody reads or
writes half of a swap, and prepared statements that name the month's table find the new one: they
are planned again by its name.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import asyncpg

from easypay.compaction import turn
from easypay.compaction.copy import WRITERS_WAIT, Copy, InUse
from easypay.compaction.due import TABLE
from easypay.db import compacted_months
from easypay.db.lock_holders import StillHeld, when_free
from easypay.db.partitions import attached, bounds_of, suffix_of
from easypay.db.pooler import through_pooler

_WORK: Final = "500ms"
"""The time limit of each of the other statements, which only change the catalog."""
_CHANGED: Final = "easypay compaction: the month has changed"
_LOST: Final = "easypay compaction: the lease is lost"
_ARCHIVE: Final = "easypay compaction: an archive command runs"
# What stands after USING tells indexes of one table apart.
_INDEXES: Final = """
    SELECT split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2) AS what, c.relname AS name
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = $1::text::regclass
"""


class Changed(Exception):
    """An operation of the month has changed since the copy began, or the tables have."""


async def swap(connection: Any, copy: Copy, *, bytes_before: int, bytes_after: int) -> None:
    """Swap the tables and note the month as compacted.

    Waits for long transactions for up to ten minutes. Raises Changed, InUse or LeaseLost; then
    nothing of it has happened.
    """
    default = f"{TABLE}_default"
    defaults = [default] if default in await attached(connection) else []
    locked = [copy.source, *defaults, TABLE]
    script = ";\n".join(
        (
            *_locks(locked),
            *_checks(copy),
            *await _exchange(connection, copy),
            compacted_months.note_sql(suffix_of(copy.month), copy.rows, bytes_before, bytes_after),
        )
    )
    try:
        await when_free(connection, locked, partial(_run, connection, script))
    except StillHeld as held:
        raise InUse(
            f"{suffix_of(copy.month)} was not compacted: {held} holds a lock on its operations. A "
            "dump or a long transaction does that. It is tried again"
        ) from None


async def _run(connection: Any, script: str) -> None:
    """Run the script: one message without BEGIN is one transaction."""
    send = connection.one_message if through_pooler(connection) else connection.execute
    try:
        await send(script)
    except asyncpg.UndefinedTableError as error:
        raise Changed from error
    except asyncpg.CheckViolationError as error:
        if _LOST in str(error):
            raise turn.LeaseLost from None
        if _ARCHIVE in str(error):
            raise InUse(
                "`easypay db archive` or `easypay db restore-month` runs on this database. The "
                "compaction is tried again"
            ) from None
        if _CHANGED in str(error):
            raise Changed from None
        raise


def _locks(tables: Sequence[str]) -> list[str]:
    """Return statements that lock the tables; the last one is `operations`, which payments need."""
    return [
        f"SET LOCAL lock_timeout = '{WRITERS_WAIT}'",
        f"SET LOCAL statement_timeout = '{WRITERS_WAIT}'",
        *(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE" for table in tables),
        f"SET LOCAL statement_timeout = '{_WORK}'",
    ]


def _checks(copy: Copy) -> list[str]:
    """Return statements that fail if something has changed since the copy began. All are short."""
    conditions = (
        (
            _LOST,
            f"NOT EXISTS (SELECT FROM leases WHERE name = '{turn.NAME}'"
            f" AND token = {copy.token} AND leased_until > db_now() FOR SHARE)",
        ),
        (_ARCHIVE, "NOT pg_try_advisory_xact_lock(hashtext('easypay archive'))"),
        (
            _CHANGED,
            f"'{copy.source}'::regclass::oid <> {copy.source_oid}"
            f" OR EXISTS (SELECT FROM archive_changes WHERE month = '{copy.watch.note}')"
            " OR (SELECT md5(string_agg(name, ',' ORDER BY name)) FROM migrations)"
            f" <> '{copy.migrations}'",
        ),
    )
    return [f"SELECT refuse('{code}') WHERE {condition}" for code, condition in conditions]


async def _exchange(connection: Any, copy: Copy) -> list[str]:
    """Return statements that swap the tables and the names of their indexes.

    Raises Changed and InUse.
    """
    parent, old, new = [
        {row["what"]: row["name"] for row in await connection.fetch(_INDEXES, table)}
        for table in (TABLE, copy.source, copy.target)
    ]
    if not parent.keys() <= new.keys():  # attaching would build the missing one under the locks
        raise Changed
    if own := sorted(old[what] for what in old.keys() - parent.keys()):
        raise InUse(
            f"{suffix_of(copy.month)} was not compacted: {copy.source} has indexes that "
            f"{TABLE} has not, and the new table would lack them: drop {', '.join(own)} first"
        )
    names = []
    for number, (what, name) in enumerate(sorted(new.items())):
        wanted = old.get(what) or f"{parent[what]}_{suffix_of(copy.month)}"
        if what in old:
            retired = f"compacted_{number}_{copy.source}_{copy.token}"
            names.append(f"ALTER INDEX {wanted} RENAME TO {retired}")
        names.append(f"ALTER INDEX {name} RENAME TO {wanted}")
    return [
        f"ALTER TABLE {TABLE} DETACH PARTITION {copy.source}",
        f"ALTER TABLE {copy.source} RENAME TO {copy.retired}",
        *names,
        f"ALTER TABLE {copy.target} RENAME TO {copy.source}",
        f"ALTER TABLE {TABLE} ATTACH PARTITION {copy.source} {bounds_of(copy.month)}",
        f"ALTER TABLE {copy.source} DROP CONSTRAINT in_month",
        f"ALTER TABLE {copy.source} RESET (autovacuum_enabled)",
        f"DELETE FROM archive_changes WHERE month = '{copy.watch.note}'",
    ]
