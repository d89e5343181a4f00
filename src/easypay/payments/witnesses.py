"""Approved operations of ours that show how far an account's lists have caught up: the newest known
one and the newest listed one. SQL only. `absence_rules` says what they mean.

Every function takes an asyncpg pool or connection.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from easypay.db.partitions import within_months

Runner = Any

_MOST_WITNESSES: Final = 500
_KNOWN: Final = """
    WITH near AS (
        (SELECT o.* FROM operations o
          WHERE o.merchant_id = $1 AND o.id >= $2 ORDER BY o.id DESC LIMIT $4)
        UNION
        (SELECT o.* FROM operations o
          WHERE o.merchant_id = $1 AND o.id >= $2 ORDER BY o.id LIMIT $4)
    )
    SELECT max(o.begun_at) FROM near o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     WHERE o.state = 'approved' AND NOT o.voided AND o.kind IN ('authorize', 'sale', 'refund')
       AND p.status <> 'voided' AND l.account = $3
"""
_LISTED: Final = """
    SELECT max(o.begun_at)
      FROM processor_logins l
      CROSS JOIN unnest($2::uuid[], $3::uuid[]) AS r(low, high)
      JOIN operations o ON o.merchant_id = l.merchant_id AND o.id BETWEEN r.low AND r.high
     WHERE l.account = $1 AND {months} AND o.state = 'approved'
       AND o.kind IN ('authorize', 'sale', 'refund')
"""


async def newest_known(runner: Runner, account: bytes, after: UUID) -> datetime | None:
    """Return when an account's newest approved operation with an id above `after` began."""
    newest: datetime | None = None
    merchants = await runner.fetch(
        "SELECT DISTINCT merchant_id FROM processor_logins WHERE account = $1 LIMIT 50", account
    )
    for (merchant_id,) in merchants:
        found = await runner.fetchval(_KNOWN, merchant_id, after, account, _MOST_WITNESSES)
        if found is not None and (newest is None or found > newest):
            newest = found
    return newest


async def newest_listed(
    runner: Runner, account: bytes, bounds: Sequence[tuple[UUID, UUID]]
) -> datetime | None:
    """Return when the newest approved operation with an id within any of `bounds` began."""
    if not bounds:
        return None
    lows, highs = zip(*bounds, strict=True)
    sql = _LISTED.format(months=within_months("o.id", [*lows, *highs]))
    found: datetime | None = await runner.fetchval(sql, account, lows, highs)
    return found
