"""Removes a customer's personal data from what is not a payment, in bounded groups. SQL only."""

from typing import Any, Final
from uuid import UUID

from easypay.customers.erasing_payments import OF_CUSTOMER, count_of
from easypay.customers.erasure_rows import LOWEST, Erasure
from easypay.customers.personal_data import erased

Runner = Any

_ATTEMPTS: Final = 1_000
_EVENTS: Final = 500

# What shops answer is kept for 30 days, so this ends soon even for merchants with many webhooks.
_ALL_ATTEMPTS: Final = f"""
        SELECT a.endpoint_id, a.id, a.event_id, a.answer <> '' AS answered FROM webhook_attempts a
         WHERE a.merchant_id = $1 AND (a.endpoint_id, a.id) > ($3, $4)
         ORDER BY a.endpoint_id, a.id LIMIT {_ATTEMPTS}"""
# Of all endpoints together, in the order of time: what came while an erasure went on.
_NEW_ATTEMPTS: Final = f"""
        SELECT a.* FROM webhook_endpoints e
         CROSS JOIN LATERAL (
               SELECT a.endpoint_id, a.id, a.event_id, a.answer <> '' AS answered
                 FROM webhook_attempts a
                WHERE a.merchant_id = $1 AND a.endpoint_id = e.id AND a.id > $4
                ORDER BY a.id LIMIT {_ATTEMPTS}) AS a
         WHERE e.merchant_id = $1 AND e.mode = $2 AND $3::uuid IS NOT NULL
         ORDER BY a.id LIMIT {_ATTEMPTS}"""
_ANSWERS: Final = f"""
    WITH looked_at AS MATERIALIZED ({{attempts}}
    ), theirs AS MATERIALIZED (
        SELECT l.endpoint_id, l.id FROM looked_at l
         CROSS JOIN LATERAL (
               SELECT e.payment_id FROM events e
                WHERE e.merchant_id = $1 AND e.id = l.event_id AND e.mode = $2 LIMIT 1) AS e
         WHERE l.answered AND (e.payment_id = $5 OR EXISTS (
               SELECT FROM erased_payments p
                WHERE p.merchant_id = $1 AND p.mode = $2 AND p.customer_id = $5
                  AND p.payment_id = e.payment_id) OR EXISTS (
               SELECT FROM payments p
                WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = e.payment_id
                  AND {OF_CUSTOMER.format(customer="$5", reference="$6", low="$7", high="$8")}))
    ), changed AS (
        UPDATE webhook_attempts a SET answer = '' FROM theirs t
         WHERE a.merchant_id = $1 AND a.endpoint_id = t.endpoint_id AND a.id = t.id
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM changed) AS changed, l.endpoint_id, l.id,
           (SELECT count(*) FROM looked_at) AS looked_at
      FROM looked_at l ORDER BY {{last}} DESC LIMIT 1
"""
_ALL_ANSWERS: Final = _ANSWERS.format(attempts=_ALL_ATTEMPTS, last="(l.endpoint_id, l.id)")
_NEW_ANSWERS: Final = _ANSWERS.format(attempts=_NEW_ATTEMPTS, last="l.id")
_OBJECTS: Final = f"""
    UPDATE customer_events SET data = NULL
     WHERE merchant_id = $1 AND customer_id = $3 AND event_id = ANY (ARRAY(
           SELECT event_id FROM customer_events
            WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3 AND data IS NOT NULL
            LIMIT {_EVENTS}))
"""
_METHODS: Final = """
    UPDATE payment_methods SET {nothing}, request_fingerprint = '', version = version + 1
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
       AND ({something} OR request_fingerprint <> '')
"""
_CUSTOMER: Final = """
    UPDATE customers
       SET {nothing}, version = version + 1, updated_at = db_now(),
           request_fingerprint = CASE WHEN idempotency_key IS NULL THEN NULL ELSE ''::bytea END,
           erased_at = coalesce(erased_at, db_now())
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_AT_PROCESSOR: Final = """
    SELECT (SELECT count(*) FROM customer_profiles
             WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
               AND state IN ('making', 'active', 'deleting')),
           (SELECT count(*) FROM payment_methods
             WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
               AND state IN ('making', 'active', 'deleting'))
