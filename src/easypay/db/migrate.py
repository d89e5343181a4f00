"""Migrations: plain SQL files, forward only, applied in order of their names.

A file runs in one transaction; one whose first line is `-- no-transaction` (for CREATE INDEX
CONCURRENTLY) runs statement by statement. An index on the parent of many months is finished month
by month afterwards (`month_indexes`). An applied file must not change: its checksum is stored.
Every migration must leave a schema that the previous version of the gateway can still work with.

One migrator at a time: a lock that ends with its transaction, so it also holds behind a pooler, and
a migrator that was killed leaves nothing locked. It is taken again for every file, which another
migrator may have applied meanwhile. During a file without a transaction, a second connection
holds the lock in a transaction of its own.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import asyncpg

from easypay.clock import monotonic
from easypay.db import month_indexes
from easypay.db.connections import Connector
from easypay.db.pooler import through_pooler
from easypay.errors import EasyPayError

_LOCK = 0x65617379  # "easy": one migrator at a time, in any process
_LOCK_WITHIN_S = 1800.0
_LOCK_AGAIN_S = 0.1
_SESSION = {
    "application_name": "easypay migrate",
    # The holder of the lock has nothing to say while an index is built.
    "idle_in_transaction_session_timeout": "0",
}
_NO_TRANSACTION = "-- no-transaction"
_MIGRATIONS = """
    CREATE TABLE IF NOT EXISTS migrations (
        name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
_NOTE = "INSERT INTO migrations (name, checksum) VALUES ($1, $2)"


class MigrationFailed(EasyPayError):
    """A migration could not be applied, or an applied one was edited."""


def files() -> list[tuple[str, str]]:
    """Return every migration as (name, SQL), in the order in which they apply."""
    folder = resources.files("easypay.db") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(name, (folder / name).read_text()) for name in names]


class SchemaMissing(EasyPayError):
    """The database lacks migrations that this version needs."""


async def require_schema(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Raise SchemaMissing unless every migration of this version is applied."""
    try:
        rows = await connection.fetch("SELECT name FROM migrations")
    except asyncpg.UndefinedTableError:
        rows = []
    applied = {row["name"] for row in rows}
    missing = [name for name, _ in files() if name not in applied]
    if missing:
        raise SchemaMissing(f"the database lacks {', '.join(missing)}: run `easypay migrate`")


async def migrate(dsn: str) -> list[str]:
    """Apply missing migrations and return their names. Safe to run from many processes at once.

    Raises MigrationFailed if an applied file was changed or a statement fails (then nothing of its
    file is left behind, unless it is marked `-- no-transaction`).
    """
    connector = Connector(dsn)
    connection = await _connect(connector)
    try:
        async with _locked(connection):
            await connection.execute(_MIGRATIONS)
        made = [name for name, sql in files() if await _apply(connector, connection, name, sql)]
        try:
            await month_indexes.finish(connection)
        except asyncpg.PostgresError as error:
            raise MigrationFailed(
                f"an index could not be built for every month: {error}. The gateways work without "
                "it; some lists are slower. Run `easypay migrate` again: it goes on from there."
            ) from error
        return made
    finally:
        await connection.close()


async def _connect(connector: Connector) -> Any:
    return await connector.connect(timeout=10, server_settings=_SESSION)


@asynccontextmanager
async def _locked(connection: Any) -> AsyncIterator[None]:
    """Run a block in a transaction that has the lock. Raises MigrationFailed.

    It tries again and again, each time in a new transaction: a statement that waits for the lock
    would hold a snapshot, and CREATE INDEX CONCURRENTLY waits for every snapshot.
    """
    give_up_at = monotonic() + _LOCK_WITHIN_S
    while True:
        async with connection.transaction():
            if await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                # A simple query, which also ends the snapshot of the one before.
                await connection.execute("SET LOCAL lock_timeout = '5s'")
                yield
                return
        if monotonic() >= give_up_at:
            raise MigrationFailed(
                f"another migration has been running for {_LOCK_WITHIN_S:.0f} s: see in"
                " pg_stat_activity what `easypay migrate` waits for, and run this again"
            )
        await asyncio.sleep(_LOCK_AGAIN_S)


async def _apply(connector: Connector, connection: Any, name: str, sql: str) -> bool:
    """Apply a file unless it is applied. Returns whether it was applied now."""
    checksum = hashlib.sha256(sql.encode()).hexdigest()
    if sql.startswith(_NO_TRANSACTION):
        holder = await _connect(connector)
        try:
            async with _locked(holder):
                if await _is_applied(connection, name, checksum):
                    return False
                await _run_singly(connection, name, sql)
                await connection.execute(_NOTE, name, checksum)
        finally:
            await holder.close()
        return True
    async with _locked(connection):
        if await _is_applied(connection, name, checksum):
            return False
        try:
            await connection.execute(sql)
            await connection.execute(_NOTE, name, checksum)
        except asyncpg.PostgresError as error:
            raise MigrationFailed(f"{name}: {error}") from error
    return True


async def _is_applied(connection: Any, name: str, checksum: str) -> bool:
    applied = await connection.fetchval("SELECT checksum FROM migrations WHERE name = $1", name)
    if applied not in (None, checksum):
        raise MigrationFailed(
            f"{name} was changed after it had been applied. Restore it and put the change "
            "into a new file."
        )
    return applied is not None


async def _run_singly(connection: Any, name: str, sql: str) -> None:
    """Run each statement without a transaction around it, also behind a pooler."""
    try:
        if not through_pooler(connection):  # there a setting would stay with the server's session
            await connection.execute("SET lock_timeout = '5s'")
        for statement in filter(None, map(str.strip, sql.split(";\n"))):
            await asyncpg.Connection.execute(connection, statement)
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"{name}: {error}") from error
