"""Folds the feed into the search table, by which lists are filtered, and into the statistics.

Both are kept by one statement: it reads each payment once, and the row of the search table that it
replaces tells as what the payment was counted. A payment's row is what the payment is now, whatever
the event said, so the difference between the two rows is counted, whatever the order of events.

Statements that move the mark see what the one before them wrote, so an older state never follows a
newer one.
"""

from typing import Final

from easypay.events.readers import Reader, Tables
from easypay.payments.counters import (
    ADD,
    BRAND,
    COLUMNS,
    COUNTED_STATUS,
    CREATED,
    FLOW,
    FLOW_MINOR,
    PIVOT,
    TOOK,
    quarter_of,
)

# A new row is inserted without ON CONFLICT, and an old one is found again by its place: nobody else
# writes this table while the mark is held, and its key has been looked up already.
_FOLD: Final = f"""happened AS MATERIALIZED (
        SELECT e.stream, p.merchant_id, p.mode, p.id AS payment_id, p.version, p.status,
               p.amount_minor, p.currency, p.refunded_minor > 0 AS refunded, p.card_brand,
               p.card_last4, p.decline_code, p.transaction_id, p.order_reference,
               p.customer_reference,
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
            transaction_id, order_reference, customer_reference, counted_status, counted_brand)
        SELECT stream, payment_id, version, status, amount_minor, currency, refunded,
               card_brand, card_last4, decline_code, transaction_id, order_reference,
               customer_reference, becomes, brand
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
    ), summed AS (
        INSERT INTO payment_counts AS c
            (merchant_id, mode, grain, start, currency, brand, {", ".join(COLUMNS)})
        SELECT merchant_id, mode, grain, start, currency, brand, {PIVOT}
          FROM counts
         GROUP BY merchant_id, mode, grain, start, currency, brand
        ON CONFLICT (merchant_id, mode, grain, start, currency, brand) DO UPDATE SET {ADD}
    ), declined AS (
        INSERT INTO decline_counts AS c
            (merchant_id, mode, grain, start, currency, brand, code, declines)
        SELECT merchant_id, mode, grain, start, currency, brand, code, sum_bigint(n)
          FROM counts WHERE code IS NOT NULL
         GROUP BY merchant_id, mode, grain, start, currency, brand, code
        ON CONFLICT (merchant_id, mode, grain, start, currency, brand, code)
        DO UPDATE SET declines = c.declines + excluded.declines
    )"""


def _fold(tables: Tables) -> str:
    return _FOLD.format(events=tables.events, payments=tables.payments)


PAYMENTS: Final = Reader("payments", _fold, most=2_000)
"""The reader of the feed that keeps the search table and the statistics."""
