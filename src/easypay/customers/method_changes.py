"""Changes of stored methods: what is wanted, and what came of it. SQL only; see `method_rows`.

Changes of one method are made one after the other: what is wanted is kept in its row (`wanted`)
until the processor has made it.
"""

from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.customers import events, vault_work
from easypay.customers.method_rows import as_json, end_work, lock_method, of, with_default
from easypay.customers.model import (
    METHOD_COLUMNS,
    Method,
    MethodChange,
    MethodKey,
    State,
    key_of,
    method_of,
)
from easypay.customers.store import check_version, get_method, tell_of_method
from easypay.errors import RequestInProgress
from easypay.mode import Mode

Runner = Any

_SET_DEFAULT: Final = """
    UPDATE customers SET default_method = $4, version = version + 1, updated_at = db_now()
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_NEXT_VERSION: Final = f"""
    UPDATE payment_methods m SET version = version + 1, updated_at = db_now()
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_WANT: Final = f"""
    UPDATE payment_methods m SET wanted = coalesce(m.wanted, '{{}}') || $4::jsonb
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_CHANGED: Final = f"""
    UPDATE payment_methods m
       SET exp_month = coalesce($4, m.exp_month), exp_year = coalesce($5, m.exp_year),
           billing_address = coalesce($6::jsonb, m.billing_address),
           expiring_told_at = CASE WHEN $4 IS NULL AND $5 IS NULL THEN m.expiring_told_at END,
           wanted = CASE WHEN m.wanted <> $7::jsonb THEN m.wanted END,
           version = version + 1, updated_at = db_now()
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_UNWANTED: Final = f"""
    UPDATE payment_methods m SET wanted = CASE WHEN m.wanted <> $4::jsonb THEN m.wanted END
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""


async def want(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    method_id: UUID,
    change: MethodChange,
    version: int | None,
    call_s: float,
    *,
    default: bool,
) -> tuple[Method, bool]:
    """Make a method its customer's default (`default`), and commit the intent to change it at the
    processor, if anything is to change there. Return it, and whether it is to be sent now: not
    while an earlier change is under way, as the processor may carry out the two in either order.

    Raises NotFound and PreconditionFailed; and RequestInProgress while it is being stored.
    """
    async with connection.transaction():
        found = await get_method(connection, merchant_id, mode, method_id)
        customer, method = await lock_method(connection, MethodKey(merchant_id, mode, method_id))
        check_version(method.version, version, "payment method")
        if method.state is not State.ACTIVE:
            await get_method(connection, merchant_id, mode, method_id)  # raises NotFound if deleted
            raise RequestInProgress(
                f"The payment method is {found.state}: only an active one can be changed."
            )
        if default and customer.default_method != method_id:
            await connection.execute(_SET_DEFAULT, merchant_id, mode, method.customer_id, method_id)
        is_first = method.wanted is None
        if change != MethodChange():
            row = await connection.fetchrow(_WANT, merchant_id, mode, method_id, as_json(change))
            method = method_of(row)
            let_work = vault_work.begin if is_first else vault_work.join
            await let_work(connection, "method", merchant_id, mode, method_id, call_s)
        elif default and customer.default_method != method_id:
            row = await connection.fetchrow(_NEXT_VERSION, merchant_id, mode, method_id)
            method = await with_default(connection, method_of(row))
            await tell_of_method(connection, method, events.METHOD_UPDATED)
        return await with_default(connection, method), is_first and change != MethodChange()


async def record_changed(
    connection: Runner, key: MethodKey, wanted: str, *, ends_work: bool = True
) -> Method:
    """Record that the processor has made a change. `wanted`: what was sent, as the row had it; what
    another request wanted since then is still to be sent. If nothing is wanted any more, somebody
    else has recorded it, and there may have been other changes since."""
    change = msgspec.json.decode(wanted, type=MethodChange)
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is not State.ACTIVE or method.wanted is None:
            return method
        row = await connection.fetchrow(
            _CHANGED,
            *of(key),
            *(change.exp_month, change.exp_year, as_json(change.billing_address), wanted),
        )
        method = await with_default(connection, method_of(row))
        if ends_work:
            await _end_change(connection, method)
        await tell_of_method(connection, method, events.METHOD_UPDATED)
    return method


async def unwant(
    connection: Runner, key: MethodKey, wanted: str, *, ends_work: bool = True
) -> None:
    """Record that a change was refused, or proven not to have been sent. Does nothing if the method
    was deleted meanwhile: what is left to do is the deletion's."""
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is not State.ACTIVE:
            return
        row = await connection.fetchrow(_UNWANTED, *of(key), wanted)
        if ends_work:
            await _end_change(connection, method_of(row))


async def _end_change(connection: Runner, method: Method) -> None:
    """End the work of a change. What another request wanted meanwhile a worker does now."""
    key = key_of(method)
    if method.wanted is None:
        await end_work(connection, key)
    else:
        await vault_work.begin(connection, "method", *of(key), 0.0)
