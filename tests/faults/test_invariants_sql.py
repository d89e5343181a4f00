"""The money rules are constraints in the database, so they hold for every writer."""

import asyncio
import uuid
from itertools import product

import asyncpg
import pytest

from easypay.payments.model import EDGES, Status
from harness import Shop, Stack, audit, connected, held, payment_uuid, until_locked


async def refused_by(stack: Stack, sql: str, *arguments: object) -> str | None:
    """Return the name of the constraint that refuses the statement, or None. Rolls it back."""
    connection = await asyncpg.connect(stack.dsn)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(sql, *arguments)
    except (asyncpg.CheckViolationError, asyncpg.UniqueViolationError) as error:
        return error.constraint_name
    except asyncpg.NotNullViolationError as error:
        return f"{error.column_name} is null"
    else:
        return None
    finally:
        await transaction.rollback()
        await connection.close()


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("refunded_minor = 2501", "refund_within_capture"),
        ("refund_reserved_minor = 2501", "refund_within_capture"),
        ("refunded_minor = 1251, refund_reserved_minor = 1250", "refund_within_capture"),
        ("refunded_minor = -1", "refund_within_capture"),
        ("refund_reserved_minor = -1", "refund_within_capture"),
        ("refunded_minor = 2600, refund_reserved_minor = -100", "refund_within_capture"),
        ("captured_minor = 2501", "capture_within_authorization"),
        ("captured_minor = -1", "capture_within_authorization"),
        ("authorized_minor = 2501", "authorized_within_amount"),
        ("authorized_minor = 2499", "capture_within_authorization"),
        ("authorized_minor = -1, captured_minor = -1", "authorized_within_amount"),
        ("amount_minor = 0", "amount_is_positive"),
        ("amount_minor = -2500", "amount_is_positive"),
        ("amount_minor = 2499", "authorized_within_amount"),
        ("captured_minor = 0", "captured_means_money"),
        ("status = 'voided'", "captured_means_money"),
        ("status = 'paid'", "payment_status_edge"),
        ("mode = 'both'", "payment_mode"),
        ("capture = 'sometimes'", "payment_capture"),
        ("currency = NULL", "currency is null"),
    ],
)
async def test_a_payment_refuses_amounts_that_cannot_be(
    shared_stack: Stack, shop: Shop, change: str, constraint: str
) -> None:
    payment = await shop.paid(2500)
    sql = f"UPDATE payments SET {change} WHERE merchant_id = $1 AND id = $2"
    found = await refused_by(shared_stack, sql, shop.merchant_id, payment_uuid(payment["id"]))
    if constraint in ("amount_is_positive", "authorized_within_amount"):
        # An amount that is not positive is also less than what was authorized.
        assert found in ("amount_is_positive", "authorized_within_amount", constraint)
    else:
        assert found == constraint
    assert await shop.payment(payment["id"]) == payment


async def test_a_refund_within_the_captured_amount_is_no_violation(
    shared_stack: Stack, shop: Shop
) -> None:
    """Proves that the refusals above come from the constraints, not from a bad statement."""
    payment = await shop.paid(2500)
    sql = "UPDATE payments SET {} WHERE merchant_id = $1 AND id = $2"
    for change in (
        "refunded_minor = 1250, refund_reserved_minor = 1250",
        "captured_minor = 0, status = 'voided'",
        "amount_minor = 2501",
    ):
        arguments = shop.merchant_id, payment_uuid(payment["id"])
        assert await refused_by(shared_stack, sql.format(change), *arguments) is None


async def test_a_status_edge_outside_the_table_is_refused(shared_stack: Stack, shop: Shop) -> None:
    """Writes all 81 pairs directly: the database allows exactly the table's edges."""
    payment_id = payment_uuid((await shop.paid(2500))["id"])
    async with connected(shared_stack.dsn) as connection:
        for start, end in product(Status, Status):
            outer = connection.transaction()
            await outer.start()
            # Set the first status as only the table's owner can.
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(_set_status(start), shop.merchant_id, payment_id)
            await connection.execute("SET LOCAL session_replication_role = origin")
            try:
                await connection.execute(_set_status(end), shop.merchant_id, payment_id)
                refused = None
            except asyncpg.CheckViolationError as error:
                refused = error.constraint_name
            await outer.rollback()
            legal = start == end or (start, end) in EDGES
            assert refused == (None if legal else "payment_status_edge"), (start, end)


def _set_status(status: Status) -> str:
    captured = 2500 if status is Status.CAPTURED else 0
    return (
        f"UPDATE payments SET status = '{status}', authorized_minor = 2500,"
        f" captured_minor = {captured} WHERE merchant_id = $1 AND id = $2"
    )


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'perhaps'", "operation_state"),
        ("kind = 'chargeback'", "operation_kind"),
        ("mode = 'both'", "operation_mode"),
        ("amount_minor = -1", "operation_amount"),
        ("reference = 'short'", "reference_length"),
        ("reply_status = NULL", "reply_is_whole"),
        ("reply_body = NULL", "reply_is_whole"),
    ],
)
async def test_an_operation_refuses_impossible_values(
    shared_stack: Stack, shop: Shop, change: str, constraint: str
) -> None:
    await shop.paid(2500)
    sql = f"UPDATE operations SET {change} WHERE merchant_id = $1"
    assert await refused_by(shared_stack, sql, shop.merchant_id) == constraint


async def test_a_key_stands_for_one_operation(shared_stack: Stack, shop: Shop) -> None:
    await shop.paid(2500, key="taken")
    sql = (
        "INSERT INTO idempotency_keys"
        " SELECT merchant_id, mode, key, fingerprint, $2, payment_id, created_at"
        "   FROM idempotency_keys WHERE merchant_id = $1"
    )
    refused = await refused_by(shared_stack, sql, shop.merchant_id, uuid.uuid4())
    assert refused == "idempotency_keys_pkey"
    for change, constraint in (
        ("key = ''", "key_length"),
        ("key = repeat('k', 256)", "key_length"),
        ("fingerprint = 'short'", "fingerprint_length"),
    ):
        change_key = f"UPDATE idempotency_keys SET {change} WHERE merchant_id = $1"
        assert await refused_by(shared_stack, change_key, shop.merchant_id) == constraint
    assert await audit(shared_stack, shop) == []


@pytest.mark.parametrize("kind", ["capture", "refund"])
async def test_a_payment_that_another_session_is_changing_is_waited_for(
    shared_stack: Stack, shop: Shop, kind: str
) -> None:
    """Begin and record each meet the row locked, and changed once unlocked. Neither may miss it: in
    some plans PostgreSQL 18 loses a row of a partitioned table that has just changed."""
    payment = await shop.paid(2500, capture="manual")
    if kind == "refund":
        await shop.capture(payment["id"])
        await shared_stack.simulator.post("/settle")
    await shared_stack.simulator.slow(shop.login, ms=200)
    before = len(await shared_stack.simulator.truth(login=shop.login))
    changed = "UPDATE payments SET version = version + 1 WHERE id = $1"
    payment_id = payment_uuid(payment["id"])
    async with held(shared_stack.dsn, changed, payment_id):
        ask = shop.capture if kind == "capture" else shop.refund
        asked = asyncio.create_task(ask(payment["id"], 900))
        await until_locked(shared_stack.dsn, what="begin waits for the row")
    await shared_stack.charges(shop, before + 1)
    async with held(shared_stack.dsn, changed, payment_id):
        await until_locked(shared_stack.dsn, what="record waits for the row")
    answer = await asked
    assert answer.status_code == 201, answer.text
    assert await audit(shared_stack, shop) == []
