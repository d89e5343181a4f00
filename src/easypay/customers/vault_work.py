"""What is left to do at the processor's vault, as rows of a work list. SQL only; see `mending`.

A row is written with the intent and deleted with the outcome, each in the same transaction. It
names a method or a profile, whose own row says what is to be done.
"""

from typing import Any, Final, Literal
from uuid import UUID

from easypay.db.work_list import WorkList
from easypay.mode import Mode

Runner = Any
Kind = Literal["method", "profile"]

VAULT_WORK: Final = WorkList(
    "vault_work",
    key=(("merchant_id", "uuid"), ("mode", "text"), ("kind", "text"), ("id", "uuid")),
)

# What was just asked for is more than a worker knows that has claimed the row before: the next
# attempt number fences it, so it cannot end the new work with the old.
_BEGIN: Final = """
    INSERT INTO vault_work AS w (merchant_id, mode, kind, id, due_at)
    VALUES ($1, $2, $3, $4, db_now() + make_interval(secs => $5))
    ON CONFLICT (merchant_id, mode, kind, id) DO UPDATE
       SET due_at = excluded.due_at, parked_at = NULL, attempt = w.attempt + (w.attempt > 0)::int
"""
_JOIN: Final = """
    INSERT INTO vault_work AS w (merchant_id, mode, kind, id, due_at)
    VALUES ($1, $2, $3, $4, db_now() + make_interval(secs => $5))
    ON CONFLICT (merchant_id, mode, kind, id) DO UPDATE
       SET due_at = CASE WHEN w.parked_at IS NULL THEN w.due_at ELSE db_now() END, parked_at = NULL
"""
_END: Final = """
    DELETE FROM vault_work WHERE merchant_id = $1 AND mode = $2 AND kind = $3 AND id = $4
"""

_PARKED: Final = """
    SELECT w.kind, w.id, w.reason FROM vault_work w
     WHERE w.merchant_id = $1 AND w.mode = $2 AND w.parked_at IS NOT NULL
       AND (w.kind, w.id) IN (
           SELECT 'profile', id FROM customer_profiles
            WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
           UNION ALL
           SELECT 'method', id FROM payment_methods
            WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3)
     ORDER BY w.kind, w.id
"""


async def begin(
    runner: Runner, kind: Kind, merchant_id: UUID, mode: Mode, row_id: UUID, in_s: float
) -> None:
    """Let a worker look after a method or profile in `in_s` seconds."""
    await runner.execute(_BEGIN, merchant_id, mode, kind, row_id, in_s)


async def join(
    runner: Runner, kind: Kind, merchant_id: UUID, mode: Mode, row_id: UUID, in_s: float
) -> None:
    """The same for what joins work that is under way: that is not put off."""
    await runner.execute(_JOIN, merchant_id, mode, kind, row_id, in_s)


async def end(runner: Runner, kind: Kind, merchant_id: UUID, mode: Mode, row_id: UUID) -> None:
    """Record that nothing is left to do about a method or profile."""
    await runner.execute(_END, merchant_id, mode, kind, row_id)


async def parked(
    runner: Runner, merchant_id: UUID, mode: Mode, customer_id: UUID
) -> list[tuple[Kind, UUID, str]]:
    """Return what waits for a person at a customer's methods and profiles: each with its reason."""
    return [tuple(row) for row in await runner.fetch(_PARKED, merchant_id, mode, customer_id)]
