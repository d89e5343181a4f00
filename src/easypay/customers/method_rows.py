"""Stored methods: the intent to store one, and what came of it. SQL only; `flows` calls the vault.

Every function opens one transaction on an asyncpg connection. What a dead process left is found in
`vault_work`: its row is written with the intent, and deleted with the outcome. A function that
records an outcome may be called again: it looks at the state, and does nothing twice.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.customers import events, profile_rows, vault_work
from easypay.customers.model import (
    METHOD_COLUMNS,
    MOST_METHODS,
    Asked,
    Customer,
    Failure,
    FromPayment,
    Method,
    MethodKey,
    NewMethod,
    Profile,
    State,
    key_of,
    method_of,
)
from easypay.customers.refusals import (
    AMBIGUOUS,
    BEING_DELETED,
    NOT_SENT,
    NOT_STORED,
    STORED_BEFORE,
)
from easypay.customers.store import (
    check_same_request,
    check_version,
    find_method,
    lock,
    lock_any,
    tell_of_method,
)
from easypay.errors import FieldError, NotFound, RequestInProgress, ValidationFailed
from easypay.mode import Mode
from easypay.processors.customer_vault import VaultedMethod

Runner = Any

_BY_REQUEST: Final = f"""
    SELECT {METHOD_COLUMNS} FROM payment_methods m
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.idempotency_key = $3
"""
_COUNT: Final = """
    SELECT count(*) FROM payment_methods
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3 AND state IN ('making', 'active')
"""
_NEW_METHOD: Final = f"""
    INSERT INTO payment_methods AS m (merchant_id, mode, id, customer_id, profile_id, login_id,
        processor, customer_profile_id, type, source, payment_id, brand, last4, exp_month, exp_year,
        card_fingerprint, billing_address, network_transaction_id, idempotency_key,
        request_fingerprint)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17::jsonb, $18,
        $19, $20)
    ON CONFLICT (merchant_id, mode, idempotency_key) DO NOTHING
    RETURNING {METHOD_COLUMNS}
"""
_LOCKED: Final = f"""
    SELECT {METHOD_COLUMNS} FROM payment_methods m
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3 FOR UPDATE
"""
_TWIN: Final = f"""
    SELECT {METHOD_COLUMNS} FROM payment_methods m
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.login_id = $3 AND m.customer_profile_id = $4
       AND m.payment_profile_id = $5 AND m.state IN ('active', 'deleting') AND m.id <> $6
"""
_STORED: Final = f"""
    UPDATE payment_methods m
       SET state = $4, customer_profile_id = $5, payment_profile_id = $6, type = $7,
           brand = coalesce($8, m.brand), last4 = coalesce($9, m.last4),
           exp_month = coalesce($10, m.exp_month), exp_year = coalesce($11, m.exp_year),
           stored_at = db_now(), version = version + 1, updated_at = db_now()
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_MOVE: Final = f"""
    UPDATE payment_methods m SET profile_id = $4, customer_profile_id = NULL
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_FAILED: Final = f"""
    UPDATE payment_methods m
       SET state = 'failed', failure = $4::jsonb, same_as = $5, version = version + 1,
           updated_at = db_now()
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_IS_SHOWN: Final = """
    UPDATE payment_methods SET version = version + 1
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND state = 'making'
"""
_FORGET: Final = """
    DELETE FROM payment_methods
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND state = 'making'
"""
_DEFAULT_IF_NONE: Final = """
    UPDATE customers SET default_method = $4, version = version + 1, updated_at = db_now()
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND default_method IS NULL
"""
_SET_STATE: Final = f"""
    UPDATE payment_methods m
       SET state = $4, wanted = NULL, version = version + 1, updated_at = db_now()
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
    RETURNING {METHOD_COLUMNS}
"""
_PROFILE_GONE: Final = """
    UPDATE customer_profiles SET state = 'deleted', methods = 0, adding = NULL
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
    RETURNING customer_id
"""
_METHODS_GONE: Final = f"""
    UPDATE payment_methods m SET state = 'deleted', updated_at = db_now(),
           version = m.version + (m.state = 'active')::int
      FROM payment_methods was
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.customer_id = $4 AND m.profile_id = $3
       AND m.state IN ('active', 'deleting')
       AND was.merchant_id = m.merchant_id AND was.mode = m.mode AND was.id = m.id
    RETURNING was.state = 'active', {METHOD_COLUMNS}
"""
_KNOWN: Final = """
    SELECT payment_profile_id FROM payment_methods
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3 AND profile_id = $4
       AND payment_profile_id IS NOT NULL
"""

