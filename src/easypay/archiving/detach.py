"""Takes a month's tables out of `payments`, `operations` and `events`, in one transaction.

The transaction locks the tables against everyone, checks once more that nothing has changed since
the export, and detaches. All of it is one message to the server, so it cannot stop half way with
the locks held, whatever becomes of this process. Payments wait for at most `_PARENTS_WAIT`, and
requests for a payment of the month itself for both waits together, which is less than two seconds.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import ids
from easypay.archiving import manifest, row_changes
from easypay.archiving.manifest import Manifest
from easypay.db import compacted_months
from easypay.db.lock_holders import StillHeld, when_free
from easypay.db.partitions import PARTITIONED, attached, month_start, suffix_of, tables_of
from easypay.errors import EasyPayError

# Long enough for PostgreSQL to end an automatic vacuum of the month, which it does after a second.
_MONTH_WAIT: Final = "1200ms"
_PARENTS_WAIT: Final = "500ms"
_DEFAULTS: Final = tuple(f"{name}_default" for name in PARTITIONED)
_CHANGED: Final = "easypay archive: the month has changed"


class Changed(Exception):
    """A row of the month has changed since it was exported."""


class CannotDetach(EasyPayError):
    """The tables stayed in use for too long."""


def archived_tables_of(month: datetime) -> list[str]:
    """Return the names that a month's tables have once they are detached."""
    return [f"archived_{table}" for table in tables_of(month).values()]


async def detach(connection: Any, month: datetime, made: Manifest) -> None:
    """Detach and rename the month's tables and write the row of `archived_months`.

    Waits for long transactions for up to ten minutes. Raises Changed, or CannotDetach; then
    nothing of it has happened.
    """
    await _hand_over(connection, month, made)
    defaults = [name for name in _DEFAULTS if name in await attached(connection)]
    script = _script(month, defaults)
    locked = [*tables_of(month).values(), *PARTITIONED, *defaults]
    try:
        await when_free(connection, locked, partial(_run, connection, script))
    except StillHeld as held:
        raise CannotDetach(
            f"the month's tables could not be detached: {held} holds a lock on them. A dump or a "
            "long transaction does that. Run the command again when it has ended; nothing was "
            "taken out of the database"
        ) from None


async def _run(connection: Any, script: str) -> None:
    try:
        await connection.execute(script)
    except asyncpg.PostgresError as error:
        # The rest of the message was not read, and the transaction is open but can only end.
        await connection.execute("ROLLBACK")
        if isinstance(error, asyncpg.CheckViolationError) and _CHANGED in str(error):
            raise Changed from None
        raise


async def drop_tables(connection: Any, month: datetime) -> None:
    """Drop the month's detached tables, one after another. Does nothing for those that are gone."""
    for table in archived_tables_of(month):
        await connection.execute(f"DROP TABLE IF EXISTS {table}")


async def _hand_over(connection: Any, month: datetime, made: Manifest) -> None:
    """Put the new row where the script finds it: a script has no parameters."""
    row = {
        "month": suffix_of(month),
        "low": str(ids.lowest_id_at(month)),
        "high": str(ids.lowest_id_at(month_start(month, 1))),
        "label": made.label,
        "manifest": manifest.as_builtins(made),
    }
    await connection.fetchval(
        "SELECT set_config('easypay.archive', $1, false)", msgspec.json.encode(row).decode()
    )


def _script(month: datetime, defaults: Sequence[str]) -> str:
    names = tables_of(month)
    low, high = ids.lowest_id_at(month), ids.lowest_id_at(month_start(month, 1))
    parents = ", ".join(f"ONLY {name}" for name in (*PARTITIONED, *defaults))
    steps = [
        "BEGIN",
        f"SET LOCAL lock_timeout = '{_MONTH_WAIT}'",
        f"SET LOCAL statement_timeout = '{_MONTH_WAIT}'",
        f"LOCK TABLE {', '.join(names.values())} IN ACCESS EXCLUSIVE MODE",
        f"SET LOCAL statement_timeout = '{_PARENTS_WAIT}'",
        f"LOCK TABLE {parents} IN ACCESS EXCLUSIVE MODE",
        *_checks(suffix_of(month), low, high),
        *(f"ALTER TABLE {parent} DETACH PARTITION {name}" for parent, name in names.items()),
        row_changes.drop_triggers_sql(row_changes.of_export(month)),
        *(f"ALTER TABLE {name} RENAME TO archived_{name}" for name in names.values()),
        "INSERT INTO archived_months (month, low, high, label, manifest)"
        " SELECT * FROM jsonb_to_record(current_setting('easypay.archive')::jsonb)"
        " AS row(month text, low uuid, high uuid, label text, manifest jsonb)",
        f"DELETE FROM archive_changes WHERE month = '{suffix_of(month)}'",
        compacted_months.forget_sql(suffix_of(month)),
        "COMMIT",
    ]
    return ";\n".join(steps)


def _checks(suffix: str, low: UUID, high: UUID) -> list[str]:
    """Return statements that fail if something has changed since the export. All are short: the
    tables they read are small."""
    here = (
        f"(payment_id >= '{low}' AND payment_id < '{high}'"
        f" OR operation_id >= '{low}' AND operation_id < '{high}')"
    )
    conditions = (
        f"EXISTS (SELECT FROM archive_changes WHERE month = '{suffix}')",
        f"EXISTS (SELECT FROM unresolved_operations WHERE {here})",
        f"EXISTS (SELECT FROM watched_operations WHERE {here})",
        "EXISTS (SELECT FROM late_charges"
        f" WHERE state IN ('returning', 'needs_person') AND {here})",
        "(SELECT jsonb_agg(name ORDER BY name) FROM migrations)"
        " <> current_setting('easypay.archive')::jsonb -> 'manifest' -> 'migrations'",
    )
    return [f"SELECT refuse('{_CHANGED}') WHERE {condition}" for condition in conditions]
