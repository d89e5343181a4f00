"""Lines of the processor's books beside our operations, and what each pair says. SQL only.

Every function works in the caller's transaction, on lines that `spool` has loaded into it. A
reference is the first 100 bits of its operation's id, so its operation is a range of the primary
key. Statements take CHUNK lines at a time, so that none grows with a batch.

`verdict` is the kind of difference, NULL if both sides agree or no money moves, and LATER if
nothing can be said now, so that a known difference stays as it is: an operation without an outcome
is the resolver's to judge, a line read a moment ago may be older than what we did since, our side
may be in the archive, and nobody knows a status that is new.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay import ids
from easypay.db.partitions import within_months
from easypay.money import THOUSANDTHS, WHOLE_CURRENCIES
from easypay.processors.books import MOVED
from easypay.reconciliation.spool import Spool

CHUNK: Final = 10_000
LATER: Final = "later"
OLD_AFTER: Final = timedelta(days=3)
"""When money that was taken should have settled."""
_JUST_NOW: Final = timedelta(minutes=5)
"""How long before a list is read what we did may be missing in it."""
_LONGEST_LIFE: Final = timedelta(days=400)
"""A refund's payment is not older than that."""

_TABLE: Final = """
    CREATE TEMPORARY TABLE book_matches (
        n bigint, transaction_id text, status text, meaning text, kind text, reference text,
        amount_minor bigint, currency text, card_brand text, last4 text,
        submitted_at timestamptz, batch_id text, settled_at timestamptz, fresh boolean,
        change_code text, change_message text, changed_at timestamptz,
        merchant_id uuid, mode text, payment_id uuid, operation_id uuid, order_reference text,
        our_state text, our_minor bigint, our_currency text, open boolean, watched boolean,
        verdict text
    ) ON COMMIT DROP
"""
_MATCH: Final = """
    WITH pairs AS (
        SELECT l.*, o.merchant_id, o.mode, o.payment_id, o.id AS operation_id, p.order_reference,
               o.kind AS op_kind, o.state AS op_state, o.transaction_id AS op_transaction_id,
               o.voided AS op_voided, o.amount_minor AS op_minor, o.currency AS our_currency,
               coalesce(o.finished_at, o.begun_at) AS op_at,
               p.status AS payment_status, p.captured_minor, p.updated_at AS payment_at,
               o.state IN ('in_flight', 'unknown', 'not_sent', 'queued', 'held')
                   OR p.active_operation IS NOT NULL AS open,
               o.state = 'absent' AND EXISTS (
                   SELECT FROM watched_operations w
                    WHERE w.merchant_id = o.merchant_id AND w.operation_id = o.id
                      AND w.purpose = 'absent') AS watched,
               CASE WHEN o.state = 'absent' THEN (
                   SELECT c.transaction_id FROM late_charges c
                    WHERE c.merchant_id = o.merchant_id AND c.operation_id = o.id) END AS late_id,
               coalesce(l.kind, CASE WHEN o.kind = 'refund' THEN 'refund'
                                     WHEN o.id IS NOT NULL THEN 'charge' END) AS money,
               CASE WHEN l.currency <> '' OR o.id IS NULL THEN l.amount_minor
                    WHEN o.currency = ANY($6::text[]) THEN l.amount_minor / 100
                    WHEN o.currency = ANY($7::text[]) THEN l.amount_minor * 10
                    ELSE l.amount_minor END AS minor,
               CASE WHEN l.currency = '' THEN coalesce(o.currency, '')
                    ELSE l.currency END AS in_currency
          FROM book_lines l
          LEFT JOIN LATERAL (
              SELECT * FROM operations o
               WHERE o.merchant_id = ANY($1::uuid[]) AND o.id >= l.low AND o.id <= l.high
                 AND {operations} AND o.kind IN ('authorize', 'sale', 'refund')
               LIMIT 1) o ON l.low IS NOT NULL
          LEFT JOIN LATERAL (
              SELECT * FROM payments p
               WHERE p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
                 AND {payments}
               LIMIT 1) p ON o.id IS NOT NULL
         WHERE l.n >= $2 AND l.n < $3
    )
    INSERT INTO book_matches
    SELECT n, transaction_id, status, meaning, money, reference, minor, in_currency, card_brand,
           last4, submitted_at, batch_id, settled_at, fresh, change_code, change_message,
           changed_at, merchant_id, mode, payment_id, operation_id, order_reference,
           CASE WHEN op_state = 'approved' AND op_kind <> 'refund' THEN payment_status
                ELSE op_state END,
           CASE WHEN op_state = 'approved' AND payment_status = 'captured' AND op_kind <> 'refund'
                THEN captured_minor ELSE op_minor END,
           our_currency, open, watched,
           CASE
           WHEN meaning IN ('declined', 'voided', 'expired') THEN
               -- What we hold for captured or refunded is no more explained by that than before.
               CASE WHEN op_state = 'approved' AND NOT op_voided
                     AND op_transaction_id = transaction_id
                     AND (op_kind = 'refund' OR payment_status = 'captured') THEN '{later}' END
           WHEN meaning = 'unclear' OR money IS NULL THEN '{later}'
           WHEN meaning = 'held' THEN
               -- Approved here: a review that has ended. There it goes on, and nothing settles.
               CASE WHEN op_state = 'approved' AND NOT op_voided AND NOT open
                     AND op_transaction_id = transaction_id
                     AND payment_status IN ('authorized', 'captured')
                     AND greatest(op_at, payment_at) < db_now() - $9::interval THEN 'not_settled'
                    ELSE '{later}' END
           WHEN operation_id IS NULL THEN
               CASE WHEN meaning IN ('authorized', 'failed') THEN NULL
                    WHEN $10 AND low IS NULL AND (money = 'charge' OR others) THEN NULL
                    -- Whose charge it gives back is asked once it has settled.
                    WHEN $10 AND low IS NULL AND settled_at IS NULL THEN '{later}'
                    WHEN submitted_at < $5::timestamptz
                      OR EXISTS (SELECT FROM archived_months a
                                  WHERE a.low <= pairs.low AND a.high > pairs.low) THEN '{later}'
                    ELSE 'unexplained_' || money END
           WHEN payment_status IS NULL THEN '{later}'                       -- archived
           WHEN open OR watched THEN '{later}'
           WHEN NOT fresh AND settled_at IS NULL
            AND greatest(op_at, payment_at) > $4::timestamptz - $8::interval THEN '{later}'
           WHEN money <> CASE op_kind WHEN 'refund' THEN 'refund' ELSE 'charge' END
               THEN 'unexplained_' || money
           WHEN late_id = transaction_id THEN NULL                 -- late_charges tells its story
           WHEN op_state <> 'approved' OR op_voided THEN
               CASE WHEN meaning IN ('authorized', 'failed') THEN NULL
                    ELSE 'unexplained_' || money END
           WHEN op_transaction_id <> transaction_id THEN
               -- A bank's return that names only our reference. Nobody has paid twice.
               CASE meaning WHEN 'returned' THEN 'unexplained_refund'
                            WHEN 'failed' THEN NULL ELSE 'doubled' END
           WHEN in_currency <> our_currency THEN 'currency_differs'
           WHEN op_kind <> 'refund' AND payment_status <> 'captured' THEN
               CASE WHEN meaning NOT IN ('authorized', 'failed') THEN 'unexplained_charge' END
           WHEN meaning = 'failed' THEN 'not_settled'
           WHEN meaning IN ('authorized', 'captured')
            AND CASE op_kind WHEN 'authorize' THEN greatest(op_at, payment_at) ELSE op_at END
                < db_now() - $9::interval THEN 'not_settled'
           WHEN meaning <> 'authorized'
            AND minor <> CASE op_kind WHEN 'refund' THEN op_minor ELSE captured_minor END
               THEN 'amount_differs'
           END
      FROM pairs
"""

