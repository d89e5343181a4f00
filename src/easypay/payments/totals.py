"""Tells how many payments a long list has, exact as of one moment, from the counters of the
statistics.

Lists count their rows up to a limit. Beyond it the counters know the total if a list is filtered by
nothing but status, currency, brand and time. This is how the total agrees with the list:

- Payments whose events are not folded yet are added. A filtered list shows them a moment later.
- Lists also show payments without an outcome, which no counter has. If the call has ended, the
  payment is in `unresolved_operations`, and statistics count it. If it still runs, only a list
  without filters shows the payment, and it is among the newest rows: the sweep found every call
  below `swept_below` that had ended without an outcome. (Only a call of a host whose clock is
  minutes behind can be missing, until it ends.)
- The counters of archived months stay, but their payments are in no list, so they are left out.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import ids
from easypay.db.partitions import Months, within_months
from easypay.errors import StatisticsNotReady, ValidationFailed
from easypay.payments import statistics
from easypay.payments.counters import PROCESSING, STATUSES
from easypay.payments.lists import MOST_COUNTED, Span, Total
from easypay.payments.model import Status
from easypay.payments.search import Filters
from easypay.payments.statistics import Group, Question, Tally

Runner = Any
Tallies = Sequence[tuple[Group, Tally]]

_COUNTED_BY: Final = ("status", "currency", "brand")
"""The filters that the counters know."""
_UNCOUNTED: Final = (Status.PROCESSING, Status.PENDING)

_ARCHIVED: Final = "SELECT low, high FROM archived_months WHERE high > $1 AND low < $2 ORDER BY low"
_SWEPT_BELOW: Final = "SELECT greatest(swept_below, $1) FROM sweeps"
# The counted rows are a range of the primary key, and end at the limit.
_RUNNING: Final = """
    SELECT count(*) FILTER (WHERE status = 'processing' AND id NOT IN (
               SELECT payment_id FROM unresolved_operations WHERE merchant_id = $1)
               AND id NOT IN (
               SELECT payment_id FROM queued_operations
                WHERE merchant_id = $1 AND kind IN ('authorize', 'sale'))),
           count(*)
      FROM (SELECT id, status FROM {payments} p
             WHERE merchant_id = $1 AND mode = $2 AND id >= $3 AND id < $4
             LIMIT $5) AS newest
"""
# A queued payment may be older than what the last sweep looked at.
_QUEUED: Final = """
    SELECT payment_id FROM queued_operations q
     WHERE merchant_id = $1 AND mode = $2 AND kind IN ('authorize', 'sale')
       AND payment_id >= $3 AND payment_id < $4
       AND NOT EXISTS (SELECT FROM unresolved_operations u
                        WHERE u.merchant_id = $1 AND u.operation_id = q.operation_id)
     LIMIT $5
"""
_WITHOUT_OUTCOME: Final = """
    SELECT count(*) FROM unnest($3::uuid[]) AS i(payment_id)
     CROSS JOIN LATERAL (
           SELECT p.status FROM payments p
            WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = i.payment_id AND {within}
            LIMIT 1) AS p
     WHERE p.status IN ('pending', 'processing')
"""


def are_counted(filters: Filters) -> bool:
    """Whether the counters can tell how many payments fit these filters."""
    others = (name for name in filters.__struct_fields__ if name not in _COUNTED_BY)
    return filters.status not in _UNCOUNTED and all(
        getattr(filters, name) is None for name in others
    )


async def of(pool: Runner, months: Months, filters: Filters, span: Span) -> Total | None:
    """Return how many payments of a span fit the filters, as of one snapshot.

    None if the counters cannot tell: for other filters, while the statistics are not ready, and if
    an end of the span lies in a quarter of an hour with very many payments.
    """
    if not are_counted(filters):
        return None
    try:
        async with statistics.snapshot(pool) as connection:
            return await read(connection, months, filters, span)
    except (StatisticsNotReady, ValidationFailed):
        return None
    except asyncpg.UndefinedTableError:  # a month was taken out just now
        return None


async def read(connection: Any, months: Months, filters: Filters, span: Span) -> Total | None:
    """Return the same, on a connection in a transaction whose statements all see one snapshot."""
    archived = await connection.fetch(_ARCHIVED, span.floor, span.below)
    tallies: list[tuple[Group, Tally]] = []
    for since, until in _kept(span, [(low, high) for low, high in archived]):
        question = Question(
            span.merchant_id,
            span.mode,
            since,
            until,
            by_brand=filters.brand is not None,
            currency=filters.currency,
            only_statuses=True,
        )
        (bucket,) = (await statistics.answer(connection, months, question)).buckets
        tallies += bucket.tallies.items()
    if filters:
        return _filtered(tallies, filters)
    running = await _running(connection, months, span)
    queued = await _queued(connection, span)
    if running is None or queued is None:
        return None
    return Total(_sum(tallies, (*STATUSES, PROCESSING)) + running + queued, True)


def _filtered(tallies: Tallies, filters: Filters) -> Total:
    statuses = (*STATUSES, PROCESSING) if filters.status is None else (filters.status,)
    if filters.brand is None:
        return Total(_sum(tallies, statuses), True)
    # A payment is counted by the brand that was known first. One that was counted without a brand
    # may have this one by now.
    of_brand, of_none = (
        _sum([each for each in tallies if each[0][1] == brand], statuses)
        for brand in (filters.brand, "")
    )
    return Total(of_brand, of_none == 0)


async def _running(connection: Any, months: Months, span: Span) -> int | None:
    """Return how many payments of a span are processed by a call that runs now; None if too many
    rows would have to be looked at."""
    low = await connection.fetchval(_SWEPT_BELOW, span.floor)
    if low >= span.below:
        return 0
    sql = _RUNNING.format(**statistics.tables_of(months, [low, span.below]))
    running, looked_at = await connection.fetchrow(
        sql, *(span.merchant_id, span.mode, low, span.below, MOST_COUNTED + 1)
    )
    return running if looked_at <= MOST_COUNTED else None


async def _queued(connection: Any, span: Span) -> int | None:
    """Return how many payments of a span are queued; None if they are too many."""
    rows = await connection.fetch(
        _QUEUED, *(span.merchant_id, span.mode, span.floor, span.below, MOST_COUNTED + 1)
    )
    payments = [row[0] for row in rows]
    if not payments or len(payments) > MOST_COUNTED:
        return None if payments else 0
    sql = _WITHOUT_OUTCOME.format(within=within_months("p.id", payments))
    count: int = await connection.fetchval(sql, span.merchant_id, span.mode, payments)
    return count


def _sum(tallies: Tallies, statuses: Iterable[str]) -> int:
    names = {f"now_{status}" for status in statuses}
    return sum(
        each.count for _, tally in tallies for name, each in tally.counters.items() if name in names
    )


def _kept(span: Span, archived: Iterable[tuple[UUID, UUID]]) -> Iterable[tuple[datetime, datetime]]:
    """Yield the time of a span without that of archived months, which come in order."""
    since = span.floor
    for low, high in (*archived, (span.below, span.below)):
        if since < low:
            yield ids.moment_of(since), ids.moment_of(low)
        since = max(since, high)
