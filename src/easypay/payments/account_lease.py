"""Which account an open operation belongs to, and the lease of the process that reads it. SQL only.

Every function takes an asyncpg pool or connection.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from easypay.payments.resolver_rows import (
    FRESH_LOOKS,
    AccountWork,
    Case,
    Id,
    execute_on,
    joins,
)

Runner = Any

_FILL: Final = """
    UPDATE unresolved_operations w SET account = l.account
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u(merchant_id, operation_id, payment_id)
      {joins}
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     WHERE w.account IS NULL AND NOT w.not_sent
       AND w.merchant_id = u.merchant_id AND w.operation_id = u.operation_id
"""
_UNFILLED: Final = """
    SELECT merchant_id, operation_id, payment_id FROM unresolved_operations
     WHERE account IS NULL AND NOT not_sent LIMIT $1
"""
_WITHOUT_LOGIN: Final = """
    SELECT u.merchant_id, u.operation_id, o.mode, p.processor
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u(merchant_id, operation_id, payment_id)
      {joins}
     WHERE NOT EXISTS (SELECT FROM processor_logins l
                        WHERE l.merchant_id = u.merchant_id AND l.id = p.login_id)
"""


async def fill_accounts(runner: Runner, limit: int) -> list[tuple[UUID, UUID, str, str]]:
    """Set the account of new open operations: the one that took their payment.

    Returns (merchant, operation, mode, processor) of those whose payment does not store its
    account.
    """
    unfilled = await runner.fetch(_UNFILLED, limit)
    if not unfilled:
        return []
    ids = [[row[n] for row in unfilled] for n in range(3)]
    joined = joins(ids[1], ids[2])
    await runner.execute(_FILL.format(joins=joined), *ids)
    # Only these: there may be a hundred thousand more that have not had their turn.
    return [tuple(row) for row in await runner.fetch(_WITHOUT_LOGIN.format(joins=joined), *ids)]


NO_ACCOUNT: Final = bytes(32)
"""Stands for the account of operations whose merchant has none."""


async def set_account(runner: Runner, operations: Collection[Id], account: bytes) -> None:
    """Set the account of operations whose payment does not store it."""
    statement = "UPDATE unresolved_operations SET account = $3 WHERE account IS NULL AND"
    await execute_on(runner, operations, statement, account)


async def forget_account(runner: Runner, cases: Sequence[Case]) -> None:
    """Clear NO_ACCOUNT from operations, so that their account is looked up again."""
    statement = "UPDATE unresolved_operations SET account = NULL WHERE account = $3 AND"
    await execute_on(runner, [case.id for case in cases], statement, NO_ACCOUNT)


_DUE: Final = f"""
    SELECT d.account, d.old FROM (
        SELECT account, inquiries >= {FRESH_LOOKS} AS old, min(next_inquiry_at) AS due
          FROM unresolved_operations
         WHERE account IS NOT NULL AND NOT not_sent AND next_inquiry_at <= db_now()
         GROUP BY 1, 2
         UNION ALL
        SELECT account, true, min(next_look_at) FROM watched_operations
         WHERE next_look_at <= db_now() GROUP BY 1
    ) d
      LEFT JOIN account_passes a ON a.leased_until > db_now()
       AND a.account = CASE WHEN d.old THEN d.account || 'old'::bytea ELSE d.account END
     WHERE a.account IS NULL
     GROUP BY 1, 2 ORDER BY min(d.due) LIMIT $1
"""
_LEASE: Final = """
    INSERT INTO account_passes AS a (account, leased_until, holder)
    VALUES ($1, db_now() + make_interval(secs => $3), $2)
    ON CONFLICT (account) DO UPDATE
        SET leased_until = excluded.leased_until, holder = excluded.holder
      WHERE a.leased_until <= db_now() OR a.holder = excluded.holder
    RETURNING true
"""


async def due(runner: Runner, limit: int) -> list[AccountWork]:
    """Return accounts with due work that no process has leased, the longest waiting first."""
    return [AccountWork(*row) for row in await runner.fetch(_DUE, limit)]


async def lease(runner: Runner, work: AccountWork, holder: UUID, seconds: float) -> bool:
    """Take or renew the lease. Returns False if another process has it."""
    return bool(await runner.fetchval(_LEASE, work.lease, holder, seconds))


async def release(runner: Runner, work: AccountWork, holder: UUID) -> None:
    """End the lease."""
    await runner.execute(
        "DELETE FROM account_passes WHERE account = $1 AND holder = $2", work.lease, holder
    )


async def mind_the_clock(runner: Runner, longest_s: float) -> None:
    """End leases that last for more than `longest_s` seconds: the database's clock was set back."""
    await runner.execute(
        "DELETE FROM account_passes WHERE leased_until > db_now() + make_interval(secs => $1)",
        longest_s,
    )
