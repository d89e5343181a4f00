"""The SQL of payments outside the hot path: reads, lists, restarts.

Every function takes an asyncpg pool or connection.
"""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.payments.model import (
    OPERATION_COLUMNS,
    PAYMENT_COLUMNS,
    Operation,
    Payment,
    PaymentKey,
    operation_of,
    payment_of,
)

# `Any`, because a pool, a connection and a pooled connection can all run queries.
Runner = Any


TELL: Final = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
        amount_minor, currency, created_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[],
        $7::text[], $8::bigint[], $9::text[], $10::timestamptz[])
"""
"""Writes events of many payments: a list for each column."""


class KeyUse(msgspec.Struct, frozen=True, gc=False):
    """What an idempotency key was used for."""

    fingerprint: bytes
    created_at: datetime
    operation: Operation


async def find_key(runner: Runner, merchant_id: UUID, mode: Mode, key: str) -> KeyUse | None:
    """Return the operation that used a key, with its stored reply, or None."""
    claimed = await runner.fetchrow(
        "SELECT fingerprint, created_at, operation_id FROM idempotency_keys"
        " WHERE merchant_id = $1 AND mode = $2 AND key = $3",
        merchant_id,
        mode,
        key,
    )
    if claimed is None:
        return None
    operation = await find_operation(runner, merchant_id, claimed["operation_id"])
    assert operation is not None, "a key and its operation are written together"
    return KeyUse(claimed["fingerprint"], claimed["created_at"], operation)


async def find_operation(runner: Runner, merchant_id: UUID, operation_id: UUID) -> Operation | None:
    """Return one operation, or None."""
    row = await runner.fetchrow(
        f"SELECT {OPERATION_COLUMNS} FROM operations WHERE merchant_id = $1 AND id = $2",
        merchant_id,
        operation_id,
    )
    return None if row is None else operation_of(row)


async def find_payment(runner: Runner, key: PaymentKey) -> Payment | None:
    """Return one payment, or None."""
    row = await runner.fetchrow(
        f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE merchant_id = $1 AND mode = $2 AND id = $3",
        key.merchant_id,
        key.mode,
        key.payment_id,
    )
    return None if row is None else payment_of(row)


def earliest_child(payment_id: UUID) -> UUID:
    """Return a bound that skips older months. Clocks of two hosts differ by less than a day."""
    return ids.lowest_id_at(ids.moment_of(payment_id) - timedelta(days=1))


_REOPEN: Final = f"""
    WITH reopened AS (
        UPDATE operations SET state = 'in_flight', attempt = attempt + 1, begun_at = db_now()
         WHERE merchant_id = $1 AND id = $2 AND state = 'not_sent'
        RETURNING {OPERATION_COLUMNS}
    ), moved AS (
        UPDATE payments p SET login_id = $3, version = p.version + 1, processor = coalesce(
               (SELECT processor FROM processor_logins WHERE merchant_id = $1 AND id = $3),
               p.processor)
          FROM reopened r
         WHERE p.merchant_id = r.merchant_id AND p.mode = r.mode AND p.id = r.payment_id
           AND p.id = $4  -- so that the months of other payments are left alone
           AND r.kind IN ('authorize', 'sale') AND p.login_id IS DISTINCT FROM $3
    ), unassigned AS (
        UPDATE unresolved_operations u SET account = NULL
          FROM reopened r WHERE u.merchant_id = r.merchant_id AND u.operation_id = r.id
    )
    SELECT {OPERATION_COLUMNS} FROM reopened
"""


async def reopen(runner: Runner, operation: Operation, login_id: UUID | None) -> Operation | None:
    """Restart an operation that was proven never sent. None if another request was quicker.

    If it creates a payment, no account has seen that payment yet: it moves to `login_id`, the
    merchant's current account, and inquiries go there too.
    """
    row = await runner.fetchrow(
        _REOPEN, operation.merchant_id, operation.id, login_id, operation.payment_id
    )
    return None if row is None else operation_of(row)


async def look_now(runner: Runner, operation: Operation) -> None:
    """Make the next look for an operation that was called absent due now."""
    await runner.execute(
        "INSERT INTO watched_operations (merchant_id, operation_id, payment_id, account, purpose,"
        "   since, until, next_look_at)"
        " SELECT p.merchant_id, $3, p.id, l.account, 'absent', db_now(),"
        "        db_now() + interval '72 hours', db_now()"
        "   FROM payments p JOIN processor_logins l"
        "     ON l.merchant_id = p.merchant_id AND l.id = p.login_id"
        "  WHERE p.merchant_id = $1 AND p.mode = $4 AND p.id = $2"
        " ON CONFLICT (merchant_id, operation_id) DO UPDATE SET next_look_at = db_now()",
        operation.merchant_id,
        operation.payment_id,
        operation.id,
        operation.mode,
    )
