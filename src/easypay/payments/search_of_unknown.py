"""Brings payments without an outcome into the search table, so that filters find them.

Such a payment has no event that would bring it there. Whoever lists its operation as unresolved
notes the payment in `payments_to_search`, in the same transaction: a trigger does. Here it gets its
row, which is counted as nothing, so the fold counts the payment when its first event comes.
"""

from typing import Any, Final

_MOST: Final = 500
_SOME_WAIT: Final = "SELECT EXISTS (SELECT FROM payments_to_search)"

# Folds insert rows that they have not seen, so none may run meanwhile: the mark is locked, and its
# version tells a fold that began before and waited that it has to look again.
_TAKE: Final = f"""
    WITH listed AS MATERIALIZED (
        SELECT ctid AS row FROM payments_to_search LIMIT {_MOST}
    ), stopped AS (
        UPDATE feed_readers SET version = version + 1
         WHERE name = 'payments' AND EXISTS (SELECT FROM listed)
        RETURNING version
    ), taken AS (
        DELETE FROM payments_to_search t USING listed, stopped WHERE t.ctid = listed.row
        RETURNING t.merchant_id, t.payment_id
    ), wanted AS MATERIALIZED (
        SELECT p.*, (SELECT stream FROM streams
                      WHERE merchant_id = p.merchant_id AND mode = p.mode LIMIT 1) AS stream
          FROM (SELECT DISTINCT * FROM taken) AS t
         CROSS JOIN LATERAL (
               SELECT * FROM payments AS p
                WHERE p.merchant_id = t.merchant_id AND p.mode IN ('test', 'live')
                  AND p.id = t.payment_id
                LIMIT 1) AS p
    ), begun AS (
        INSERT INTO streams (merchant_id, mode)
        SELECT DISTINCT merchant_id, mode FROM wanted WHERE stream IS NULL
        ON CONFLICT (merchant_id, mode) DO UPDATE SET mode = excluded.mode
        RETURNING stream, merchant_id, mode
    ), filled AS (
        INSERT INTO payment_search (stream, payment_id, version, status, amount_minor, currency,
            refunded, card_brand, card_last4, decline_code, transaction_id, order_reference,
            customer_reference, customer_id)
        SELECT coalesce(w.stream, (SELECT b.stream FROM begun b
                                    WHERE b.merchant_id = w.merchant_id AND b.mode = w.mode)),
               w.id, w.version, w.status, w.amount_minor, w.currency, w.refunded_minor > 0,
               w.card_brand, w.card_last4, w.decline_code, w.transaction_id, w.order_reference,
               w.customer_reference, w.customer_id
          FROM wanted w
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM taken
"""

NOTE_ALL: Final = """
    INSERT INTO payments_to_search
    SELECT DISTINCT merchant_id, payment_id FROM unresolved_operations
"""
"""Notes every payment without an outcome anew, those that have a row as well."""


async def take(pool: Any) -> None:
    """Give every payment that is noted its row of the search table. Safe from several processes at
    once. Raises the database's errors."""
    if not await pool.fetchval(_SOME_WAIT):
        return
    while await pool.fetchval(_TAKE) == _MOST:
        pass
