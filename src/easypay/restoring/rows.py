"""What a restore brings back, as rows. SQL only.

A lost operation is written with an unknown outcome, in one commit with its payment, what the
resolver needs to ask about it, and what its repeat is recognised by. Its outcome is then recorded
like any other. So a run may be cut short anywhere: what is open then is ended by the next run, or
by the resolver.

Every function takes an asyncpg connection.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay import ids
from easypay.mode import MODE
from easypay.payments import store
from easypay.payments.model import (
    KIND,
    PAYMENT_COLUMNS,
    STATE,
    Kind,
    Operation,
    Payment,
    PaymentKey,
    State,
    payment_of,
)
from easypay.payments.resolver_rows import execute_on
from easypay.payments.restored import digest_of_order
from easypay.restoring.story import Owner

_NEWEST: Final = """
    SELECT (SELECT alive_at FROM configuration) AS alive_at,
           (SELECT id FROM operations ORDER BY id DESC LIMIT 1) AS newest,
           db_now() AS now
"""
_CURRENT: Final = """
    SELECT a.merchant_id, a.mode, a.processor FROM processor_accounts a
      JOIN merchants m USING (merchant_id) WHERE m.disabled_at IS NULL
"""
_OWNERS: Final = """
    SELECT l.account, l.merchant_id, l.mode, l.id, m.currencies
      FROM processor_logins l JOIN merchants m USING (merchant_id)
     ORDER BY l.account, l.merchant_id, l.mode
"""
_KNOWN: Final = """
    SELECT i.reference, o.merchant_id, o.id, o.payment_id, o.mode, o.kind, o.state,
           r.operation_id IS NOT NULL AS restored
      FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS i(reference, low, high)
     CROSS JOIN unnest($4::uuid[]) AS m(merchant_id)
     CROSS JOIN LATERAL (SELECT * FROM operations o
                          WHERE o.merchant_id = m.merchant_id AND o.id BETWEEN i.low AND i.high
                            AND o.id BETWEEN $5 AND $6
                          LIMIT 1) o
      LEFT JOIN restored_operations r ON r.merchant_id = o.merchant_id AND r.operation_id = o.id
"""
_OPEN: Final = """
    INSERT INTO unresolved_operations
        (merchant_id, operation_id, payment_id, account, since, next_inquiry_at)
    VALUES ($1, $2, $3, $4, db_now(), db_now() + interval '5 minutes')
    ON CONFLICT DO NOTHING
"""
_PAYMENT: Final = """
    INSERT INTO payments (merchant_id, id, mode, status, amount_minor, currency, capture,
        active_operation, method_type, card_brand, card_last4, processor, order_reference,
        created_at, updated_at, login_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15)
    ON CONFLICT DO NOTHING
"""
_OPERATION: Final = """
    INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor, currency,
        reference, parent_transaction_id, begun_at)
    VALUES ($1, $2, $3, $4, $5, 'unknown', $6, $7, $8, $9, $10)
    ON CONFLICT DO NOTHING
"""
# It was queued at the moment of the copy, and sent later.
_SENT: Final = """
    WITH sent AS (
        UPDATE operations SET state = 'unknown', amount_minor = $5, parent_transaction_id = $6
         WHERE merchant_id = $1 AND id = $2 AND payment_id = $3 AND state = 'queued'
        RETURNING merchant_id, id
    ), moved AS (
        UPDATE payments p SET status = 'processing', version = p.version + 1
          FROM sent WHERE p.merchant_id = sent.merchant_id AND p.mode = $4 AND p.id = $3
           AND p.status = 'pending'
    )
    DELETE FROM queued_operations q USING sent
     WHERE q.merchant_id = sent.merchant_id AND q.operation_id = sent.id
"""
_RESTORED: Final = """
    INSERT INTO restored_operations (merchant_id, operation_id, mode, kind, payment_id,
        transaction_id, amount_minor, currency, order_digest, last4)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT DO NOTHING
"""
_SEEN: Final = "CREATE TEMP TABLE IF NOT EXISTS seen_there (reference text PRIMARY KEY)"
# Live here, and in no list there: voided, or declared expired. The ids are in the text, so that the
# months before are not even opened.
_UNSEEN: Final = f"""
    SELECT {PAYMENT_COLUMNS} FROM payments p
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id > '{{after}}' AND p.login_id = $3
       AND p.active_operation IS NULL AND p.settled_at IS NULL
       AND (p.status = 'authorized' OR p.status = 'captured' AND p.updated_at >= $4)
       AND NOT EXISTS (SELECT FROM operations o JOIN seen_there s USING (reference)
                        WHERE o.merchant_id = p.merchant_id AND o.payment_id = p.id
                          AND o.id > '{{earliest}}' AND o.kind IN ('sale', 'authorize'))
     ORDER BY p.id LIMIT $5
