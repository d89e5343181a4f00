"""Which months can be compacted, and what keeps a month as it is.

A stored reply is read for one purpose: to answer a repeated request, which finds the operation by
its idempotency key. So a month's replies are useless once no key points to the month. Keys are made
together with their operation, so no new key can point to a month that is over. The month must also
be at rest: nothing in it is open, watched, or being given back. Whatever changes an operation
nevertheless, such as a person who resolves it, does so by its id, before and after the compaction.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from easypay import ids
from easypay.archiving.obstacles import (
    OPEN_OPERATIONS,
    OPERATION_HERE,
    Obstacle,
    in_table,
    pointing_here,
)
from easypay.archiving.session import now
from easypay.db import compacted_months, partitions
from easypay.db.partitions import month_start, suffix_of

TABLE: Final = "operations"
"""Payments of a month that is over still change (refunds, captures, voids), and pages of events are
full from the start. So only operations are rewritten (docs/decisions/0026)."""


def table_of(month: datetime) -> str:
    """Return the table that is rewritten: `operations_2026_11`."""
    return f"{TABLE}_{suffix_of(month)}"


def due_from(month: datetime, *, key_days: int) -> datetime:
    """Return from when on a month can be compacted: its last key has given its last answer."""
    return month_start(month, 1) + timedelta(days=key_days)


async def due(connection: Any, *, key_days: int) -> list[datetime]:
    """Return the months that are old enough and not compacted yet, oldest first."""
    today = await now(connection)
    present = await partitions.attached(connection)
    done = {each.month for each in await compacted_months.every(connection)}
    return [
        month
        for month in await partitions.months_of(connection)
        if due_from(month, key_days=key_days) <= today
        and suffix_of(month) not in done
        and table_of(month) in present
    ]


async def obstacles(connection: Any, month: datetime, *, key_days: int) -> list[Obstacle]:
    """Return what keeps the month as it is. Reads its operations and all keys once."""
    return [
        *await in_table(connection, table_of(month), ids.OPERATION, (OPEN_OPERATIONS,)),
        *await pointing_here(connection, month, key_days=key_days, here=OPERATION_HERE),
    ]
