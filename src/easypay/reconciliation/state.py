"""What reconciliation has done and what is open: for metrics, the API and the command line. SQL."""

from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay.mode import Mode
from easypay.reconciliation.model import BREAK_COLUMNS, Break

Runner = Any


class OpenOfKind(NamedTuple):
    """The open differences of one kind. `oldest_at` is when the first was found."""

    kind: str
    number: int
    oldest_at: datetime
    oldest_s: float


class AccountState(NamedTuple):
    """When an account's books were read, and how far."""

    account: bytes
    read_until: datetime | None
    last_started_at: datetime | None
    last_ended_at: datetime | None
    last_failure: str | None
    retired_at: datetime | None
    shared_at: datetime | None
    age_s: float


_OPEN: Final = """
    SELECT kind, count(*), min(found_at), extract(epoch FROM db_now() - min(found_at))::float8
      FROM reconciliation_breaks
     WHERE state = 'open' {of} GROUP BY kind ORDER BY kind
"""
# An account that was never read counts from when it came.
_ACCOUNTS: Final = """
    SELECT l.account, a.read_until, a.last_started_at, a.last_ended_at, a.last_failure,
           a.retired_at, a.shared_at,
           extract(epoch FROM db_now() - coalesce(a.last_ended_at, l.since))::float8
      FROM (SELECT account, min(created_at) AS since FROM processor_logins {of} GROUP BY account) l
      LEFT JOIN account_books a ON a.account = l.account
     ORDER BY l.since, l.account
"""
_OF: Final = "merchant_id = $1 AND mode = $2"
_PAGE: Final = f"""
    SELECT {BREAK_COLUMNS} FROM reconciliation_breaks
     WHERE merchant_id = $1 AND mode = $2 AND id < $3
       AND ($4::text IS NULL OR state = $4) AND ($5::text IS NULL OR kind = $5)
     ORDER BY id DESC LIMIT $6
"""
_ONE: Final = f"""
    SELECT {BREAK_COLUMNS} FROM reconciliation_breaks
     WHERE id = $3 AND merchant_id = $1 AND mode = $2
"""
_ALL: Final = f"""
    SELECT {BREAK_COLUMNS} FROM reconciliation_breaks
     WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR kind = $2)
     ORDER BY found_at, id LIMIT $3
"""


async def open_by_kind(runner: Runner, of: tuple[UUID, Mode] | None = None) -> list[OpenOfKind]:
    """Return what is open: of a merchant and mode, or of all."""
    statement = _OPEN.format(of=f"AND {_OF}" if of else "")
    return [OpenOfKind(*row) for row in await runner.fetch(statement, *(of or ()))]


async def accounts(runner: Runner, of: tuple[UUID, Mode] | None = None) -> list[AccountState]:
    """Return every account: of a merchant and mode, or of all."""
    statement = _ACCOUNTS.format(of=f"WHERE {_OF}" if of else "")
    return [AccountState(*row) for row in await runner.fetch(statement, *(of or ()))]


async def page(
    runner: Runner,
    merchant_id: UUID,
    mode: Mode,
    below: UUID,
    *,
    state: str | None,
    kind: str | None,
    limit: int,
) -> list[Break]:
    """Return a merchant's differences, newest first."""
    rows = await runner.fetch(_PAGE, merchant_id, mode, below, state, kind, limit)
    return [Break(*row) for row in rows]


async def one(runner: Runner, merchant_id: UUID, mode: Mode, break_id: UUID) -> Break | None:
    """Return one of a merchant's differences."""
    row = await runner.fetchrow(_ONE, merchant_id, mode, break_id)
    return None if row is None else Break(*row)


async def oldest(runner: Runner, *, state: str | None, kind: str | None, limit: int) -> list[Break]:
    """Return differences of all merchants, the oldest first."""
    return [Break(*row) for row in await runner.fetch(_ALL, state, kind, limit)]
