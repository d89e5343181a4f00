"""Compacts a month: its operations get full pages and lose their stored replies.

    watch the table for changes → look what keeps the month → copy → compare → swap → drop the old

Until the swap the month is as it was; after it only the old table is left to drop. A run that was
killed is cleaned up by the next one.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from easypay.archiving import row_changes
from easypay.archiving.obstacles import OPERATION_HERE, Obstacle, forget_expired_keys
from easypay.archiving.session import now
from easypay.compaction import copy as copying
from easypay.compaction.copy import Copy, InUse, NotVerified, Progress
from easypay.compaction.due import due_from, obstacles, table_of
from easypay.compaction.swap import Changed, swap
from easypay.db import compacted_months, partitions, server_disk
from easypay.db.connections import LOST
from easypay.db.partitions import FULL, suffix_of
from easypay.errors import EasyPayError
from easypay.failpoints import reach

_ROUNDS: Final = 3
"""How often the copy is made again because an operation has changed meanwhile."""

SETTINGS: Final = {
    "application_name": "easypay compaction",
    "statement_timeout": "0",  # building an index takes minutes
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10000",
    "jit": "off",
    "TimeZone": "UTC",
}
"""Settings of the connection that compacts. Nothing else may use it."""


class CannotCompact(EasyPayError):
    """The month stays as it is. `obstacles` says why, if rows of it are the reason."""

    obstacles: Sequence[Obstacle] = ()

    @classmethod
    def because(cls, month: str, found: Sequence[Obstacle]) -> "CannotCompact":
        """Return the refusal that names every obstacle."""
        lines = "".join(f"\n  {each.sentence()}" for each in found)
        error = cls(f"{month} stays as it is. In the way are:{lines}")
        error.obstacles = found
        return error


NOT_NOW: Final = (CannotCompact, InUse, NotVerified, row_changes.CannotWatch)
"""Why one month stays as it is, while the next one may be compacted."""


class Done(msgspec.Struct, frozen=True):
    """A month that was compacted. The bytes are those of its operations with their indexes."""

    month: str
    operations: int
    bytes_before: int
    bytes_after: int


async def compact(
    connection: Any, month: datetime, token: int, *, key_days: int, progress: Progress
) -> Done:
    """Compact one month. `connection` has SETTINGS, `token` is that of `turn.taken`.

    Raises CannotCompact, InUse, NotVerified, CannotWatch, LeaseLost and the database's errors.
    Whatever it raises, nothing is lost, and it may be called again.
    """
    for _ in range(_ROUNDS):
        await _check_month(connection, month, key_days=key_days)
        try:
            await row_changes.watch(connection, copying.watch_of(month, token))
            reach("compact_watches")
            copy = await copying.plan(connection, month, token)
            if found := await obstacles(connection, month, key_days=key_days):
                raise CannotCompact.because(suffix_of(month), found)
            await forget_expired_keys(connection, month, key_days=key_days, here=OPERATION_HERE)
            return await _compact(connection, copy, progress)
        except (Changed, asyncpg.UndefinedTableError):
            # Who archived the month or took over the lease has dropped a table: the next round says
            # so.
            await _tidy(connection, month, token)
        except BaseException:
            await _tidy(connection, month, token)
            raise
    raise CannotCompact(
        f"operations of {suffix_of(month)} changed during each of {_ROUNDS} copies. Try again when "
        "they are at rest"
    )


async def _check_month(connection: Any, month: datetime, *, key_days: int) -> None:
    """Raise CannotCompact unless the month has tables, is old enough and not compacted yet."""
    suffix = suffix_of(month)
    if table_of(month) not in await partitions.attached(connection):
        raise CannotCompact(f"the database has no tables of {suffix}: see `easypay db partitions`")
    since = due_from(month, key_days=key_days)
    if await now(connection) < since:
        raise CannotCompact(
            f"{suffix} can be compacted from {since:%Y-%m-%d} on: {key_days} days after its end, "
            "when its idempotency keys give no answer any more"
        )
    if any(each.month == suffix for each in await compacted_months.every(connection)):
        raise CannotCompact(f"{suffix} is compacted already: see `easypay db partitions`")


async def _compact(connection: Any, copy: Copy, progress: Progress) -> Done:
    """Copy, compare, swap and drop."""
    suffix = suffix_of(copy.month)
    before = await _bytes(connection, copy.source)
    if await _is_compact(connection, copy.source):
        rows = await connection.fetchval(f"SELECT count(*) FROM {copy.source}")
        await compacted_months.note(connection, suffix, rows, before, before)
        await row_changes.unwatch(connection, copy.watch)
        return Done(suffix, rows, before, before)
    await _check_disk(connection, copy.source)
    try:
        copy = await copying.make(connection, copy, progress)
    except asyncpg.DiskFullError as error:
        raise CannotCompact(
            f"{suffix} stays as it is: the database's disk is full ({error}). Make room at once: "
            "payments need it, too"
        ) from error
    after = await _bytes(connection, copy.target)
    progress(f"swapping the tables of {suffix}", 0, 0)
    await swap(connection, copy, bytes_before=before, bytes_after=after)
    reach("compact_swapped")
    await copying.drop(connection, copy.retired)
    reach("compact_dropped")
    return Done(suffix, copy.rows, before, after)


async def _tidy(connection: Any, month: datetime, token: int) -> None:
    """Remove this run's trigger and new table, if they are still there. What cannot be removed is
    left to the next run."""
    if connection.is_closed():
        return
    with suppress(*LOST, asyncpg.PostgresError):
        await row_changes.unwatch(connection, copying.watch_of(month, token))
    with suppress(*LOST, asyncpg.PostgresError):
        await copying.drop(connection, copying.target_of(month, token))


async def _bytes(connection: Any, table: str) -> int:
    found: int = await connection.fetchval(
        "SELECT pg_total_relation_size($1::text::regclass)", table
    )
    return found


async def _is_compact(connection: Any, table: str) -> bool:
    """Whether the month was written with full pages and without replies, as by a restore."""
    full = await connection.fetchval(
        "SELECT $2 = ANY (reloptions) FROM pg_class WHERE oid = $1::text::regclass",
        table,
        f"fillfactor={FULL}",
    )
    return bool(full) and not await copying.has_replies(connection, table)


async def _check_disk(connection: Any, source: str) -> None:
    """Raise CannotCompact if the server's disk has no room for the copy and its log."""
    needed = await copying.bytes_needed(connection, source)
    needed += min(needed, await server_disk.wal_bytes(connection))
    free = await server_disk.free(connection)
    if free is not None and free < needed:
        raise CannotCompact(
            f"the database's disk is too small: a copy of {source} and its log need about "
            f"{needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free. Make room, or archive a "
            "month with `easypay db archive`"
        )
