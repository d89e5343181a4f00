"""What people say of an account's books: nobody reads them any more, or they are not ours alone.

Each change is audited. Differences that are open stay as they are. SQL only.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay.payments.audit_log import write_down
from easypay.reconciliation.reading import LOOK_BACK

# An account whose books were never read has no row yet. A row that says so already is left alone.
_MARK: Final = """
    INSERT INTO account_books AS a (account, read_until, {column})
    SELECT account, min(created_at), {value} FROM processor_logins WHERE account = $1
     GROUP BY account
    ON CONFLICT (account) DO UPDATE SET {column} = excluded.{column}, refusals = 0
     WHERE (a.{column} IS NULL) <> (excluded.{column} IS NULL)
 RETURNING true
"""
# Whose charge a refund gives back is asked only where other programs charge, too.
_READ_AGAIN: Final = """
    UPDATE settled_batches b SET read_at = NULL
      FROM reconciliation_breaks d
     WHERE d.account = $1 AND d.state = 'open' AND d.kind = 'unexplained_refund'
       AND d.operation_id IS NULL AND b.account = $1 AND b.batch_id = d.batch_id
       AND b.settled_at > db_now() - $2::interval
"""
MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "retire": ("retired_at", "db_now()"),
    "resume": ("retired_at", "NULL::timestamptz"),
    "share": ("shared_at", "db_now()"),
    "unshare": ("shared_at", "NULL::timestamptz"),
}
"""What can be said, and what it changes."""
_ALL: Final = """
    SELECT l.account, l.merchants, a.read_until, a.last_failure, a.retired_at, a.shared_at
      FROM (SELECT account, min(created_at) AS since, array_agg(DISTINCT merchant_id) AS merchants
              FROM processor_logins GROUP BY account) l
      LEFT JOIN account_books a ON a.account = l.account
     ORDER BY l.since, l.account
"""


class Books(NamedTuple):
    """An account's books as a person sees them."""

    account: bytes
    merchants: list[UUID]
    read_until: datetime | None
    failure: str | None
    retired_at: datetime | None
    shared_at: datetime | None


async def all_books(runner: Any) -> list[Books]:
    """Return the books of every account, the oldest account first."""
    return [Books(*row) for row in await runner.fetch(_ALL)]


async def mark(connection: Any, account: bytes, what: str, actor: str, reason: str) -> bool:
    """Say one of MARKS of an account, audited, in the caller's transaction. False: it was so."""
    column, value = MARKS[what]
    if not await connection.fetchval(_MARK.format(column=column, value=value), account):
        return False
    if what == "share":
        await connection.execute(_READ_AGAIN, account, LOOK_BACK - timedelta(days=1))
    await write_down(
        connection, actor, f"books.{what}", f"books of {account.hex()}", {"reason": reason}
    )
    return True
