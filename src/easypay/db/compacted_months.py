"""Which months were compacted: their operations have full pages and no stored replies.

A row of `compacted_months` is written in the transaction that swaps the tables. It goes when the
month is archived, because a restored month has what the files hold.
"""

from datetime import datetime
from typing import Any

import msgspec

# `Any`, because a pool, a connection and a pooled connection can all run queries.
Runner = Any


class CompactedMonth(msgspec.Struct, frozen=True):
    """A compacted month, and the bytes of its operations with their indexes."""

    month: str
    """`2026_11`, as the names of the tables end."""
    operations: int
    bytes_before: int
    bytes_after: int
    compacted_at: datetime


async def every(runner: Runner) -> list[CompactedMonth]:
    """Return all compacted months, oldest first."""
    rows = await runner.fetch(
        "SELECT month, operations, bytes_before, bytes_after, compacted_at FROM compacted_months"
        " ORDER BY month"
    )
    return [CompactedMonth(*row) for row in rows]


async def note(
    runner: Runner, month: str, operations: int, bytes_before: int, bytes_after: int
) -> None:
    """Note that a month is compacted."""
    await runner.execute(note_sql(month, operations, bytes_before, bytes_after))


def note_sql(month: str, operations: int, bytes_before: int, bytes_after: int) -> str:
    """Return the statement that notes it, for a script, which has no parameters."""
    return (
        "INSERT INTO compacted_months (month, operations, bytes_before, bytes_after, compacted_at)"
        f" VALUES ('{month}', {operations}, {bytes_before}, {bytes_after}, db_now())"
        " ON CONFLICT (month) DO UPDATE SET operations = excluded.operations,"
        " bytes_before = excluded.bytes_before, bytes_after = excluded.bytes_after,"
        " compacted_at = excluded.compacted_at"
    )


def forget_sql(month: str) -> str:
    """Return the statement that forgets it."""
    return f"DELETE FROM compacted_months WHERE month = '{month}'"
