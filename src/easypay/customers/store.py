"""Customers: made, read, changed and deleted here. What the processor has is in `method_rows`.

Functions that write take an asyncpg connection, on which they open a transaction. Every transaction
locks the customer's row first, then its profiles and methods, so that none waits for another in a
circle.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from easypay import ids
from easypay.customers import events
from easypay.customers.model import (
    CUSTOMER_COLUMNS,
    IS_DEFAULT,
    METHOD_COLUMNS,
    Asked,
    Customer,
    CustomerFields,
    Method,
    State,
    customer_of,
    method_of,
)
from easypay.customers.refusals import AMBIGUOUS, NOT_STORED
from easypay.customers.views import customer_view, method_view
from easypay.errors import (
    FieldError,
    IdempotencyKeyReused,
    NotFound,
    PreconditionFailed,
    ValidationFailed,
)
from easypay.mode import MODE, Mode

Runner = Any

_REFERENCE_INDEX: Final = "customers_reference"
_BY_KEY: Final = f"""
    SELECT {CUSTOMER_COLUMNS}, request_fingerprint FROM customers
     WHERE merchant_id = $1 AND mode = $2 AND idempotency_key = $3
"""
_INSERT: Final = f"""
    INSERT INTO customers (merchant_id, mode, id, reference, email, name, description, metadata,
        idempotency_key, request_fingerprint)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10)
    ON CONFLICT (merchant_id, mode, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING {CUSTOMER_COLUMNS}
"""
_GET: Final = f"""
    SELECT {CUSTOMER_COLUMNS} FROM customers WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_LIST: Final = f"""
    SELECT {CUSTOMER_COLUMNS} FROM customers
     WHERE merchant_id = $1 AND mode = $2 AND id < $3 AND deleted_at IS NULL{{more}}
     ORDER BY id DESC LIMIT $4
"""
_BY_REFERENCE: Final = " AND reference = ${n}"
_BY_EMAIL: Final = " AND lower(email) = lower(${n})"
_UPDATE: Final = f"""
    UPDATE customers
       SET reference = $4, email = $5, name = $6, description = $7, metadata = $8::jsonb,
           default_method = $9, version = version + 1, updated_at = db_now()
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
    RETURNING {CUSTOMER_COLUMNS}
"""
_DELETE: Final = f"""
    UPDATE customers
       SET deleted_at = db_now(), default_method = NULL, version = version + 1,
           updated_at = db_now()
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
    RETURNING {CUSTOMER_COLUMNS}
"""
_DELETE_METHODS: Final = f"""
    UPDATE payment_methods m
       SET state = 'deleting', wanted = NULL, version = version + 1, updated_at = db_now()
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.customer_id = $3 AND m.state = 'active'
    RETURNING {METHOD_COLUMNS}
"""
# A profile that was never shown may have been made late, unless its creation was refused.
_DELETE_PROFILES: Final = f"""
    WITH gone AS (
        UPDATE customer_profiles p SET state = 'deleting'
         WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
           AND (state = 'active' OR (state = 'failed' AND EXISTS (
                SELECT FROM payment_methods m
                 WHERE m.merchant_id = p.merchant_id AND m.mode = p.mode
                   AND m.customer_id = p.customer_id AND m.profile_id = p.id
                   AND m.failure->>'word' IN ('{NOT_STORED}', '{AMBIGUOUS}'))))
        RETURNING merchant_id, mode, id
    )
    INSERT INTO vault_work AS w (merchant_id, mode, kind, id, due_at)
    SELECT merchant_id, mode, 'profile', id, db_now() + make_interval(secs => $4) FROM gone
    ON CONFLICT (merchant_id, mode, kind, id) DO UPDATE
       SET due_at = excluded.due_at, parked_at = NULL, attempt = w.attempt + (w.attempt > 0)::int
    RETURNING id
"""
_GET_METHOD: Final = f"""
    SELECT {METHOD_COLUMNS}, {IS_DEFAULT}
      FROM payment_methods m
      JOIN customers c ON c.merchant_id = m.merchant_id AND c.mode = m.mode
           AND c.id = m.customer_id
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
"""
_LIST_METHODS: Final = f"""
    SELECT {METHOD_COLUMNS}, {IS_DEFAULT}
      FROM payment_methods m
      JOIN customers c ON c.merchant_id = m.merchant_id AND c.mode = m.mode
           AND c.id = m.customer_id
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.customer_id = $3 AND m.id < $4
       AND m.state IN ('making', 'active')
     ORDER BY m.id DESC LIMIT $5
"""


class CustomerChange(msgspec.Struct, frozen=True):
    """What is to change of a customer. UNSET: as it is; None: removed."""

    reference: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    metadata: str | UnsetType | None = UNSET
    default_method: UUID | UnsetType | None = UNSET


async def create(connection: Runner, asked: Asked, fields: CustomerFields) -> tuple[Customer, bool]:
    """Create a customer. Return it, and whether it was made by this request: a repeat with the same
    key gets the same customer.

    Raises IdempotencyKeyReused, and ValidationFailed if another customer has the reference.
    """
    try:
        async with connection.transaction():
            row = await connection.fetchrow(
                _INSERT,
                *(asked.merchant_id, asked.mode, ids.new_id()),
                *(fields.reference, fields.email, fields.name, fields.description, fields.metadata),
                *(asked.key, asked.fingerprint),
            )
            if row is not None:
                customer = customer_of(row)
                await _tell(connection, customer, events.CUSTOMER_CREATED)
                return customer, True
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _REFERENCE_INDEX:
            raise
        # Two requests with one key at once: the other one's reference may be seen before its key.
        earlier = await _made_by(connection, asked)
        if earlier is None:
            raise await _reference_taken(connection, asked, fields.reference) from None
        return earlier, False
    earlier = await _made_by(connection, asked)
    assert earlier is not None, "the key was used, and customers are never removed"
    return earlier, False


async def _made_by(connection: Runner, asked: Asked) -> Customer | None:
    row = await connection.fetchrow(_BY_KEY, asked.merchant_id, asked.mode, asked.key)
    if row is None:
        return None
    *columns, fingerprint = row
    check_same_request(asked, fingerprint)
    return customer_of(columns)


def check_same_request(asked: Asked, fingerprint: bytes) -> None:
    """Raise IdempotencyKeyReused unless the key's first request was this one."""
    if fingerprint != asked.fingerprint:
        raise IdempotencyKeyReused(
            "The Idempotency-Key was used before, for another request. Use a new one, or send the "
            "first request unchanged."
        )


async def _reference_taken(
    runner: Runner, who: Asked | Customer, reference: str | None
) -> ValidationFailed:
    row = await runner.fetchrow(
        _LIST.format(more=_BY_REFERENCE.format(n=5)),
        who.merchant_id,
        who.mode,
        HIGHEST,
        1,
        reference,
    )
    other = "another customer" if row is None else ids.typed(ids.CUSTOMER, customer_of(row).id)
    why = f"reference belongs to {other}. Use that customer, or another reference."
    return ValidationFailed.of([FieldError("#/reference", "reference_taken", why)])


HIGHEST: Final = UUID(int=(1 << 128) - 1)
"""Above every id."""


async def get(runner: Runner, merchant_id: UUID, mode: Mode, customer_id: UUID) -> Customer:
    """Return a customer that was not deleted. Raises NotFound."""
    return _present(await runner.fetchrow(_GET, merchant_id, mode, customer_id), customer_id)


async def find(runner: Runner, merchant_id: UUID, mode: Mode, customer_id: UUID) -> Customer | None:
    """Return a customer, also a deleted one. None if the merchant has no such customer."""
    row = await runner.fetchrow(_GET, merchant_id, mode, customer_id)
    return None if row is None else customer_of(row)


_WHOSE: Final = """
    SELECT m.merchant_id, v.mode
      FROM merchants m CROSS JOIN (VALUES ('test'), ('live')) AS v(mode)
     CROSS JOIN LATERAL (
           SELECT FROM {table}
            WHERE merchant_id = m.merchant_id AND mode = v.mode AND id = $1 LIMIT 1) AS found
"""


async def whose(runner: Runner, table: str, row_id: UUID) -> tuple[UUID, Mode] | None:
    """Return the merchant and mode of a row of `customers` or `payment_methods`, for operators, who
    may see all of them. None if there is none. Takes a look-up for each merchant."""
    row = await runner.fetchrow(_WHOSE.format(table=table), row_id)
    return None if row is None else (row[0], MODE[row[1]])


async def list_page(
    runner: Runner,
    merchant_id: UUID,
    mode: Mode,
    *,
    below: UUID,
    limit: int,
    reference: str | None = None,
    email: str | None = None,
) -> list[Customer]:
    """Return customers with ids below `below` that were not deleted, newest first: all, or those
    with a reference, an email address, or both."""
    more, given = "", []
    for value, condition in ((reference, _BY_REFERENCE), (email, _BY_EMAIL)):
        if value is not None:
            given.append(value)
            more += condition.format(n=4 + len(given))
    rows = await runner.fetch(_LIST.format(more=more), merchant_id, mode, below, limit, *given)
    return [customer_of(row) for row in rows]


async def update(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    customer_id: UUID,
    change: CustomerChange,
    version: int | None,
) -> Customer:
    """Change a customer. `version` is If-Match's; None changes any.

    Raises NotFound, PreconditionFailed, and ValidationFailed if another customer has the reference
    or the default is no active method of this customer.
    """
    customer: Customer | None = None
    try:
        async with connection.transaction():
            customer = await lock(connection, merchant_id, mode, customer_id)
            check_version(customer.version, version, "customer")
            wanted = {
                name: value
                for name in CustomerChange.__struct_fields__
                if (value := getattr(change, name)) is not UNSET
            }
            default = wanted.get("default_method")
            if default is not None:
                await _check_default(connection, customer, default)
            if all(getattr(customer, name) == value for name, value in wanted.items()):
                return customer
            changed = msgspec.structs.replace(customer, **wanted)
            row = await connection.fetchrow(
                _UPDATE,
                *(merchant_id, mode, customer_id, changed.reference, changed.email, changed.name),
                *(changed.description, changed.metadata, changed.default_method),
            )
            changed = customer_of(row)
            await _tell(connection, changed, events.CUSTOMER_UPDATED)
            return changed
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _REFERENCE_INDEX or customer is None:
            raise
        assert change.reference is not UNSET, "only a new reference can be taken"
        raise await _reference_taken(connection, customer, change.reference) from None


async def _check_default(connection: Runner, customer: Customer, method_id: UUID) -> None:
    row = await connection.fetchrow(_GET_METHOD, customer.merchant_id, customer.mode, method_id)
    if row is not None:
        method = method_of(row)
        if method.customer_id == customer.id and method.state is State.ACTIVE:
            return
    why = "default_payment_method must be a stored payment method of this customer."
    raise ValidationFailed.of([FieldError("#/default_payment_method", "invalid", why)])


async def delete(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    customer_id: UUID,
    version: int | None,
    call_s: float,
) -> tuple[Customer, Sequence[UUID]]:
    """Delete a customer with all of its methods. Return it, and the profiles that are to be deleted
    at the processor; a worker does that if the caller has not done it within `call_s` seconds.

    Deleting it again changes nothing. Raises NotFound and PreconditionFailed.
    """
    async with connection.transaction():
        row = await connection.fetchrow(f"{_GET} FOR UPDATE", merchant_id, mode, customer_id)
        if row is None:
            raise _no_customer(customer_id)
        customer = customer_of(row)
        if customer.deleted_at is not None:
            return customer, ()
        check_version(customer.version, version, "customer")
        customer = customer_of(await connection.fetchrow(_DELETE, merchant_id, mode, customer_id))
        for row in await connection.fetch(_DELETE_METHODS, merchant_id, mode, customer_id):
            await tell_of_method(connection, method_of(row), events.METHOD_DELETED)
        await _tell(connection, customer, events.CUSTOMER_DELETED)
        profiles = await connection.fetch(_DELETE_PROFILES, merchant_id, mode, customer_id, call_s)
    return customer, [row[0] for row in profiles]


async def lock(connection: Runner, merchant_id: UUID, mode: Mode, customer_id: UUID) -> Customer:
    """Lock a customer that was not deleted for the rest of the transaction. Raises NotFound."""
    row = await connection.fetchrow(f"{_GET} FOR UPDATE", merchant_id, mode, customer_id)
    return _present(row, customer_id)


async def lock_any(connection: Runner, method: Method) -> Customer:
    """Lock a method's customer for the rest of the transaction, also a deleted one."""
    row = await connection.fetchrow(
        f"{_GET} FOR UPDATE", method.merchant_id, method.mode, method.customer_id
    )
    return customer_of(row)


async def find_method(
    runner: Runner, merchant_id: UUID, mode: Mode, method_id: UUID
) -> Method | None:
    """Return a stored method in any state. None if the merchant has no such method."""
    row = await runner.fetchrow(_GET_METHOD, merchant_id, mode, method_id)
    return None if row is None else method_of(row)


async def get_method(runner: Runner, merchant_id: UUID, mode: Mode, method_id: UUID) -> Method:
    """Return a stored method that was not deleted. Raises NotFound."""
    method = await find_method(runner, merchant_id, mode, method_id)
    if method is None or method.state in (State.DELETING, State.DELETED):
        raise NotFound(f"there is no payment method {ids.typed(ids.PAYMENT_METHOD, method_id)}")
    return method


async def list_methods(
    runner: Runner, merchant_id: UUID, mode: Mode, customer_id: UUID, *, below: UUID, limit: int
) -> list[Method]:
    """Return a customer's methods with ids below `below`, newest first: those that are stored or
    being stored."""
    rows = await runner.fetch(_LIST_METHODS, merchant_id, mode, customer_id, below, limit)
    return [method_of(row) for row in rows]


def check_version(version: int, expected: int | None, what: str) -> None:
    """Raise PreconditionFailed unless the version is the one that was expected."""
    if expected not in (None, version):
        raise PreconditionFailed(
            f"The {what} has changed since you read it: it has version {version} now. Read it, "
            "decide again, and send the new ETag."
        )


async def tell_of_method(connection: Runner, method: Method, event_type: str) -> None:
    """Write an event about a method, within the transaction that changes it."""
    view = method_view(method)
    await events.tell(
        connection, method.merchant_id, method.mode, method.customer_id, event_type, view
    )


async def _tell(connection: Runner, customer: Customer, event_type: str) -> None:
    view = customer_view(customer)
    await events.tell(
        connection, customer.merchant_id, customer.mode, customer.id, event_type, view
    )


def _present(row: Any, customer_id: UUID) -> Customer:
    customer = None if row is None else customer_of(row)
    if customer is None or customer.deleted_at is not None:
        raise _no_customer(customer_id)
    return customer


def _no_customer(customer_id: UUID) -> NotFound:
    return NotFound(f"there is no customer {ids.typed(ids.CUSTOMER, customer_id)}")
