"""Which months were archived: their rows are in files, and their ids answer 410.

A row of `archived_months` is written in the transaction that detaches the month's tables, and
removed in the one that attaches them again.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

# `Any`, because a pool, a connection and a pooled connection can all run queries.
Runner = Any


class ArchivedMonth(msgspec.Struct, frozen=True, gc=False):
    """A month that was archived. `label` is what its operator wants merchants to be told."""

    month: str
    label: str
    manifest: str
    """The archive's manifest as JSON text."""
    archived_at: datetime


_COLUMNS: Final = "month, label, manifest::text, archived_at"


async def of_id(runner: Runner, value: UUID) -> ArchivedMonth | None:
    """Return the archived month in which an id lies, or None."""
    row = await runner.fetchrow(
        f"SELECT {_COLUMNS} FROM archived_months WHERE low <= $1 AND high > $1", value
    )
    return None if row is None else ArchivedMonth(*row)


async def named(runner: Runner, month: str) -> ArchivedMonth | None:
    """Return the archived month of this name (`2026_01`), or None."""
    row = await runner.fetchrow(f"SELECT {_COLUMNS} FROM archived_months WHERE month = $1", month)
    return None if row is None else ArchivedMonth(*row)


async def every(runner: Runner) -> list[ArchivedMonth]:
    """Return all archived months, oldest first."""
    rows = await runner.fetch(f"SELECT {_COLUMNS} FROM archived_months ORDER BY month")
    return [ArchivedMonth(*row) for row in rows]
