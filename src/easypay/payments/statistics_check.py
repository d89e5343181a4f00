"""Counts again from the rows of payments and events: to find what is wrong, and to start over.

What is compared is what the fold has read so far. So both sides are read in one snapshot, without
the events that are not folded yet, and the payments that these touch are taken as they are counted.

This reads every payment and event, for about a minute for every million payments, over a
connection of its own. A check disturbs nobody. While statistics are counted again, the feed waits;
questions are answered by the old ones until that ends.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.payments.counters import (
    BRAND,
    COLUMNS,
    COUNTED_STATUS,
    COUNTERS,
    CREATED,
    FLOW,
    FLOW_MINOR,
    PIVOT,
    TOOK,
    quarter_of,
)
from easypay.payments.seals import PERIODS, STOP_FOLDS
from easypay.payments.search_of_unknown import NOTE_ALL

Connection = Any


class Difference(msgspec.Struct, frozen=True):
    """One counter that is not what the rows say. Amounts are minor units of the currency."""

    merchant_id: UUID
    mode: str
    grain: str
    """`q`, a quarter of an hour; `d`, a day, or `m`, a month, in the merchant's time zone; `D` and
    `M` are the same over all brands."""
    start: datetime
    currency: str
    brand: str
    counter: str
    """A counter of `counters.COUNTERS`, or `declined ` and a decline code."""
    stored: int
    stored_minor: int
    by_rows: int
    by_rows_minor: int


# Months that were archived have their counts and no rows. So has a quarter of an hour in which
# something happened to a payment of such a month, for instance its refund in the month after:
# what it was counted as, only the payment tells.
_HAS_ARCHIVE: Final = "SELECT to_regclass('archived_months') IS NOT NULL"
_KEPT: Final = "true"
_NOT_ARCHIVED: Final = f"""NOT EXISTS (SELECT FROM archived_months a
                        WHERE lowest_id_at({{of}}.start) >= a.low
                          AND lowest_id_at({{of}}.start) < a.high)
       AND NOT EXISTS (SELECT FROM archived_months a
                         JOIN events e ON e.payment_id >= a.low AND e.payment_id < a.high
                        WHERE e.merchant_id = {{of}}.merchant_id AND e.mode = {{of}}.mode
                          AND {quarter_of("e.created_at")} = {{of}}.start)"""

_MONTHS: Final = """
    SELECT substr(c.relname, length('events_') + 1)
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'events'::regclass
"""
_NOT_NUMBERED: Final = """
        UNION ALL
        SELECT id, payment_id FROM events_{month} e
         WHERE e.written_by::text::bigint >= coalesce((
                   SELECT read_below FROM feed_months WHERE month = '{month}'), 0)
            OR e.written_by::text::bigint = ANY (ARRAY(
                   SELECT unnest(still_open) FROM feed_months WHERE month = '{month}'))"""
_BEHIND: Final = """behind AS MATERIALIZED (
        SELECT event_id, payment_id FROM feed
         WHERE seq > (SELECT last_seq FROM feed_readers WHERE name = 'payments'){not_numbered}
    )"""
_OF_PAYMENT: Final = """ON s.merchant_id = p.merchant_id AND s.mode = p.mode
                                   AND s.payment_id = p.id"""
_SEARCH_ROWS: Final = (
    "(SELECT m.merchant_id, m.mode, r.* FROM payment_search r JOIN streams m USING (stream))"
)
_RECOUNT: Final = f"""
    SELECT merchant_id, mode, start, currency, brand, counter, code, count(*) AS n,
           sum(minor)::bigint AS minor
      FROM (
        SELECT e.merchant_id, e.mode, {quarter_of("e.created_at")} AS start, e.currency,
               {BRAND} AS brand, {FLOW} AS counter, {FLOW_MINOR} AS minor,
               CASE e.type WHEN 'payment.declined' THEN coalesce(p.decline_code, '') END AS code
          FROM events e
          LEFT JOIN payments p
            ON p.merchant_id = e.merchant_id AND p.mode = e.mode AND p.id = e.payment_id
          LEFT JOIN {_SEARCH_ROWS} s ON s.merchant_id = e.merchant_id AND s.mode = e.mode
                                    AND s.payment_id = e.payment_id
          {TOOK.format(events="events")}
         WHERE NOT EXISTS (SELECT FROM behind b WHERE b.event_id = e.id)
        UNION ALL
        SELECT p.merchant_id, p.mode, {quarter_of(CREATED.format(id="p.id"))}, p.currency, {BRAND},
               'now_' || {COUNTED_STATUS}, p.amount_minor, NULL
          FROM payments p LEFT JOIN {_SEARCH_ROWS} s {_OF_PAYMENT}
         WHERE NOT EXISTS (SELECT FROM behind b WHERE b.payment_id = p.id)
        UNION ALL
        SELECT p.merchant_id, p.mode, {quarter_of(CREATED.format(id="p.id"))}, p.currency, {BRAND},
               'now_' || s.counted_status, p.amount_minor, NULL
          FROM payments p JOIN {_SEARCH_ROWS} s {_OF_PAYMENT}
         WHERE EXISTS (SELECT FROM behind b WHERE b.payment_id = p.id)
      ) AS each
     WHERE counter IS NOT NULL AND {{kept}}
     GROUP BY merchant_id, mode, start, currency, brand, counter, code
