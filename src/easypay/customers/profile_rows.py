"""A customer's profiles at the processor as rows: which has room, and what is stored in which.

One method at a time is stored in a profile (`adding`), so what appears in it is that one. SQL only;
the callers have locked the customer's row, so nobody else chooses at the same time.
"""

from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.customers import store
from easypay.customers.model import MOST_OF_PROFILE, Method, Profile
from easypay.mode import Mode
from easypay.processors.customer_vault import VaultedMethod

Runner = Any

_COLUMNS: Final = ", ".join(f"p.{name}" for name in Profile.__struct_fields__)
_GET: Final = f"""
    SELECT {_COLUMNS} FROM customer_profiles p
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = $3
"""
_TAKE_PLACE: Final = f"""
    UPDATE customer_profiles p SET methods = methods + 1, adding = $4
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = (
           SELECT id FROM customer_profiles
            WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3 AND login_id = $5
              AND state = 'active' AND adding IS NULL AND methods < $6
            ORDER BY id LIMIT 1)
    RETURNING {_COLUMNS}
"""
_NEW: Final = f"""
    INSERT INTO customer_profiles AS p (merchant_id, mode, id, customer_id, login_id, processor,
        reference, methods, adding)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)
    RETURNING {_COLUMNS}
"""
_MADE: Final = """
    UPDATE customer_profiles
       SET customer_profile_id = $4, made_at = coalesce(made_at, db_now()),
           adding = nullif(adding, $5),
           state = CASE WHEN state IN ('making', 'failed') THEN $6 ELSE state END
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_GIVE_PLACE_BACK: Final = """
    UPDATE customer_profiles
       SET methods = greatest(0, methods - 1), adding = nullif(adding, $4),
           state = CASE WHEN customer_profile_id IS NULL THEN 'failed' ELSE state END
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_IS_FULL: Final = """
    UPDATE customer_profiles SET methods = greatest(methods, $5), adding = nullif(adding, $4)
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_HOLD: Final = """
    UPDATE customer_profiles SET adding = $4
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND (adding IS NULL OR adding = $4)
    RETURNING true
"""
_RELEASE: Final = """
    UPDATE customer_profiles SET adding = NULL
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND adding = $4
"""


async def get(runner: Runner, merchant_id: UUID, mode: Mode, profile_id: UUID) -> Profile:
    """Return a profile."""
    return Profile(*await runner.fetchrow(_GET, merchant_id, mode, profile_id))


async def take_place(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    customer_id: UUID,
    login_id: UUID,
    processor: str,
    method_id: UUID,
) -> Profile:
    """Take a place in a profile that has one and in which nothing is being stored; else make a
    profile."""
    row = await connection.fetchrow(
        _TAKE_PLACE, merchant_id, mode, customer_id, method_id, login_id, MOST_OF_PROFILE
    )
    if row is not None:
        return Profile(*row)
    return await make(connection, merchant_id, mode, customer_id, login_id, processor, method_id)


async def make(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    customer_id: UUID,
    login_id: UUID,
    processor: str,
    method_id: UUID,
) -> Profile:
    """Make a profile, in which a method is being stored."""
    profile_id = ids.new_id()
    row = await connection.fetchrow(
        _NEW,
        *(merchant_id, mode, profile_id, customer_id, login_id, processor),
        *(ids.reference(profile_id), method_id),
    )
    return Profile(*row)


async def record_made(connection: Runner, method: Method, found: VaultedMethod, state: str) -> None:
    """Record that the vault has a method's profile, and that the method is stored."""
    await connection.execute(
        _MADE,
        *(method.merchant_id, method.mode, method.profile_id),
        *(found.ids.customer_profile_id, method.id, state),
    )


async def give_place_back(connection: Runner, method: Method) -> None:
    """Record that a method is not in its profile any more, or never was."""
    await connection.execute(_GIVE_PLACE_BACK, *_of(method), method.id)


async def record_full(connection: Runner, method: Method) -> None:
    """Record that the profile that a method was meant for has no room."""
    await connection.execute(_IS_FULL, *_of(method), method.id, MOST_OF_PROFILE)


async def hold(connection: Runner, method: Method) -> bool:
    """Let nothing else be stored in a method's profile until `release`. False if something is being
    stored in it. May be called again. Locks the customer's row by itself."""
    async with connection.transaction():
        await store.lock_any(connection, method)
        return bool(await connection.fetchval(_HOLD, *_of(method), method.id))


async def release(runner: Runner, method: Method) -> None:
    """End what `hold` began."""
    await runner.execute(_RELEASE, *_of(method), method.id)


def _of(method: Method) -> tuple[UUID, Mode, UUID]:
    return method.merchant_id, method.mode, method.profile_id
