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
        SELECT DISTINCT f.merchant_id, f.mode, f.payment_id
          FROM moved CROSS JOIN feed f
         WHERE f.seq > $1 AND f.seq <= $2
    ), filled AS (
        INSERT INTO payment_search AS s (merchant_id, mode, payment_id, version, status,
            amount_minor, currency, refunded, card_brand, card_last4, decline_code,
            transaction_id, order_reference, customer_reference)
        SELECT p.merchant_id, p.mode, p.id, p.version, p.status, p.amount_minor, p.currency,
               p.refunded_minor > 0, p.card_brand, p.card_last4, p.decline_code,
               p.transaction_id, p.order_reference, p.customer_reference
          FROM touched t
          JOIN payments p
            ON p.merchant_id = t.merchant_id AND p.mode = t.mode AND p.id = t.payment_id
         ORDER BY p.merchant_id, p.mode, p.id
        ON CONFLICT (merchant_id, mode, payment_id) DO UPDATE
           SET version = excluded.version, status = excluded.status, refunded = excluded.refunded,
               card_brand = excluded.card_brand, card_last4 = excluded.card_last4,
               decline_code = excluded.decline_code, transaction_id = excluded.transaction_id
         WHERE s.version < excluded.version
    )
    SELECT last_seq FROM moved
"""
SEARCH: Final = Reader("search", _FILL, most=2_000)
"""The reader of the feed that keeps the search table."""