# Also those that the shop has deleted since.
_NEVER_SHOWN: Final = f"""
    SELECT count(*) FROM payment_methods
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3 AND profile_id = $4
       AND payment_profile_id IS NULL AND failure->>'word' IN ('{NOT_STORED}', '{AMBIGUOUS}')
"""

FIRST_VERSION: Final = 1


class Begun(msgspec.Struct, frozen=True):
    """A method that is about to be stored, and the profile that it goes into."""

    method: Method
    profile: Profile


# storing one -------------------------------------------------------------------------------------


async def made_by(runner: Runner, asked: Asked) -> Method | None:
    """Return the method that the request's key has made. None if the key is unused. Raises
    IdempotencyKeyReused."""
    row = await runner.fetchrow(_BY_REQUEST, asked.merchant_id, asked.mode, asked.key)
    if row is None:
        return None
    method = method_of(row)
    check_same_request(asked, method.request_fingerprint)
    return method


async def shown(runner: Runner, method: Method) -> Method:
    """Return what a shop is to see in place of a method: the method with what it is to its
    customer, or the one that the processor had already for the same card."""
    shown_id = method.same_as or method.id
    found = await find_method(runner, method.merchant_id, method.mode, shown_id)
    assert found is not None, "methods are never removed once they were shown"
    return found


async def begin(
    connection: Runner,
    asked: Asked,
    customer_id: UUID,
    login_id: UUID,
    processor: str,
    new: NewMethod,
    call_s: float,
) -> Begun | Method:
    """Commit the intent to store a method, or return what its key has made before. A worker looks
    after it if nothing was recorded within `call_s` seconds.

    Raises NotFound for the customer, ValidationFailed if it has too many methods, and
    IdempotencyKeyReused.
    """
    async with connection.transaction():
        await lock(connection, asked.merchant_id, asked.mode, customer_id)
        earlier = await made_by(connection, asked)
        if earlier is not None:
            if earlier.state is State.MAKING:
                await connection.execute(_IS_SHOWN, *of(key_of(earlier)))
            return earlier
        who = (asked.merchant_id, asked.mode)
        if await connection.fetchval(_COUNT, *who, customer_id) >= MOST_METHODS:
            why = f"A customer can have {MOST_METHODS} payment methods. Delete one first."
            raise ValidationFailed.of([FieldError("#/payment_method", "too_many", why)])
        method_id = ids.new_id()
        profile = await profile_rows.take_place(
            connection, *who, customer_id, login_id, processor, method_id
        )
        row = await _insert(connection, asked, customer_id, method_id, profile, new)
        if row is not None:
            await vault_work.begin(connection, "method", *who, method_id, call_s)
            return Begun(method_of(row), profile)
        raise _KeyTaken
    raise AssertionError("unreachable")


class _KeyTaken(Exception):
    """The key was used for another customer at the same moment: nothing is kept."""


async def begin_once(connection: Runner, asked: Asked, *rest: Any) -> Begun | Method:
    """Call `begin`; if the key was used for another customer at the same moment, say so."""
    try:
        return await begin(connection, asked, *rest)
    except _KeyTaken:
        earlier = await made_by(connection, asked)
        assert earlier is not None, "the key is taken, and its transaction has ended"
        return earlier


async def _insert(
    connection: Runner,
    asked: Asked,
    customer_id: UUID,
    method_id: UUID,
    profile: Profile,
    new: NewMethod,
) -> Any:
    source = new.pay_with
    return await connection.fetchrow(
        _NEW_METHOD,
        *(asked.merchant_id, asked.mode, method_id, customer_id, profile.id, profile.login_id),
        *(profile.processor, profile.customer_profile_id, new.type, new.source),
        source.payment_id if isinstance(source, FromPayment) else None,
        *(new.brand, new.last4, new.exp_month, new.exp_year, new.card_fingerprint),
        as_json(new.billing_address),
        *(new.network_transaction_id, asked.key, asked.fingerprint),
    )


async def to_new_profile(connection: Runner, begun: Begun, call_s: float, *, full: bool) -> Begun:
    """Move a method that is being stored to a new profile: the one it was meant for is full
    (`full`), or the processor does not know it."""
    key = key_of(begun.method)
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is not State.MAKING:
            return Begun(method, begun.profile)
        if full:
            await profile_rows.record_full(connection, method)
        else:
            await profile_rows.give_place_back(connection, method)
        profile = await profile_rows.make(
            connection,
            *(key.merchant_id, key.mode, method.customer_id),
            *(method.login_id, method.processor, key.id),
        )
        moved = await connection.fetchrow(_MOVE, key.merchant_id, key.mode, key.id, profile.id)
        await vault_work.begin(connection, "method", *of(key), call_s)
    return Begun(method_of(moved), profile)


