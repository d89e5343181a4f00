"""Brings payments without an outcome into the search table, so that filters find them.

Such a payment has no event that would bring it there. Whoever lists its operation as unresolved
notes the payment in `payments_to_search`, in the same transaction: a trigger does. Here it gets its
row, which is counted as nothing, so the fold counts the payment when its first event comes.
"""

from typing import Any, Final

_MOST: Final = 500
_SOME_WAIT: Final = "SELECT EXISTS (SELECT FROM payments_to_search)"

# The leader gives new streams their rows, too, and then waits for the mark that is locked below.
# So a stream is begun before, alone: whoever begins one waits for nobody while holding another.
_WITHOUT_STREAM: Final = """
    SELECT DISTINCT p.merchant_id, p.mode
      FROM payments_to_search t
     CROSS JOIN LATERAL (
           SELECT merchant_id, mode FROM payments AS p
            WHERE p.merchant_id = t.merchant_id AND p.mode IN ('test', 'live')
              AND p.id = t.payment_id
            LIMIT 1) AS p
     WHERE (SELECT stream FROM streams AS s
             WHERE s.merchant_id = p.merchant_id AND s.mode = p.mode LIMIT 1) IS NULL
"""
_BEGIN_STREAM: Final = """
    INSERT INTO streams (merchant_id, mode) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""

# Folds insert rows that they have not seen, so none may run meanwhile: the mark is locked, and its
# version tells a fold that began before and waited that it has to look again. What was noted since
# its merchant's streams were begun waits for the next time.
_TAKE: Final = f"""
    WITH listed AS MATERIALIZED (
        SELECT t.ctid AS row, p.*
          FROM payments_to_search t
          LEFT JOIN LATERAL (
               SELECT p.*, (SELECT stream FROM streams
                             WHERE merchant_id = p.merchant_id AND mode = p.mode LIMIT 1) AS stream
                 FROM payments AS p
                WHERE p.merchant_id = t.merchant_id AND p.mode IN ('test', 'live')
                  AND p.id = t.payment_id
                LIMIT 1) AS p ON true
         WHERE p.id IS NULL OR p.stream IS NOT NULL
         LIMIT {_MOST}
    ), stopped AS (
        UPDATE feed_readers SET version = version + 1
         WHERE name = 'payments' AND EXISTS (SELECT FROM listed)
        RETURNING version
    ), taken AS (
        DELETE FROM payments_to_search t USING listed AS l, stopped WHERE t.ctid = l.row
        RETURNING l.*
    ), filled AS (
        INSERT INTO payment_search (stream, payment_id, version, status, amount_minor, currency,
            refunded, card_brand, card_last4, decline_code, transaction_id, order_reference,
            customer_reference, customer_id)
        SELECT stream, id, version, status, amount_minor, currency, refunded_minor > 0,
               card_brand, card_last4, decline_code, transaction_id, order_reference,
               customer_reference, customer_id
          FROM taken WHERE id IS NOT NULL
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
    for merchant_id, mode in await pool.fetch(_WITHOUT_STREAM):
        await pool.execute(_BEGIN_STREAM, merchant_id, mode)
    while await pool.fetchval(_TAKE) == _MOST:
        pass
