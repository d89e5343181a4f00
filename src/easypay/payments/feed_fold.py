"""Folds the feed into the search table, by which lists are filtered, and into the statistics.

Both are kept by one statement: it reads each payment once, and the row of the search table that it
replaces tells as what the payment was counted. A payment's row is what the payment is now, whatever
the event said, so the difference between the two rows is counted, whatever the order of events.

Statements that move the mark see what the one before them wrote, so an older state never follows a
newer one.
"""

from collections.abc import Callable, Sequence
from typing import Final

from easypay.events.readers import Reader, Tables
from easypay.payments.counters import (
    BRAND,
    COLUMNS,
    COUNTED_STATUS,
    CREATED,
    FLOW,
    FLOW_MINOR,
    PIVOT,
    TOOK,
    add,
    quarter_of,
)

# A new row is inserted without ON CONFLICT, and an old one is found again by its place: nobody else
# writes this table while the mark is held, and its key has been looked up already.
#
# Counters are found by the places that the statement before has told: those of the present quarter
# of an hour change at every look, and beside an old snapshot a search by key walks over all their
# versions. What is not there any more is found by its key. Nobody else writes counters while the
# mark is held, so what is at a place is the newest version.
_KEY: Final = "merchant_id, mode, grain, start, currency, brand"
_DECLINE_KEY: Final = f"{_KEY}, code"
_MOST_PLACES: Final = 200
"""How many counters of each table are found by their places. Each look reads all of these rows."""


def _kept(table: str, number: int, key: str) -> str:
    """Return the part that reads the keys of the counters whose places are known."""
    return f"""kept_{table} AS MATERIALIZED (
        SELECT {key}, ctid AS row FROM {table}
         WHERE ctid = ANY (({{places}})[{number}]::tid[])
    )"""


def _written(
    table: str, part: str, key: str, columns: Sequence[str], adding: Callable[[str], str]
) -> str:
    """Return the parts that add a part's rows to the counters: by its place or its key."""
    return f"""added_{table} AS (
        UPDATE {table} AS c SET {adding("s")} FROM {part} AS s WHERE c.ctid = s.row
        RETURNING c.ctid AS row
    ), found_{table} AS (
        INSERT INTO {table} AS c ({key}, {", ".join(columns)})
        SELECT {key}, {", ".join(columns)} FROM {part} WHERE row IS NULL
        ON CONFLICT ({key}) DO UPDATE SET {adding("excluded")}
        RETURNING c.ctid AS row
    )"""


def _places(table: str) -> str:
    """Return the places to be told: of what was written, then of what was known before."""
    return f"""(SELECT array_agg(row)::text FROM (
            SELECT row FROM added_{table} UNION ALL SELECT row FROM found_{table}
            UNION ALL SELECT row FROM kept_{table} LIMIT {_MOST_PLACES}) AS known)"""


def _add_declines(new: str) -> str:
    return f"declines = c.declines + {new}.declines"