async def record_stored(
    connection: Runner, key: MethodKey, found: VaultedMethod, *, ends_work: bool = True
) -> Method:
    """Record that the vault has a method. Return it as it is then: `active`; `failed` with
    `same_as` if the processor had the same card already; `deleting` if its customer was deleted
    meanwhile. `ends_work`: the caller does not hold the row of the work list."""
    async with connection.transaction():
        customer, method = await lock_method(connection, key)
        if method.state is State.FAILED:  # a worker was sooner, and has told the shop so
            await vault_work.begin(connection, "method", *of(key), 0.0)
        if method.state is not State.MAKING:
            return method
        twin = await connection.fetchrow(
            _TWIN,
            *(key.merchant_id, key.mode, method.login_id),
            *(found.ids.customer_profile_id, found.ids.payment_profile_id, key.id),
        )
        if twin is not None:
            return await _record_twin(connection, method, method_of(twin), found, ends_work)
        gone = customer.deleted_at is not None
        row = await connection.fetchrow(
            _STORED,
            *(key.merchant_id, key.mode, key.id, State.DELETING if gone else State.ACTIVE),
            *(found.ids.customer_profile_id, found.ids.payment_profile_id, found.type),
            *(found.brand, found.last4, found.exp_month, found.exp_year),
        )
        method = method_of(row)
        await profile_rows.record_made(connection, method, found, "deleting" if gone else "active")
        if ends_work or gone:
            await end_work(connection, key)
        if gone:
            await _want_deleted(connection, method)
            return method
        who = (key.merchant_id, key.mode, method.customer_id)
        await connection.execute(_DEFAULT_IF_NONE, *who, key.id)
        method = await with_default(connection, method)
        await tell_of_method(connection, method, events.METHOD_CREATED)
    return method


async def _record_twin(
    connection: Runner, method: Method, twin: Method, found: VaultedMethod, ends_work: bool
) -> Method:
    """Record that the processor had the card already, as another method of ours."""
    key = key_of(method)
    is_going = twin.state is State.DELETING
    failure = as_json(Failure(BEING_DELETED if is_going else STORED_BEFORE))
    same_as = None if is_going else twin.id
    await profile_rows.record_made(connection, method, found, "active")
    await profile_rows.give_place_back(connection, method)
    row = await connection.fetchrow(_FAILED, *of(key), failure, same_as)
    if ends_work:
        await end_work(connection, key)
    return method_of(row)


async def _want_deleted(connection: Runner, method: Method) -> None:
    """Let a worker delete what was stored for a customer that was deleted meanwhile."""
    who = (method.merchant_id, method.mode)
    await vault_work.begin(connection, "method", *who, method.id, 0.0)
    profile = await profile_rows.get(connection, *who, method.profile_id)
    if profile.state == "deleting":
        await vault_work.begin(connection, "profile", *who, profile.id, 0.0)


async def record_failed(
    connection: Runner,
    key: MethodKey,
    failure: Failure,
    *,
    ends_work: bool = True,
    told: bool = False,
) -> Method:
    """Record that a method was not stored. `told`: the shop has its answer, so no event is written.
    Does nothing if its outcome was recorded before."""
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is not State.MAKING:
            return method
        await profile_rows.give_place_back(connection, method)
        row = await connection.fetchrow(_FAILED, *of(key), as_json(failure), None)
        method = method_of(row)
        if ends_work:
            await end_work(connection, key)
        if not told:
            await tell_of_method(connection, method, events.METHOD_UPDATED)
    return method


async def forget(connection: Runner, key: MethodKey) -> None:
    """Remove the intent of a method of which it is proven that nothing was sent: its key is unused
    again. If a repeat was told of the method meanwhile, it becomes `failed` instead."""
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is State.MAKING and method.version > FIRST_VERSION:
            await record_failed(connection, key, Failure(NOT_SENT))
        elif method.state is State.MAKING:
            await profile_rows.give_place_back(connection, method)
            await connection.execute(_FORGET, *of(key))
            await end_work(connection, key)


# deleting one ------------------------------------------------------------------------------------


async def delete(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    method_id: UUID,
    version: int | None,
    call_s: float,
) -> Method:
    """Delete a stored method here, and commit the intent to delete it at the processor. Return it:
    `deleting` if the processor is to be told, `deleted` if it was.

    Raises NotFound, PreconditionFailed, and RequestInProgress while it is being stored.
    """
    key = MethodKey(merchant_id, mode, method_id)
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state in (State.DELETING, State.DELETED):
            return method
        check_version(method.version, version, "payment method")
        if method.state is State.MAKING:
            raise RequestInProgress(
                "The payment method is still being stored. Delete it when the processor has "
                "answered."
            )
        state = State.DELETING if method.state is State.ACTIVE else State.DELETED
        method = method_of(await connection.fetchrow(_SET_STATE, *of(key), state))
        if state is State.DELETING:
            await _no_longer_default(connection, method)
            await vault_work.begin(connection, "method", *of(key), call_s)
            await tell_of_method(connection, method, events.METHOD_DELETED)
    return method