"""
_EACH_COUNTER: Final = ", ".join(f"('{name}', c.{name}, c.{name}_minor)" for name in COUNTERS)
_STORED: Final = f"""
    SELECT merchant_id, mode, grain, start, currency, brand, v.counter, v.n, v.minor
      FROM payment_counts c
     CROSS JOIN LATERAL (VALUES {_EACH_COUNTER}) AS v(counter, n, minor)
    UNION ALL
    SELECT merchant_id, mode, grain, start, currency, brand, 'declined ' || code, declines, 0
      FROM decline_counts
"""
_BY_ROWS: Final = """
    SELECT merchant_id, mode, start, currency, brand, counter, sum(n)::bigint AS n,
           sum(minor)::bigint AS minor
      FROM recount GROUP BY 1, 2, 3, 4, 5, 6
    UNION ALL
    SELECT merchant_id, mode, start, currency, brand, 'declined ' || code, n, 0
      FROM recount WHERE code IS NOT NULL
"""
_COMPARED: Final = """
    SELECT merchant_id, mode, {grain}, start, currency, brand, counter,
           coalesce(s.n, 0), coalesce(s.minor, 0), coalesce(r.n, 0), coalesce(r.minor, 0)
      FROM ({stored}) AS s
      FULL JOIN ({by_rows}) AS r
     USING (merchant_id, mode, start, currency, brand, counter)
     WHERE coalesce(s.n, 0) <> coalesce(r.n, 0) OR coalesce(s.minor, 0) <> coalesce(r.minor, 0)
     ORDER BY merchant_id, mode, start, currency, brand, counter
"""
_QUARTERS: Final = "WITH {behind}, recount AS MATERIALIZED ({recount})" + _COMPARED.format(
    grain="'q'",
    stored=f"SELECT * FROM ({_STORED}) AS c WHERE grain = 'q' AND {{kept_counts}}",
    by_rows=_BY_ROWS,
)
_SEALS: Final = """
    SELECT c.merchant_id, z.time_zone, z.days_until, z.months_until, min(c.start)
      FROM payment_counts c LEFT JOIN statistics_seals z ON z.merchant_id = c.merchant_id
     GROUP BY 1, 2, 3, 4
