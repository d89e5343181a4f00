"""The database session of an archive command: one at a time, and values as the files have them."""

from datetime import datetime
from typing import Any, Final

from easypay.db.pooler import is_pooled
from easypay.errors import EasyPayError

_SETTINGS: Final = (
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO, MDY'",
    "SET bytea_output = 'hex'",
    "SET client_encoding = 'UTF8'",
    "SET statement_timeout = 0",
    "SET application_name = 'easypay archive'",
)
_ONLY_ONE: Final = "SELECT pg_try_advisory_lock(hashtext('easypay archive'))"
_DATABASE: Final = (
    "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || current_database()"
)


class BehindPooler(EasyPayError):
    """A pooler in transaction mode gives each transaction another session."""


class AnotherRuns(EasyPayError):
    """Another archive or restore command runs on this database."""


async def prepare(connection: Any) -> None:
    """Set what the other modules rely on, and make sure that no other command runs.

    The lock ends with the connection. Behind a pooler it would not: it would stay with the pooler's
    connection, and stop every later command. Raises BehindPooler, which changes nothing, or
    AnotherRuns.
    """
    if await is_pooled(connection):
        raise BehindPooler(
            "a pooler such as PgBouncer stands before the database, and this command needs a "
            "session of its own: connect to PostgreSQL itself (EASYPAY_DATABASE_URL)"
        )
    for setting in _SETTINGS:
        await connection.execute(setting)
    if not await connection.fetchval(_ONLY_ONE):
        raise AnotherRuns(
            "another `easypay db archive` or `easypay db restore-month` runs on this database: "
            "wait until it has ended"
        )


async def database_identity(connection: Any) -> str:
    """Return the server's identifier and the database's name."""
    identity: str = await connection.fetchval(_DATABASE)
    return identity


async def now(connection: Any) -> datetime:
    """Return the time by the database's clock, which decides what is old."""
    found: datetime = await connection.fetchval("SELECT db_now()")
    return found
