"""The new table of a month's operations: made beside the old one, filled slice by slice, compared.

Nobody waits for it. Each slice of pages is a short transaction, so vacuum is not held back. What
changes in the old table meanwhile is noted by a trigger, and then the copy is made again.

The names of the table, of the trigger and of its notes end in the token of the lease: a process
that lost its lease and goes on can only touch its own, which its successor has dropped.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from easypay import ids
from easypay.archiving.contents import columns_of
from easypay.archiving.row_changes import Watch
from easypay.compaction.due import TABLE, table_of
from easypay.compaction.turn import must_hold
from easypay.db.lock_holders import long_holders
from easypay.db.partitions import FULL, build_indexes, month_start, suffix_of
from easypay.errors import EasyPayError
from easypay.failpoints import reach

Progress = Callable[[str, int, int], None]
"""Called with what is done now, and how many of how many pages are done."""

WRITERS_WAIT: Final = "200ms"
"""The longest that a lock of ours may keep anybody waiting who writes."""
REPLY: Final = ("reply_status", "reply_body")
_SLICE: Final = 2_000
"""Pages that are copied in one transaction: 16 MB."""
_PAUSE_S: Final = 0.01
_SAMPLED: Final = 2_000
_PATIENCE_S: Final = 600.0
_LOOK_AGAIN_S: Final = 2.0
_SPARE: Final = 1.1
_TRIGGER: Final = "compact_notes_changes"

_LEFTOVERS: Final = r"""
    SELECT relname FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND NOT relispartition
       AND relname ~ '^compact(ing|ed)_operations_\d{4}_\d{2}_\d+$' ORDER BY 1
"""
_WATCHED: Final = """
    SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE starts_with(tgname, $1)
"""
_COPY: Final = """
    WITH source AS MATERIALIZED (
        SELECT {columns} FROM {source} WHERE ctid >= '({first},0)' AND ctid < '({end},0)'
    ), copied AS (
        INSERT INTO {target} ({columns}) SELECT {columns} FROM source
    )
    SELECT count(*), coalesce(sum(hashtextextended(source::text, 0)::numeric), 0) FROM source
"""
_CONTENTS: Final = """
    SELECT count(*), coalesce(sum(hashtextextended(kept::text, 0)::numeric), 0)
      FROM (SELECT {columns} FROM {target}) AS kept
"""
_REPLIES: Final = "SELECT EXISTS (SELECT FROM {table} WHERE reply_body IS NOT NULL)"
# A row without its reply, with its header and line pointer, and what it has in the indexes now.
_NEEDED: Final = """
    SELECT coalesce(sum(pg_column_size(o.*) + 4 - coalesce(pg_column_size(o.reply_body), 0)), 0)
           * 100 / {percent} + pg_indexes_size('{source}')
      FROM {source} o TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)
"""
_PAGES: Final = (
    "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint"
)


class NotVerified(EasyPayError):
    """The new table does not hold what the old one holds."""


class InUse(EasyPayError):
    """A long transaction is in the way."""


class Copy(NamedTuple):
    """A month's old table `source`, and the new one `target`."""

    month: datetime
    token: int
    source_oid: int
    columns: str
    """Of operations, without the stored reply; for a statement."""
    migrations: str
    """Which migrations there were when the columns were read."""
    rows: int = 0
    digest: int = 0

    @property
    def source(self) -> str:
        return table_of(self.month)

    @property
    def target(self) -> str:
        return target_of(self.month, self.token)

    @property
    def watch(self) -> Watch:
        return watch_of(self.month, self.token)

    @property
    def retired(self) -> str:
        """The name that the old table gets in the swap."""
        return f"compacted_{self.source}_{self.token}"


def target_of(month: datetime, token: int) -> str:
    """Return the name that the new table has until the swap."""
    return f"compacting_{table_of(month)}_{token}"


def watch_of(month: datetime, token: int) -> Watch:
    """Return what is watched while the operations of a month are copied."""
    source = table_of(month)
    return Watch(f"{_TRIGGER}_{token}", f"compact {source} {token}", [source], WRITERS_WAIT)


async def migrations(connection: Any) -> str:
    """Return a digest of the names of all migrations that the database has."""
    found: str = await connection.fetchval(
        "SELECT md5(string_agg(name, ',' ORDER BY name)) FROM migrations"
    )
    return found


async def plan(connection: Any, month: datetime, token: int) -> Copy:
    """Return what is to be copied. Call it once the table is watched: making the trigger waits for
    a migration that is changing the table."""
    source = table_of(month)
    present = await migrations(connection)
    oid = await connection.fetchval("SELECT $1::text::regclass::oid", source)
    names = [column.name for column in await columns_of(connection, TABLE)]
    columns = ", ".join(name for name in names if name not in REPLY)
    return Copy(month, token, oid, columns, present)


async def leftovers(runner: Any) -> list[str]:
    """Return the tables that runs that were killed have left."""
    return [row[0] for row in await runner.fetch(_LEFTOVERS)]


