"""The log of attempts: what each endpoint answered, for a while."""

from typing import Any, Final
from uuid import UUID

from easypay.errors import NotFound
from easypay.webhooks.model import Attempt, Endpoint

Runner = Any
KEEP_DAYS: Final = 30
"""How long attempts are kept, and deliveries that nobody retries."""
_AT_ONCE: Final = 5_000
_COLUMNS: Final = ", ".join(Attempt.__struct_fields__)

_PURGE: Final = """
    DELETE FROM webhook_attempts WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM webhook_attempts
         WHERE sent_at < db_now() - make_interval(days => $1) LIMIT $2))
"""
# A row without an endpoint was written while that was deleted: nobody will ever claim it.
_PURGE_DELIVERIES: Final = """
    DELETE FROM webhook_deliveries WHERE ctid = ANY (ARRAY(
        SELECT w.ctid FROM webhook_deliveries w
          LEFT JOIN webhook_endpoints e ON e.merchant_id = w.merchant_id AND e.id = w.endpoint_id
         WHERE e.id IS NULL OR (
               w.created_at < db_now() - make_interval(days => $1)
               AND (w.parked_at < db_now() - make_interval(days => $1)
                    OR e.state = 'disabled'
                       AND e.updated_at < db_now() - make_interval(days => $1)))
         LIMIT $2))
"""


async def attempts(
    runner: Runner, merchant_id: UUID, endpoint_id: UUID, *, below: UUID, limit: int
) -> list[Attempt]:
    """Return an endpoint's attempts with ids below `below`, newest first."""
    rows = await runner.fetch(
        f"SELECT {_COLUMNS} FROM webhook_attempts WHERE merchant_id = $1 AND endpoint_id = $2"
        " AND id < $3 ORDER BY id DESC LIMIT $4",
        merchant_id,
        endpoint_id,
        below,
        limit,
    )
    return [Attempt(*row) for row in rows]


async def attempt(runner: Runner, endpoint: Endpoint, attempt_id: UUID) -> Attempt:
    """Return one attempt of an endpoint. Raises NotFound."""
    row = await runner.fetchrow(
        f"SELECT {_COLUMNS} FROM webhook_attempts WHERE merchant_id = $1 AND endpoint_id = $2"
        " AND id = $3",
        endpoint.merchant_id,
        endpoint.id,
        attempt_id,
    )
    if row is None:
        raise NotFound("there is no such delivery")
    return Attempt(*row)


async def purge(runner: Runner, *, keep_days: int = KEEP_DAYS) -> int:
    """Delete what is older, a few rows at a time. Return how many rows were deleted."""
    deleted = 0
    for statement in (_PURGE, _PURGE_DELIVERIES):
        while True:
            done: str = await runner.execute(statement, keep_days, _AT_ONCE)
            count = int(done.rpartition(" ")[2])
            deleted += count
            if count < _AT_ONCE:
                break
    return deleted
