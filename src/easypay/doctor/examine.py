"""Runs all checks on one connection: they only read, each in a transaction with time limits."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from easypay.doctor import indexes, months, sessions, settings, statements, tables
from easypay.doctor.findings import THRESHOLDS, Finding, Level, Thresholds

Check = Callable[[Any, Thresholds], Awaitable[list[Finding]]]

LIMIT_S: Final = 3
"""Of one statement. No check waits for a lock longer than a tenth of it."""
_BEGIN: Final = f"""
    SELECT set_config('statement_timeout', '{LIMIT_S}s', true),
           set_config('lock_timeout', '300ms', true), set_config('jit', 'off', true)
"""


def checks(months_ahead: int, key_days: int = 30) -> dict[str, Check]:
    """Return every check by its name, in the order of the report."""
    return {
        "schema": months.schema,
        "months": months.months(months_ahead),
        "old months": months.compaction(key_days),
        "feed": months.feed,
        "connections": sessions.connections,
        "transactions": sessions.transactions,
        "lock waits": sessions.blocked,
        "oldest snapshot": sessions.snapshots,
        "many locks": sessions.locks,
        "replication": sessions.replication,
        "settings": settings.settings,
        "transaction ids": tables.wraparound,
        "vacuum": tables.vacuum,
        "heap-only updates": tables.heap_only_updates,
        "indexes": indexes.valid_indexes,
        "unused index": indexes.unused_indexes,
        "duplicate index": indexes.duplicate_indexes,
        "bloated index": indexes.bloated_indexes,
        "missing index": statements.sequential_scans,
        "slow statements": statements.slow_statements,
        "plans that ran": statements.plans_that_ran,
    }


async def examine(
    connection: Any,
    *,
    months_ahead: int = 3,
    key_days: int = 30,
    thresholds: Thresholds = THRESHOLDS,
) -> list[Finding]:
    """Return what all checks find. A check that cannot run is a warning, and stops no other.

    Raises the errors of a connection that is lost.
    """
    found: list[Finding] = []
    for name, check in checks(months_ahead, key_days).items():
        try:
            async with connection.transaction(readonly=True):
                await connection.fetchrow(_BEGIN)
                found += await check(connection, thresholds)
        except asyncpg.PostgresError as error:
            if connection.is_closed():
                raise
            found.append(
                Finding(
                    name,
                    Level.WARN,
                    f"could not be checked: {error}",
                    "nothing is known about it",
                    "GRANT pg_monitor TO the user of EASYPAY_DATABASE_URL"
                    if isinstance(error, asyncpg.InsufficientPrivilegeError)
                    else "try again; if it stays, look at the PostgreSQL log",
                )
            )
    return found