"""
# The same conditions under which a follow-up begins (`statements.BEGIN_FOLLOW_UPS`).
_TAKE: Final = """
    UPDATE payments p
       SET active_operation = CASE WHEN $5 <> 'refund' THEN $4::uuid END,
           refund_reserved_minor = p.refund_reserved_minor
               + CASE WHEN $5 = 'refund' THEN $6::bigint ELSE 0 END
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = $3 AND p.active_operation IS NULL
       AND CASE $5::text
               WHEN 'refund' THEN p.status = 'captured'
                   AND p.refunded_minor + p.refund_reserved_minor + $6 <= p.captured_minor
               WHEN 'capture' THEN p.status = 'authorized'
                   AND $6 BETWEEN 1 AND p.authorized_minor
               ELSE p.status IN ('authorized', 'captured')
                   AND p.refunded_minor + p.refund_reserved_minor = 0
               END
    RETURNING true
"""


class Known(NamedTuple):
    """An operation of ours that has a reference of the processor's books."""

    merchant_id: UUID
    operation_id: UUID
    key: PaymentKey
    kind: Kind
    state: State
    restored: bool


class Newest(NamedTuple):
    """How new the database is, by its own clock."""

    alive_at: datetime | None
    newest: datetime | None
    now: datetime


async def newest(connection: Any) -> Newest:
    row = await connection.fetchrow(_NEWEST)
    made = None if row["newest"] is None else ids.moment_of(row["newest"])
    return Newest(row["alive_at"], made, row["now"])


async def current_accounts(connection: Any) -> Sequence[Any]:
    """Return the merchants, modes and processors that take new payments."""
    found: Sequence[Any] = await connection.fetch(_CURRENT)
    return found


async def owners(connection: Any) -> dict[bytes, list[Owner]]:
    """Return every account that was ever used, and who uses it."""
    found: dict[bytes, list[Owner]] = {}
    for row in await connection.fetch(_OWNERS):
        taken = frozenset(row["currencies"])
        owner = Owner(row["merchant_id"], MODE[row["mode"]], row["id"], taken)
        found.setdefault(row["account"], []).append(owner)
    return found


async def known(
    connection: Any, references: Sequence[str], merchants: Sequence[UUID]
) -> dict[str, Known]:
    """Return the operations that have these references."""
    if not references:
        return {}
    lows, highs = zip(*map(ids.reference_bounds, references), strict=True)
    rows = await connection.fetch(_KNOWN, references, lows, highs, merchants, min(lows), max(highs))
    return {
        row["reference"]: Known(
            row["merchant_id"],
            row["id"],
            PaymentKey(row["merchant_id"], MODE[row["mode"]], row["payment_id"]),
            KIND[row["kind"]],
            STATE[row["state"]],
            row["restored"],
        )
        for row in rows
    }


async def see(connection: Any, references: Sequence[str]) -> None:
    """Note that the processor's lists have these references."""
    await connection.execute(
        "INSERT INTO seen_there SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", references
    )


async def see_nothing(connection: Any) -> None:
    """Forget what was noted, before the lists of another account are read."""
    await connection.execute(_SEEN)
    await connection.execute("TRUNCATE seen_there")


async def unseen(
    connection: Any, owner: Owner, after: UUID, captured_since: datetime, limit: int
) -> list[Payment]:
    """Return the owner's payments that are live here and that no list has named, by their ids: the
    authorized ones made `after` an id, and of these also the captured ones that changed since."""
    sql = _UNSEEN.format(after=after, earliest=store.earliest_child(after))
    rows = await connection.fetch(
        sql, owner.merchant_id, owner.mode, owner.login_id, captured_since, limit
    )
    return [payment_of(row) for row in rows]


