"""What an archived month leaves in the feed and the search table, and what it takes from them.

The feed's numbers stay. The search table has a row for each payment, which goes and comes back.
"""

import asyncio
from datetime import datetime
from typing import Any, Final

from easypay import ids
from easypay.db.partitions import month_start, suffix_of
from easypay.errors import EasyPayError

_BATCH: Final = 2_000
_PAUSE_S: Final = 0.01
_TRIES: Final = 120
_TRY_EVERY_S: Final = 0.5

_DELETE: Final = """
    DELETE FROM payment_search WHERE (stream, payment_id) IN (
        SELECT stream, payment_id FROM payment_search
         WHERE stream = $1 AND payment_id >= $2 AND payment_id < $3
         LIMIT $4)
"""
_FILL: Final = """
    INSERT INTO payment_search (stream, payment_id, version, status, amount_minor, currency,
        refunded, card_brand, card_last4, decline_code, transaction_id, order_reference,
        customer_reference, customer_id, counted_status, counted_brand)
    SELECT s.stream, p.id, version, status, amount_minor, currency, refunded_minor > 0,
           card_brand, card_last4, decline_code, transaction_id, order_reference,
           customer_reference, customer_id, status, coalesce(card_brand, '')
      FROM {payments} p JOIN streams s USING (merchant_id, mode) ORDER BY s.stream, p.id
    ON CONFLICT DO NOTHING
"""
_OF_WORKERS: Final = "webhooks"
"""The reader of the feed that a worker moves. Gateways move the others."""
_BEHIND: Final = "SELECT name FROM feed_readers WHERE last_seq < $1 ORDER BY name"


class ReadersBehind(EasyPayError):
    """Something that follows the feed has not read the month's events."""


async def head(connection: Any) -> int:
    """Return the number of the feed's newest event."""
    newest: int = await connection.fetchval("SELECT last_seq FROM feed_head")
    return newest


async def wait_for_readers(connection: Any, seq: int) -> None:
    """Wait until every reader of the feed has read up to `seq`. Raises ReadersBehind."""
    for tries_left in reversed(range(_TRIES)):
        behind = [row[0] for row in await connection.fetch(_BEHIND, seq)]
        if not behind:
            return
        if tries_left:
            await asyncio.sleep(_TRY_EVERY_S)
    raise ReadersBehind(why_behind(behind, seq))


def why_behind(behind: list[str], seq: int) -> str:
    """Return which readers are behind, and what lets them follow."""
    programs = {"easypay worker" if name == _OF_WORKERS else "easypay serve" for name in behind}
    start = " and ".join(f"`{program}`" for program in sorted(programs))
    return (
        f"not read up to event {seq} of the feed: {', '.join(behind)}. So events of this month may "
        f"still be needed. Let {start} run for a while, then run the command again"
    )


async def forget_search_rows(connection: Any, month: datetime) -> None:
    """Delete the month's rows of the search table, a few at a time. Safe to run again."""
    low, high = ids.lowest_id_at(month), ids.lowest_id_at(month_start(month, 1))
    for (stream,) in await connection.fetch("SELECT stream FROM streams"):
        deleted = _BATCH
        while deleted == _BATCH:
            deleted = await _delete(connection, stream, low, high)
            await asyncio.sleep(_PAUSE_S if deleted else 0)


async def _delete(connection: Any, *where: object) -> int:
    status: str = await connection.execute(_DELETE, *where, _BATCH)
    return int(status.rpartition(" ")[2])


async def adopt(connection: Any, month: datetime, tables: dict[str, str]) -> None:
    """Fill the search table from a restored month, and mark its events as numbered.

    Runs in the transaction that makes the month. All of its events were in the feed when it was
    archived. Transactions that this server has not reached yet are of another server: they become
    ones that have long ended, so that none is taken for new later.
    """
    await connection.execute(_FILL.format(payments=tables["payments"]))
    await connection.execute(
        f"UPDATE {tables['events']} SET written_by = '3'"
        " WHERE written_by::text::bigint >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
    )
    await connection.execute(
        "INSERT INTO feed_months (month, read_below)"
        " VALUES ($1, pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
        " ON CONFLICT (month) DO UPDATE SET read_below = excluded.read_below, still_open = '{}',"
        " version = feed_months.version + 1",
        suffix_of(month),
    )