_NO_LONGER_DEFAULT: Final = """
    UPDATE customers SET default_method = NULL, version = version + 1, updated_at = db_now()
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND default_method = $4
"""


async def _no_longer_default(connection: Runner, method: Method) -> None:
    await connection.execute(
        _NO_LONGER_DEFAULT, method.merchant_id, method.mode, method.customer_id, method.id
    )


async def record_deleted(connection: Runner, key: MethodKey, *, ends_work: bool = True) -> Method:
    """Record that the processor does not have a method any more."""
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is State.DELETING:
            method = method_of(await connection.fetchrow(_SET_STATE, *of(key), State.DELETED))
            await profile_rows.give_place_back(connection, method)
        if ends_work:
            await end_work(connection, key)
    return method


async def record_gone(connection: Runner, key: MethodKey) -> Method:
    """Record that somebody has deleted an active method at the processor."""
    async with connection.transaction():
        _, method = await lock_method(connection, key)
        if method.state is not State.ACTIVE:
            return method
        method = method_of(await connection.fetchrow(_SET_STATE, *of(key), State.DELETED))
        await profile_rows.give_place_back(connection, method)
        await _no_longer_default(connection, method)
        await tell_of_method(connection, method, events.METHOD_DELETED)
    return method


async def record_profile_gone(
    connection: Runner, merchant_id: UUID, mode: Mode, profile_id: UUID, *, ends_work: bool = True
) -> list[Method]:
    """Record that the processor does not have a profile any more, nor its methods. Return those
    that were active until now."""
    lost = []
    async with connection.transaction():
        customer_id = await connection.fetchval(
            "SELECT customer_id FROM customer_profiles"
            " WHERE merchant_id = $1 AND mode = $2 AND id = $3",
            *(merchant_id, mode, profile_id),
        )
        await connection.execute(
            "SELECT FROM customers WHERE merchant_id = $1 AND mode = $2 AND id = $3 FOR UPDATE",
            *(merchant_id, mode, customer_id),
        )
        await connection.execute(_PROFILE_GONE, merchant_id, mode, profile_id)
        rows = await connection.fetch(_METHODS_GONE, merchant_id, mode, profile_id, customer_id)
        for was_active, *row in rows:
            method = method_of(row)
            await end_work(connection, key_of(method))
            if was_active:
                await _no_longer_default(connection, method)
                await tell_of_method(connection, method, events.METHOD_DELETED)
                lost.append(method)
        if ends_work:
            await vault_work.end(connection, "profile", merchant_id, mode, profile_id)
    return lost


# reading -----------------------------------------------------------------------------------------


async def known_ids(runner: Runner, method: Method) -> set[str]:
    """Return the processor's ids of all methods that this profile has or had."""
    rows: Sequence[Any] = await runner.fetch(
        _KNOWN, method.merchant_id, method.mode, method.customer_id, method.profile_id
    )
    return {row[0] for row in rows}


async def never_shown(runner: Runner, method: Method) -> int:
    """Return how many methods of this profile the processor may have stored late."""
    count: int = await runner.fetchval(
        _NEVER_SHOWN, method.merchant_id, method.mode, method.customer_id, method.profile_id
    )
    return count


async def lock_method(connection: Runner, key: MethodKey) -> tuple[Customer, Method]:
    """Lock a method and its customer, the customer first."""
    method = await find_method(connection, key.merchant_id, key.mode, key.id)
    if method is None:
        raise NotFound(f"there is no payment method {ids.typed(ids.PAYMENT_METHOD, key.id)}")
    customer = await lock_any(connection, method)
    return customer, method_of(await connection.fetchrow(_LOCKED, *of(key)))


async def with_default(connection: Runner, method: Method) -> Method:
    """Return a method with what it is to its customer."""
    found = await find_method(connection, method.merchant_id, method.mode, method.id)
    assert found is not None
    return found


async def end_work(connection: Runner, key: MethodKey) -> None:
    """Record that nothing is left to do about a method at the vault."""
    await vault_work.end(connection, "method", *of(key))


def of(key: MethodKey) -> tuple[UUID, Mode, UUID]:
    """Return the arguments by which statements find a method."""
    return key.merchant_id, key.mode, key.id


def as_json(value: msgspec.Struct | None) -> str | None:
    """Return a value as a column of JSON has it."""
    return None if value is None else msgspec.json.encode(value).decode()