# An operation that is in the books need not wait for its turn.
_INQUIRE: Final = """
    UPDATE unresolved_operations u SET next_inquiry_at = db_now()
      FROM book_matches m
     WHERE m.open AND m.meaning <> 'held' AND u.merchant_id = m.merchant_id
       AND u.operation_id = m.operation_id AND u.next_inquiry_at > db_now()
       AND NOT u.held AND NOT u.not_sent
"""
_LOOK: Final = """
    UPDATE watched_operations w SET next_look_at = db_now()
      FROM book_matches m
     WHERE m.watched AND w.merchant_id = m.merchant_id AND w.operation_id = m.operation_id
       AND w.purpose = 'absent' AND w.next_look_at > db_now()
"""

_GONE: Final = """
    DELETE FROM settled_transactions s
     WHERE s.account = $1 AND s.batch_id = $2
       AND NOT EXISTS (SELECT FROM book_matches m WHERE m.transaction_id = s.transaction_id
                          AND m.meaning = ANY($3::text[]) AND m.kind IS NOT NULL)
"""
_OURS: Final = (
    "kind, status, settlement_state, reference, amount_minor, currency, card_brand, last4,"
    " submitted_at, settled_at, merchant_id, mode, payment_id, operation_id, order_reference,"
    " change_code, change_message, changed_at"
)
_OUR_SIDE: Final = (
    *("amount_minor", "currency"),  # an amount without ours is in hundredths
    *("merchant_id", "mode", "payment_id", "operation_id", "order_reference"),
)


_WHAT_BECAME: Final = ("settlement_state", "change_code", "change_message", "changed_at")


def _kept(name: str) -> str:
    """Return what a column becomes. What we knew once is not forgotten with our own rows, which may
    be in the archive. Nor is a return that another transaction told of: the transaction itself goes
    on saying what it said before."""
    if name in _WHAT_BECAME:
        return (
            "CASE WHEN excluded.settlement_state = 'settled' AND s.status = excluded.status"
            f" THEN s.{name} ELSE excluded.{name} END"
        )
    if name not in _OUR_SIDE:
        return f"excluded.{name}"
    return (
        "CASE WHEN excluded.payment_id IS NULL AND s.payment_id IS NOT NULL"
        f" THEN s.{name} ELSE excluded.{name} END"
    )