async def clean(connection: Any, token: int) -> None:
    """Drop what runs that were killed have left. What is in use stays for the next time.

    Raises LeaseLost: a successor's table and trigger look the same.
    """
    for table in await leftovers(connection):
        async with _under_lease(connection, token, "2s"):
            await connection.execute(f"DROP TABLE IF EXISTS {table}")
    for trigger, table in await connection.fetch(_WATCHED, _TRIGGER):
        async with _under_lease(connection, token, WRITERS_WAIT):
            await connection.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {table}")
    async with _under_lease(connection, token, WRITERS_WAIT):
        await connection.execute("DELETE FROM archive_changes WHERE starts_with(month, 'compact ')")


@asynccontextmanager
async def _under_lease(connection: Any, token: int, lock_timeout: str) -> AsyncIterator[None]:
    """Run a block in a transaction under the lease. If a lock is not free, nothing is done."""
    with suppress(asyncpg.LockNotAvailableError):
        async with connection.transaction():
            await must_hold(connection, token)
            await connection.execute(f"SET LOCAL lock_timeout = '{lock_timeout}'")
            yield


async def drop(connection: Any, table: str) -> None:
    """Drop a table of one's own that nobody needs, unless somebody still reads it."""
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            await connection.execute(f"DROP TABLE IF EXISTS {table}")
    except asyncpg.LockNotAvailableError:
        return


async def has_replies(connection: Any, table: str) -> bool:
    """Whether an operation of the table has a stored reply."""
    found: bool = await connection.fetchval(_REPLIES.format(table=table))
    return found


async def bytes_needed(connection: Any, source: str) -> int:
    """Return the bytes that the new table takes, estimated from a sample."""
    pages = await connection.fetchval(_PAGES, source)
    percent = min(100.0, 100 * _SAMPLED / max(1, pages))
    found = await connection.fetchval(_NEEDED.format(source=source, percent=percent))
    return int(float(found) * _SPARE)


async def make(connection: Any, copy: Copy, progress: Progress) -> Copy:
    """Make the new table with all rows and indexes, and compare it. Returns what it holds.

    Raises LeaseLost, NotVerified, InUse and the database's errors.
    """
    low, high = ids.lowest_id_at(copy.month), ids.lowest_id_at(month_start(copy.month, 1))
    async with connection.transaction():
        await must_hold(connection, copy.token)
        # With the condition attaching does not need to read the rows. Vacuum is done here.
        await connection.execute(
            f"CREATE TABLE {copy.target} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS,"
            f" CONSTRAINT in_month CHECK (id >= '{low}' AND id < '{high}'))"
            f" WITH (fillfactor = {FULL}, autovacuum_enabled = off)"
        )
    filled = await _fill(connection, copy, progress)
    reach("compact_copied")
    progress(f"building indexes of {suffix_of(copy.month)}", 0, 0)
    await build_indexes(connection, TABLE, copy.target)
    reach("compact_indexed")
    progress(f"comparing {suffix_of(copy.month)}", 0, 0)
    await _compare(connection, filled)
    await _vacuum_until_everybody_sees_it(connection, copy)
    reach("compact_verified")
    return filled


async def _fill(connection: Any, copy: Copy, progress: Progress) -> Copy:
    pages = await connection.fetchval(_PAGES, copy.source)
    rows = digest = 0
    for first in range(0, pages, _SLICE):
        async with connection.transaction():
            await must_hold(connection, copy.token)
            statement = _COPY.format(
                columns=copy.columns,
                source=copy.source,
                target=copy.target,
                first=first,
                end=first + _SLICE,
            )
            counted, summed = await connection.fetchrow(statement)
        rows, digest = rows + counted, digest + int(summed)
        progress(f"copying {suffix_of(copy.month)}", min(pages, first + _SLICE), pages)
        reach("compact_copying")
        await asyncio.sleep(_PAUSE_S)  # let others have their turn
    return copy._replace(rows=rows, digest=digest)


async def _compare(connection: Any, copy: Copy) -> None:
    rows, digest = await connection.fetchrow(
        _CONTENTS.format(columns=copy.columns, target=copy.target)
    )
    if (rows, int(digest)) != (copy.rows, copy.digest) or await has_replies(
        connection, copy.target
    ):
        raise NotVerified(
            f"the copy of {copy.source} does not hold what was read: {rows} rows instead of "
            f"{copy.rows}, or other values. Nothing was changed. Check the disk of the database "
            "server, and run the command again"
        )


async def _vacuum_until_everybody_sees_it(connection: Any, copy: Copy) -> None:
    """Vacuum the new table until all of its rows are visible to every transaction that runs.

    A transaction with a snapshot from before the copy would find the new table empty after the
    swap: an export, a dump, a long question. Frozen rows are visible to all; and the table needs
    no vacuum later. Raises InUse if such a transaction does not end within ten minutes.
    """
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        await connection.execute(f"VACUUM (FREEZE, ANALYZE) {copy.target}")
        hidden = await connection.fetchval(
            "SELECT relpages - relallvisible FROM pg_class WHERE oid = $1::text::regclass",
            copy.target,
        )
        if hidden == 0:
            return
        if asyncio.get_running_loop().time() > deadline:
            holders = await long_holders(connection, [TABLE, copy.source])
            raise InUse(
                f"{suffix_of(copy.month)} was not compacted: a transaction that began before "
                f"the copy still runs{f' ({holders[0]})' if holders else ''}, and would miss rows. "
                "See `easypay db doctor`, oldest snapshot. It is tried again"
            )
        await asyncio.sleep(_LOOK_AGAIN_S)