async def begin_charge(
    connection: Any,
    account: bytes,
    owners: Sequence[Owner],
    payment: Payment,
    operation: Operation,
    transaction_id: str,
) -> None:
    """Write a lost charge with an unknown outcome: its payment and its operation. If the account
    has several owners, it is known now whose it is (`remember_ownerless`)."""
    async with connection.transaction():
        if len(owners) > 1:
            await connection.execute(
                "DELETE FROM restored_operations"
                " WHERE merchant_id = ANY ($1) AND operation_id = $2 AND payment_id IS NULL",
                [owner.merchant_id for owner in owners],
                operation.id,
            )
        await connection.execute(
            _PAYMENT,
            *(payment.merchant_id, payment.id, payment.mode, payment.status, payment.amount_minor),
            *(payment.currency, payment.capture, payment.active_operation, payment.method_type),
            *(payment.card_brand, payment.card_last4, payment.processor),
            *(payment.details.order_reference, payment.created_at, payment.login_id),
        )
        await _insert(connection, account, operation)
        await _remember(connection, operation, payment, transaction_id, "charge")


async def begin_follow_up(
    connection: Any,
    account: bytes,
    operation: Operation,
    payment: Payment,
    refund_id: str | None = None,
) -> bool:
    """Write a lost operation of a payment with an unknown outcome. False if the payment does not
    allow it. `refund_id`: the processor's transaction, of a refund."""
    async with connection.transaction():
        taken = await connection.fetchval(
            _TAKE,
            *(operation.merchant_id, operation.mode, operation.payment_id, operation.id),
            *(operation.kind, operation.amount_minor),
        )
        if not taken:
            return False
        await _insert(connection, account, operation)
        if refund_id is not None:
            await _remember(connection, operation, payment, refund_id, "refund")
    return True


async def take_from_queue(
    connection: Any, account: bytes, operation: Operation, amount: int, parent: str | None
) -> bool:
    """Take an operation for sent that is queued here, so that no worker sends it again. False if
    its payment does not allow it."""
    named = (operation.merchant_id, operation.mode, operation.payment_id, operation.id)
    async with connection.transaction():
        if operation.kind is Kind.REFUND and not await connection.fetchval(
            _TAKE, *named, operation.kind, amount
        ):
            return False
        await connection.execute(
            _SENT,
            *(operation.merchant_id, operation.id, operation.payment_id, operation.mode),
            *(amount, parent),
        )
        await connection.execute(
            _OPEN, operation.merchant_id, operation.id, operation.payment_id, account
        )
    return True


async def remember_ownerless(
    connection: Any,
    owners: Sequence[Owner],
    operation_id: UUID,
    *,
    transaction_id: str,
    amount_minor: int,
    currency: str,
    order_reference: str | None,
    last4: str | None,
) -> None:
    """Let a charge be known that belongs to one of several merchants: none of them repeats it."""
    await connection.executemany(
        _RESTORED,
        [
            (
                *(owner.merchant_id, operation_id, owner.mode, "charge", None, transaction_id),
                *(amount_minor, currency, digest_of_order(order_reference), last4),
            )
            for owner in owners
        ],
    )


async def ended(connection: Any, operation: Operation) -> None:
    """Take an operation from the resolver's list: its outcome was recorded."""
    statement = "DELETE FROM unresolved_operations WHERE NOT held AND"
    await execute_on(connection, [(operation.merchant_id, operation.id)], statement)


async def present(connection: Any, operation: Operation) -> tuple[Operation, Payment]:
    """Return an operation and its payment, as they are now."""
    found = await store.find_operation(connection, operation.merchant_id, operation.id)
    key = PaymentKey(operation.merchant_id, operation.mode, operation.payment_id)
    payment = await store.find_payment(connection, key)
    assert found is not None, "it was written before"
    assert payment is not None, "an operation and its payment are written together"
    return found, payment


async def _insert(connection: Any, account: bytes, operation: Operation) -> None:
    named = (operation.merchant_id, operation.id, operation.payment_id)
    await connection.execute(
        _OPERATION,
        *(*named, operation.mode, operation.kind, operation.amount_minor, operation.currency),
        *(operation.reference, operation.parent_transaction_id, operation.begun_at),
    )
    await connection.execute(_OPEN, *named, account)


async def _remember(
    connection: Any, operation: Operation, payment: Payment, transaction_id: str, kind: str
) -> None:
    await connection.execute(
        _RESTORED,
        *(operation.merchant_id, operation.id, operation.mode, kind, payment.id, transaction_id),
        *(operation.amount_minor, operation.currency),
        *(digest_of_order(payment.details.order_reference), payment.card_last4),
    )