_KEPT: Final = ", ".join(_kept(name.strip()) for name in _OURS.split(","))
# Money of ours that two batches show counts in the one that was read first: it came once. What
# became of it may be told by either. A return that is a transaction of its own is a line of the
# batch of what it returns (`spool`).
_KEEP: Final = f"""
    INSERT INTO settled_transactions AS s (account, batch_id, transaction_id, {_OURS})
    SELECT DISTINCT ON (m.batch_id, m.transaction_id) $1, m.batch_id, m.transaction_id, m.kind,
           m.status, m.meaning, m.reference, m.amount_minor, m.currency, m.card_brand, m.last4,
           m.submitted_at, m.settled_at, m.merchant_id, m.mode, m.payment_id, m.operation_id,
           m.order_reference, m.change_code, m.change_message, m.changed_at
      FROM book_matches m
     WHERE m.n >= $3 AND m.n < $4 AND m.meaning = ANY($2::text[]) AND m.kind IS NOT NULL
       AND m.batch_id IS NOT NULL AND m.settled_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM settled_transactions other
                        WHERE other.merchant_id = m.merchant_id
                          AND other.payment_id = m.payment_id AND other.account = $1
                          AND other.transaction_id = m.transaction_id
                          AND other.batch_id <> m.batch_id)
     ORDER BY m.batch_id, m.transaction_id
    ON CONFLICT (account, batch_id, transaction_id) DO UPDATE SET ({_OURS}) =
        ROW ({_KEPT})
     WHERE ({", ".join(f"s.{name.strip()}" for name in _OURS.split(","))})
        IS DISTINCT FROM ({_KEPT})
"""
_BECAME: Final = """
    UPDATE settled_transactions other
       SET status = m.status, settlement_state = m.meaning, change_code = m.change_code,
           change_message = m.change_message, changed_at = m.changed_at
      FROM book_matches m
     WHERE m.n >= $3 AND m.n < $4 AND m.meaning = ANY($2::text[]) AND m.kind IS NOT NULL
       AND m.meaning <> 'settled' AND m.meaning <> other.settlement_state
       AND other.merchant_id = m.merchant_id AND other.payment_id = m.payment_id
       AND other.account = $1 AND other.transaction_id = m.transaction_id
       AND other.batch_id IS DISTINCT FROM m.batch_id
"""
# Ours came after the batch was read: a month out of the archive, an operation that was restored.
_EXPLAIN: Final = f"""
    UPDATE settled_transactions s
       SET ({", ".join(_OUR_SIDE)}) = ROW ({", ".join(f"m.{name}" for name in _OUR_SIDE)})
      FROM book_matches m
     WHERE s.account = $1 AND s.batch_id = m.batch_id AND s.transaction_id = m.transaction_id
       AND s.payment_id IS NULL AND m.payment_id IS NOT NULL
"""


class Account(NamedTuple):
    """Whose books are compared: an account with what is ours of it."""

    key: bytes
    merchants: Sequence[UUID]
    known_since: datetime
    """What was charged there before is not ours to explain."""
    shared: bool = False
    """Other programs charge there, too. A charge without a reference of our form is theirs, and so
    is the refund of one."""


async def match(connection: Any, spool: Spool, account: Account, read_began_at: datetime) -> None:
    """Load the lines and put our side beside each."""
    await spool.load(connection)
    await connection.execute(_TABLE)
    low, high = spool.oldest_id, spool.newest_id
    if low is None or high is None:
        low = high = ids.lowest_id_at(read_began_at)
    oldest_payment = ids.lowest_id_at(ids.moment_of(low) - _LONGEST_LIFE)
    statement = _MATCH.format(
        operations=within_months("o.id", (low, high)),
        payments=within_months("p.id", (oldest_payment, high)),
        later=LATER,
    )
    for first in range(0, spool.lines, CHUNK):
        await connection.execute(
            statement,
            account.merchants,
            first,
            first + CHUNK,
            read_began_at,
            account.known_since,
            WHOLE_CURRENCIES,
            THOUSANDTHS,
            _JUST_NOW,
            OLD_AFTER,
            account.shared,
        )
    await connection.execute(
        "ANALYZE book_matches (n, transaction_id, meaning, merchant_id, payment_id, operation_id)"
    )
    await connection.execute(_INQUIRE)
    await connection.execute(_LOOK)


async def explain(connection: Any, account: Account) -> None:
    """Say of rows that had no side of ours whose they are, where that is known now."""
    await connection.execute(_EXPLAIN, account.key)


async def keep(
    connection: Any, spool: Spool, account: Account, batch_id: str, *, whole: bool
) -> None:
    """Make the rows of a batch what its list says: only what differs is written. A list that is not
    whole takes no row away: what was told once would be told again."""
    moved = sorted(MOVED)
    if whole:
        await connection.execute(_GONE, account.key, batch_id, moved)
    for first in range(0, spool.lines, CHUNK):
        for statement in (_KEEP, _BECAME):
            await connection.execute(statement, account.key, moved, first, first + CHUNK)
