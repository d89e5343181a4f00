"""Migrations: plain SQL files, forward only, applied in order of their names under one lock.

A file runs in one transaction; one whose first line is `-- no-transaction` (for CREATE INDEX
CONCURRENTLY) runs statement by statement. An applied file must not change: its checksum is stored.
Every migration must leave a schema that the previous version of the gateway can still work with.
"""

import hashlib
from importlib import resources

import asyncpg

from easypay.db.connections import Connector
from easypay.errors import EasyPayError

_LOCK = 0x65617379  # "easy": one migrator at a time, in any process
_NO_TRANSACTION = "-- no-transaction"


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
    connection = await Connector(dsn).connect(
        timeout=10, server_settings={"application_name": "easypay migrate"}
    )
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute("SET lock_timeout = '5s'")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            row["name"]: row["checksum"]
            for row in await connection.fetch("SELECT name, checksum FROM migrations")
        }
        return [
            name for name, sql in files() if await _apply(connection, name, sql, applied.get(name))
        ]
    finally:
        await connection.close()


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", name: str, sql: str, applied: str | None
) -> bool:
    checksum = hashlib.sha256(sql.encode()).hexdigest()
    if applied is not None:
        if applied != checksum:
            raise MigrationFailed(
                f"{name} was changed after it had been applied. Restore it and put the change "
                "into a new file."
            )
        return False
    note = "INSERT INTO migrations (name, checksum) VALUES ($1, $2)"
    try:
        if sql.startswith(_NO_TRANSACTION):
            for statement in filter(None, map(str.strip, sql.split(";\n"))):
                await connection.execute(statement)
            await connection.execute(note, name, checksum)
        else:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(note, name, checksum)
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"{name}: {error}") from error
    return True
