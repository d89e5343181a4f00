"""Fills the table by which lists are filtered, from the feed and the payments.

A payment's row is what the payment is now, whatever the event said. Its version keeps an older
state from overwriting a newer one.
"""

from typing import Final

from easypay.events.readers import Reader

_FILL: Final = """
    WITH moved AS (
        UPDATE feed_readers SET last_seq = $2::bigint
         WHERE name = 'search' AND last_seq = $1::bigint
        RETURNING last_seq
    ), touched AS MATERIALIZED (
        SELECT DISTINCT f.stream, f.payment_id
          FROM moved CROSS JOIN feed f
         WHERE f.seq > $1 AND f.seq <= $2
    ), present AS MATERIALIZED (
        SELECT t.stream, p.*, old.version AS was
          FROM touched t
         CROSS JOIN LATERAL (SELECT * FROM streams s WHERE s.stream = t.stream LIMIT 1) AS s
         CROSS JOIN LATERAL (
               SELECT id, version, amount_minor, refunded_minor > 0 AS refunded, status, currency,
                      card_brand, card_last4, decline_code, transaction_id, order_reference,
                      customer_reference
                 FROM payments
                WHERE merchant_id = s.merchant_id AND mode = s.mode AND id = t.payment_id
                LIMIT 1) AS p
          LEFT JOIN LATERAL (
               SELECT version FROM payment_search o
                WHERE o.stream = t.stream AND o.payment_id = t.payment_id LIMIT 1) AS old ON true
         ORDER BY t.stream, t.payment_id
    ), filled AS (
        INSERT INTO payment_search (stream, payment_id, version, amount_minor, refunded, status,
            currency, card_brand, card_last4, decline_code, transaction_id, order_reference,
            customer_reference)
        SELECT stream, id, version, amount_minor, refunded, status, currency, card_brand,
               card_last4, decline_code, transaction_id, order_reference, customer_reference
          FROM present WHERE was IS NULL
    ), changed AS (
        INSERT INTO payment_search AS s (stream, payment_id, version, amount_minor, refunded,
            status, currency, card_brand, card_last4, decline_code, transaction_id)
        SELECT stream, id, version, amount_minor, refunded, status, currency, card_brand,
               card_last4, decline_code, transaction_id
          FROM present WHERE was < version
        ON CONFLICT (stream, payment_id) DO UPDATE
           SET version = excluded.version, status = excluded.status, refunded = excluded.refunded,
               card_brand = excluded.card_brand, card_last4 = excluded.card_last4,
               decline_code = excluded.decline_code, transaction_id = excluded.transaction_id
         WHERE s.version < excluded.version
    )
    SELECT last_seq FROM moved
"""
SEARCH: Final = Reader("search", _FILL, most=2_000)
"""The reader of the feed that keeps the search table."""