_FOLD: Final = f"""happened AS MATERIALIZED (
        SELECT e.stream, p.merchant_id, p.mode, p.id AS payment_id, p.version, p.status,
               p.amount_minor, p.currency, p.refunded_minor > 0 AS refunded, p.card_brand,
               p.card_last4, p.decline_code, p.transaction_id, p.order_reference,
               p.customer_reference, p.customer_id,
               s.ctid AS row,
               s.counted_status AS was, {COUNTED_STATUS} AS becomes, {BRAND} AS brand,
               {FLOW} AS flow, {FLOW_MINOR} AS flow_minor, {quarter_of("e.created_at")} AS at
          FROM happening e
         CROSS JOIN LATERAL (
               SELECT * FROM {{payments}} AS p
                WHERE p.merchant_id = e.merchant_id AND p.mode = e.mode AND p.id = e.payment_id
                LIMIT 1) AS p
          LEFT JOIN LATERAL (
               SELECT ctid, * FROM payment_search AS s
                WHERE s.stream = e.stream AND s.payment_id = e.payment_id LIMIT 1) AS s ON true
          {TOOK}
    ), touched AS MATERIALIZED (
        SELECT DISTINCT ON (stream, payment_id) *,
               {quarter_of(CREATED.format(id="payment_id"))} AS created
          FROM happened
         ORDER BY stream, payment_id
    ), filled AS (
        INSERT INTO payment_search (stream, payment_id, version, status,
            amount_minor, currency, refunded, card_brand, card_last4, decline_code,
            transaction_id, order_reference, customer_reference, customer_id, counted_status,
            counted_brand)
        SELECT stream, payment_id, version, status, amount_minor, currency, refunded,
               card_brand, card_last4, decline_code, transaction_id, order_reference,
               customer_reference, customer_id, becomes, brand
          FROM touched WHERE row IS NULL
    ), renewed AS (
        UPDATE payment_search AS s
           SET version = t.version, status = t.status, refunded = t.refunded,
               card_brand = t.card_brand, card_last4 = t.card_last4,
               decline_code = t.decline_code, transaction_id = t.transaction_id,
               counted_status = t.becomes, counted_brand = t.brand
          FROM touched AS t WHERE t.row IS NOT NULL AND s.ctid = t.row
    ), changes AS (
        SELECT merchant_id, mode, at AS start, currency, brand, flow AS counter, 1 AS n,
               flow_minor AS minor,
               CASE flow WHEN 'declined' THEN coalesce(decline_code, '') END AS code
          FROM happened WHERE flow IS NOT NULL
        UNION ALL
        SELECT merchant_id, mode, created, currency, brand, 'now_' || becomes, 1, amount_minor, NULL
          FROM touched WHERE becomes IS NOT NULL AND becomes IS DISTINCT FROM was
        UNION ALL
        SELECT merchant_id, mode, created, currency, brand, 'now_' || was, -1, -amount_minor, NULL
          FROM touched WHERE was IS NOT NULL AND was IS DISTINCT FROM becomes
    ), quarters AS MATERIALIZED (
        SELECT merchant_id, mode, start, currency, brand, counter, code, sum_bigint(n) AS n,
               sum_bigint(minor) AS minor
          FROM changes
         GROUP BY merchant_id, mode, start, currency, brand, counter, code
    ), late AS MATERIALIZED (
        SELECT q.*, q.start < z.months_until AS month_is_over,
               local_start(d.day, z.time_zone) AS day_start,
               local_start(date_trunc('month', d.day::timestamp)::date, z.time_zone) AS month_start
          FROM quarters q JOIN statistics_seals z ON z.merchant_id = q.merchant_id
         CROSS JOIN LATERAL (SELECT local_day(q.start, z.time_zone) OFFSET 0) AS d(day)
         WHERE q.start < z.days_until AND q.start < (SELECT max(days_until) FROM statistics_seals)
    ), counts AS MATERIALIZED (
        SELECT merchant_id, mode, 'q' AS grain, start, currency, brand, counter, code, n, minor
          FROM quarters
        UNION ALL
        SELECT merchant_id, mode, over.grain, day_start, currency, over.brand, counter, code, n,
               minor
          FROM late CROSS JOIN LATERAL (VALUES ('d', brand), ('D', '')) AS over(grain, brand)
        UNION ALL
        SELECT merchant_id, mode, over.grain, month_start, currency, over.brand, counter, code, n,
               minor
          FROM late CROSS JOIN LATERAL (VALUES ('m', brand), ('M', '')) AS over(grain, brand)
         WHERE month_is_over
    ), {_kept("payment_counts", 1, _KEY)}, {_kept("decline_counts", 2, _DECLINE_KEY)}, summed AS (
        SELECT {_KEY}, {PIVOT}, max(row) AS row
          FROM (SELECT {_KEY}, counter, n, minor, NULL::tid AS row FROM counts
                UNION ALL SELECT {_KEY}, NULL, NULL, NULL, row FROM kept_payment_counts) AS c
         GROUP BY {_KEY} HAVING count(counter) > 0
    ), declines AS (
        SELECT {_DECLINE_KEY}, sum_bigint(n) AS declines, max(row) AS row
          FROM (SELECT {_DECLINE_KEY}, n, NULL::tid AS row FROM counts WHERE code IS NOT NULL
                UNION ALL SELECT {_DECLINE_KEY}, NULL, row FROM kept_decline_counts) AS c
         GROUP BY {_DECLINE_KEY} HAVING count(n) > 0
    ), {_written("payment_counts", "summed", _KEY, COLUMNS, add)}
    , {_written("decline_counts", "declines", _DECLINE_KEY, ("declines",), _add_declines)}
    , places AS (
        SELECT ARRAY[{_places("payment_counts")}, {_places("decline_counts")}]::text[] AS places
    )"""


def _fold(tables: Tables, places: str) -> str:
    return _FOLD.format(events=tables.events, payments=tables.payments, places=places)


PAYMENTS: Final = Reader("payments", _fold, most=2_000)
"""The reader of the feed that keeps the search table and the statistics."""
