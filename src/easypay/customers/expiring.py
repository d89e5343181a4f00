"""Tells merchants of stored cards that expire soon: `payment_method.expiring`, once per card.

A pass runs once a day, in one process at a time, under a lease. A card is told of from 31 days
before its last month ends. A new expiry date makes it a card that was not told of.
"""

from typing import Any, Final

from easypay import ids
from easypay.customers import events
from easypay.customers.model import EXPIRES_SOON_DAYS, IS_DEFAULT, METHOD_COLUMNS, method_of
from easypay.customers.store import tell_of_method
from easypay.db.lease import Lease, hold

Runner = Any

LEASE: Final = "expiring cards"
_LEASE_S: Final = 60.0
_AT_ONCE: Final = 100

# The last month ends before this moment: it is an earlier month.
_SOON: Final = f"""
    SELECT m.merchant_id, m.mode, m.id
      FROM payment_methods m,
           (SELECT db_now() AT TIME ZONE 'UTC' + make_interval(days => {EXPIRES_SOON_DAYS}) AS at)
               AS soon
     WHERE m.state = 'active' AND m.expiring_told_at IS NULL AND m.exp_year IS NOT NULL
       AND (m.exp_year, m.exp_month) < (extract(year FROM soon.at), extract(month FROM soon.at))
     ORDER BY m.exp_year, m.exp_month LIMIT $1
"""
_TOLD: Final = f"""
    UPDATE payment_methods m SET expiring_told_at = db_now()
      FROM customers c
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
       AND m.state = 'active' AND m.expiring_told_at IS NULL
       AND c.merchant_id = m.merchant_id AND c.mode = m.mode AND c.id = m.customer_id
    RETURNING {METHOD_COLUMNS}, {IS_DEFAULT}
"""


async def tell_of_expiring(connection: Runner) -> int:
    """Write an event for each card that expires soon and was not told of. Return how many. Does
    nothing while another process does it."""
    lease, told = Lease(LEASE, ids.new_id(), _LEASE_S), 0
    while (token := await lease.take(connection)) is not None:
        rows = await connection.fetch(_SOON, _AT_ONCE)
        for row in rows:
            async with connection.transaction():
                if not await hold(connection, LEASE, token):
                    return told
                changed = await connection.fetchrow(_TOLD, *row)
                if changed is not None:
                    method = method_of(changed)
                    await tell_of_method(connection, method, events.METHOD_EXPIRING)
                    told += 1
        if len(rows) < _AT_ONCE:
            await lease.release(connection)
            break
    return told