"""
_SEALED: Final = _COMPARED.format(
    grain="'{grain}'",
    stored=f"SELECT * FROM ({_STORED}) AS c WHERE merchant_id = $1 AND grain = '{{grain}}'",
    by_rows=f"""
        SELECT $1 AS merchant_id, p.mode, p.start, c.*
          FROM ({PERIODS}) AS p CROSS JOIN LATERAL (
               SELECT c.currency, {{brand}} AS brand, c.counter, sum(c.n)::bigint AS n,
                      sum(c.minor)::bigint AS minor
                 FROM ({_STORED}) AS c
                WHERE c.merchant_id = $1 AND c.mode = p.mode AND c.grain = 'q'
                  AND c.start >= p.start AND c.start < p.until
                GROUP BY 1, 2, 3) AS c""",
)

# counting again -----------------------------------------------------------------------------------

_SEARCH: Final = f"""
    WITH {{behind}}
    INSERT INTO payment_search (stream, payment_id, version, status,
        amount_minor, currency, refunded, card_brand, card_last4, decline_code,
        transaction_id, order_reference, customer_reference, customer_id, counted_status,
        counted_brand)
    SELECT m.stream, p.id, p.version, p.status, p.amount_minor, p.currency,
           p.refunded_minor > 0, p.card_brand, p.card_last4, p.decline_code, p.transaction_id,
           p.order_reference, p.customer_reference, p.customer_id,
           {COUNTED_STATUS}, coalesce(p.card_brand, '')
      FROM payments p JOIN streams m ON m.merchant_id = p.merchant_id AND m.mode = p.mode
      LEFT JOIN payment_search s ON s.stream = m.stream AND s.payment_id = p.id
     WHERE (s.counted_status IS DISTINCT FROM {COUNTED_STATUS}
            OR s.counted_brand IS DISTINCT FROM coalesce(p.card_brand, ''))
       AND {COUNTED_STATUS} IS NOT NULL
       AND NOT EXISTS (SELECT FROM behind b WHERE b.payment_id = p.id)
    ON CONFLICT (stream, payment_id) DO UPDATE
       SET version = excluded.version, status = excluded.status, refunded = excluded.refunded,
           card_brand = excluded.card_brand, card_last4 = excluded.card_last4,
           decline_code = excluded.decline_code, transaction_id = excluded.transaction_id,
           counted_status = excluded.counted_status, counted_brand = excluded.counted_brand
"""
_ANEW: Final = (
    "CREATE TEMPORARY TABLE recount ON COMMIT DROP AS WITH {behind} {recount}",
    "DELETE FROM payment_counts c WHERE c.grain <> 'q' OR {kept_counts}",
    "DELETE FROM decline_counts c WHERE c.grain <> 'q' OR {kept_counts}",
    "DELETE FROM statistics_seals",
    f"""
    INSERT INTO payment_counts
        (merchant_id, mode, grain, start, currency, brand, {", ".join(COLUMNS)})
    SELECT merchant_id, mode, 'q', start, currency, brand, {PIVOT}
      FROM recount GROUP BY merchant_id, mode, start, currency, brand
    """,
    """
    INSERT INTO decline_counts (merchant_id, mode, grain, start, currency, brand, code, declines)
    SELECT merchant_id, mode, 'q', start, currency, brand, code, n
      FROM recount WHERE code IS NOT NULL
    """,
)
_NO_HURRY: Final = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL work_mem = '128MB'",
    "SET LOCAL lock_timeout = '60s'",
)


async def verify(connection: Connection) -> list[Difference]:
    """Return every counter that differs from what the rows say, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for setting in _NO_HURRY:
            await connection.execute(setting)
        parts = await _parts(connection)
        found = await connection.fetch(_QUARTERS.format(**parts))
        for merchant_id, zone, days_until, months_until, first in await connection.fetch(_SEALS):
            # Without a seal there must be no such rows.
            for unit, grain, brand, until in (
                ("day", "d", "c.brand", days_until),
                ("day", "D", "''::text", days_until),
                ("month", "m", "c.brand", months_until),
                ("month", "M", "''::text", months_until),
            ):
                sql = _SEALED.format(unit=unit, grain=grain, brand=brand)
                found += await connection.fetch(
                    sql, merchant_id, first, until or first, zone or "UTC"
                )
    return [Difference(*row) for row in found]


async def rebuild(connection: Connection) -> None:
    """Count everything again, and fill in what the search table lacks, in one transaction.

    Gateways may run. Their feed waits until it ends, and its leader seals days and months again.
    """
    async with connection.transaction():
        for setting in _NO_HURRY:
            await connection.execute(setting)
        await connection.execute(STOP_FOLDS)
        await connection.execute(NOTE_ALL)
        parts = await _parts(connection)
        for statement in (_SEARCH, *_ANEW):
            await connection.execute(statement.format(**parts))


async def _parts(connection: Connection) -> dict[str, str]:
    """Return what the statements are filled in with."""
    months: Sequence[str] = [row[0] for row in await connection.fetch(_MONTHS)]
    archive = await connection.fetchval(_HAS_ARCHIVE)
    kept, kept_counts = (
        _NOT_ARCHIVED.format(of=rows) if archive else _KEPT for rows in ("each", "c")
    )
    return {
        "behind": _BEHIND.format(
            not_numbered="".join(_NOT_NUMBERED.format(month=month) for month in months)
        ),
        "recount": _RECOUNT.format(kept=kept),
        "kept": kept,
        "kept_counts": kept_counts,
    }