"""
# An erasure does not give up: what was parked is tried again each time the erasure is looked at.
_NOT_PARKED: Final = """
    UPDATE vault_work w SET parked_at = NULL, due_at = db_now()
     WHERE w.merchant_id = $1 AND w.mode = $2 AND w.parked_at IS NOT NULL
       AND (w.kind, w.id) IN (
           SELECT 'profile', id FROM customer_profiles
            WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
           UNION ALL
           SELECT 'method', id FROM payment_methods
            WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3)
"""


async def erase_answers(
    connection: Runner, erasure: Erasure, reference: str | None
) -> tuple[int, tuple[UUID, UUID] | None]:
    """Remove what shops answered to events of the customer and of its payments, in the next group
    of attempts. Return how many answers were removed, and the endpoint and attempt up to which all
    were looked at; None at the end."""
    after = erasure.after_endpoint, erasure.after_id
    return await _erase_answers(connection, _ALL_ANSWERS, erasure, reference, after)


async def erase_new_answers(
    connection: Runner, erasure: Erasure, reference: str | None, after: UUID
) -> tuple[int, UUID | None]:
    """The same for attempts after an id, in the order of time: return the id up to which all were
    looked at; None at the end."""
    place = LOWEST, after
    changed, at = await _erase_answers(connection, _NEW_ANSWERS, erasure, reference, place)
    return changed, None if at is None else at[1]


async def _erase_answers(
    connection: Runner, sql: str, erasure: Erasure, reference: str | None, after: tuple[UUID, UUID]
) -> tuple[int, tuple[UUID, UUID] | None]:
    row = await connection.fetchrow(
        sql,
        *(erasure.merchant_id, erasure.mode, *after),
        *(erasure.customer_id, reference, erasure.from_payment, erasure.until_payment),
    )
    if row is None:
        return 0, None
    changed, endpoint_id, attempt_id, looked_at = row
    return changed, None if looked_at < _ATTEMPTS else (endpoint_id, attempt_id)


async def erase_objects(connection: Runner, erasure: Erasure) -> tuple[int, bool]:
    """Remove the objects of past events about the customer. Return how many, and whether there may
    be more."""
    done = count_of(await connection.execute(_OBJECTS, *_key(erasure)))
    return done, done == _EVENTS


async def erase_methods(connection: Runner, erasure: Erasure) -> int:
    """Remove what is kept of the customer's methods, at most 100 and those that were deleted."""
    columns = [each for each in erased("payment_methods", references=False) if each != _DIGEST]
    nothing = ", ".join(f"{column} = NULL" for column in columns)
    something = " OR ".join(f"{column} IS NOT NULL" for column in columns)
    sql = _METHODS.format(nothing=nothing, something=something)
    return count_of(await connection.execute(sql, *_key(erasure)))


async def erase_customer(connection: Runner, erasure: Erasure) -> None:
    """Remove the customer's own data."""
    columns = erased("customers", references=erasure.with_references)
    nothing = ", ".join(f"{column} = NULL" for column in columns if column != _DIGEST)
    await connection.execute(_CUSTOMER.format(nothing=nothing), *_key(erasure))


async def left_at_processor(runner: Runner, erasure: Erasure) -> tuple[int, int]:
    """Return how many profiles and methods the processor may still have. Work on them that was
    parked becomes due."""
    profiles, methods = await runner.fetchrow(_AT_PROCESSOR, *_key(erasure))
    if profiles or methods:
        await runner.execute(_NOT_PARKED, *_key(erasure))
    return profiles, methods


_DIGEST: Final = "request_fingerprint"
"""It may not be null, or only together with the key."""


def _key(erasure: Erasure) -> tuple[Any, ...]:
    return erasure.merchant_id, erasure.mode, erasure.customer_id
