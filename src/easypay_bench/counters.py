"""What a payment costs the database in countable units, whatever the machine does.

Statements, WAL and heap-only updates per payment are the same on a quiet and on a busy machine, so
a test can check them. Times are not.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[Any]"

_UPDATED_TABLES: Final = ("payments", "operations")
_STATISTICS_TIMEOUT_S: Final = 15.0
_FEED: Final = r"feed_(months|readers|head)|^SELECT EXISTS \(SELECT FROM payments_to_search\)"
"""A statement of the feed. On a busy machine it looks about as often as payments are taken."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that every payment runs, on one line."""

    sql: str
    calls: float
    rows: float
    wal_bytes: float
    wal_full_pages: float


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts per payment, taken one at a time. Under load a group shares them."""

    payments: int
    statements: tuple[Statement, ...] | None
    """Each is a transaction and a round trip. None if the server does not count them: that needs
    shared_preload_libraries = 'pg_stat_statements', its extension, and a superuser."""
    wal_bytes: float
    """All WAL of the server, including commits and the full pages after a checkpoint."""
    hot_ratio: float
    """The share of updates of payments and operations that touched no index; NaN if none."""

    @property
    def statements_per_payment(self) -> float | None:
        """The round trips per payment."""
        return None if self.statements is None else sum(each.calls for each in self.statements)


@dataclass(frozen=True, slots=True)
class Totals:
    """The server's counts so far. Updates lag a second behind."""

    wal_bytes: int
    updates: int
    hot_updates: int


async def measure(
    dsn: str, pay: Callable[[], Awaitable[object]], *, payments: int = 100, warmup_s: float = 1.5
) -> Counters:
    """Take `payments` one after another, with uncounted ones before and after.

    The warm-up should outlast the gateway's cache lease, because repeated reads are counted.
    Nothing else may use the database. Raises TimeoutError if `pay` leaves no trace in it.
    """
    connection = await asyncpg.connect(dsn)
    try:
        async with counting(connection) as counts:
            await _checkpoint(connection)
            warm_at = asyncio.get_running_loop().time() + warmup_s
            while asyncio.get_running_loop().time() < warm_at:
                await pay()
            before = await totals(connection)
            if counts:
                await connection.execute("SELECT pg_stat_statements_reset()")
            for _ in range(payments):
                await pay()
            wal_bytes = (await totals(connection)).wal_bytes - before.wal_bytes
            statements = await _statements(connection, payments) if counts else None
            after = await _until_reported(connection, pay, before.updates + payments)
    finally:
        await connection.close()
    return Counters(payments, statements, wal_bytes / payments, hot_ratio(before, after))


async def count_statements(
    dsn: str, act: Callable[[], Awaitable[object]], *, times: int
) -> tuple[Statement, ...]:
    """Return the statements that each act runs, most expensive first.

    There is no warm-up for caches: run the act once before. Needs pg_stat_statements; raises
    RuntimeError if the server does not count. Nothing else may use the database.
    """
    connection = await asyncpg.connect(dsn)
    try:
        async with counting(connection) as counts:
            if not counts:
                raise RuntimeError("the server does not count statements")
            await connection.execute("SELECT pg_stat_statements_reset()")
            for _ in range(times):
                await act()
            return await _statements(connection, times)
    finally:
        await connection.close()


def hot_ratio(before: Totals, after: Totals) -> float:
    """Return the share of the updates in between that were heap-only; NaN if there were none."""
    updates = after.updates - before.updates
    return (after.hot_updates - before.hot_updates) / updates if updates else math.nan


async def totals(connection: Connection) -> Totals:
    """Read the server's counters."""
    row = await connection.fetchrow(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes,"
        "       coalesce(sum(n_tup_upd), 0)::bigint AS updates,"
        "       coalesce(sum(n_tup_hot_upd), 0)::bigint AS hot_updates"
        "  FROM pg_stat_user_tables"
        " WHERE relid IN (SELECT relid FROM unnest($1::text[]) AS name,"
        "                 LATERAL pg_partition_tree(name::regclass))",
        list(_UPDATED_TABLES),
    )
    assert row is not None
    return Totals(*row)


@asynccontextmanager
async def counting(connection: Connection) -> AsyncIterator[bool]:
    """Let pg_stat_statements count for the length of the block. Yields False if it cannot."""
    track = await connection.fetchval("SELECT current_setting('pg_stat_statements.track', true)")
    preloaded = await connection.fetchval("SELECT current_setting('shared_preload_libraries')")
    if "pg_stat_statements" not in preloaded:
        yield False
        return
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await _track(connection, "top")
    except asyncpg.InsufficientPrivilegeError:
        yield False
        return
    try:
        yield True
    finally:
        await _track(connection, track)


async def _track(connection: Connection, which: str) -> None:
    """Set what is counted, in all sessions. They notice after their next statement."""
    if which not in ("none", "top", "all"):
        raise ValueError(f"pg_stat_statements.track cannot be {which!r}")
    await connection.execute(f"ALTER SYSTEM SET pg_stat_statements.track = '{which}'")
    await connection.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(_STATISTICS_TIMEOUT_S):
        while which != await connection.fetchval("SHOW pg_stat_statements.track"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def _checkpoint(connection: Connection) -> None:
    """Checkpoint now, not in the middle: full pages are written after a checkpoint."""
    try:
        await connection.execute("CHECKPOINT")
    except asyncpg.InsufficientPrivilegeError:
        return


async def _statements(connection: Connection, payments: int) -> tuple[Statement, ...]:
    """Return what ran about once per payment, most expensive first. Drops what the gateway does in
    the background: calls that are rarer, and the feed, which runs beside and not for a payment."""
    rows = await connection.fetch(
        "SELECT query, calls, rows, wal_bytes, wal_fpi FROM pg_stat_statements"
        " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        "   AND calls * 2 >= $1 AND query !~ $2 ORDER BY wal_bytes DESC",
        payments,
        _FEED,
    )
    return tuple(
        Statement(
            sql=" ".join(row["query"].split())[:80],
            calls=row["calls"] / payments,
            rows=row["rows"] / payments,
            wal_bytes=float(row["wal_bytes"]) / payments,
            wal_full_pages=row["wal_fpi"] / payments,
        )
        for row in rows
    )


async def _until_reported(
    connection: Connection, pay: Callable[[], Awaitable[object]], updates: int
) -> Totals:
    """Pay slowly until `updates` are reported: a session reports its counts at the end of a
    transaction, but at most once a second."""
    async with asyncio.timeout(_STATISTICS_TIMEOUT_S):
        while True:
            now = await totals(connection)
            if now.updates >= updates:
                return now
            await asyncio.sleep(0.2)
            await pay()
