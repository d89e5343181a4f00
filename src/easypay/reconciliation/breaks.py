"""Differences as rows: found once, cleared by themselves, matched by a person. SQL only.

`note` and `clear` work on `book_matches` (see `matching`) in the caller's transaction.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay import ids
from easypay.db.partitions import within_months
from easypay.payments.audit_log import write_down
from easypay.payments.resolver_rows import joins
from easypay.processors.books import BookLine
from easypay.reconciliation.matching import LATER, OLD_AFTER, Account
from easypay.reconciliation.model import ABOUT_LINES, BREAK_COLUMNS, Break, BreakKind

Runner = Any
Span = tuple[UUID, UUID]
"""From the first id to before the second."""

ITSELF: Final = "easypay"
"""Who closes a difference that is no more."""
UNPROVEN_AFTER: Final = "24 hours"
MOST_OF_OURS: Final = 1_000
"""Rows of ours that are written in a run, for each kind."""
AT_ONCE: Final = 1_000
"""Operations that one statement finds in no list."""
_PAYMENT_LIFE: Final = timedelta(days=32)
"""An authorization is captured within 30 days."""
_LONG: Final = timedelta(hours=12)
"""An operation that was open for longer is looked for by the time at which it ended."""

# A UUIDv7 as `ids.new_id` makes them, by the database's clock.
_NEW_ID: Final = (
    "(left(lowest_id_at(db_now())::text, 13) || '-7' || substr(gen_random_uuid()::text, 16))::uuid"
)
_FOUND: Final = """
    account, kind, subject, merchant_id, mode, payment_id, operation_id, batch_id,
    transaction_id, reference, our_state, our_minor, our_currency, their_state, their_minor,
    their_currency, last4, happened_at
"""
# Who has the account alone is shown what nobody's operation explains.
_SOLE_OWNER: Final = """
    sole AS (SELECT min(merchant_id::text)::uuid AS merchant_id, min(mode) AS mode
               FROM (SELECT DISTINCT merchant_id, mode FROM processor_logins
                      WHERE account = $1) l
             HAVING count(*) = 1)
"""
# What is matched stays so (but see _REOPEN). What was cleared is opened again.
_WRITE: Final = f"""
    INSERT INTO reconciliation_breaks AS b (id, {_FOUND})
    SELECT {_NEW_ID}, {_FOUND} FROM found
    ON CONFLICT (account, kind, subject) DO UPDATE
       SET state = 'open', closed_at = NULL, closed_by = NULL,
           reason = CASE b.state WHEN 'open' THEN b.reason END,
           batch_id = coalesce(excluded.batch_id, b.batch_id),
           merchant_id = excluded.merchant_id, mode = excluded.mode,
           payment_id = excluded.payment_id, operation_id = excluded.operation_id,
           our_state = excluded.our_state, our_minor = excluded.our_minor,
           our_currency = excluded.our_currency, their_state = excluded.their_state,
           their_minor = excluded.their_minor, their_currency = excluded.their_currency
     WHERE b.state <> 'matched'
       AND (b.state = 'cleared'
            OR (coalesce(excluded.batch_id, b.batch_id), excluded.merchant_id, excluded.our_state,
                excluded.our_minor, excluded.their_state, excluded.their_minor)
               IS DISTINCT FROM (b.batch_id, b.merchant_id, b.our_state, b.our_minor,
                b.their_state, b.their_minor))
    RETURNING kind, xmax = 0 AS new
"""
_NOTE: Final = f"""
    WITH {_SOLE_OWNER}, found AS (
        SELECT DISTINCT ON (m.transaction_id) $1::bytea AS account, m.verdict AS kind,
               m.transaction_id AS subject,
               coalesce(m.merchant_id, sole.merchant_id) AS merchant_id,
               coalesce(m.mode, sole.mode) AS mode, m.payment_id, m.operation_id, m.batch_id,
               m.transaction_id, m.reference, m.our_state, m.our_minor, m.our_currency,
               m.status AS their_state, m.amount_minor AS their_minor,
               nullif(m.currency, '') AS their_currency, m.last4,
               coalesce(m.submitted_at, m.settled_at) AS happened_at
          FROM book_matches m LEFT JOIN sole ON true
         WHERE m.verdict <> '{LATER}'
         ORDER BY m.transaction_id
    )
    {_WRITE}
"""
# A person has explained other amounts, or what a bank has undone since. That it settles is no news.
_REOPEN: Final = """
    UPDATE reconciliation_breaks b
       SET state = 'open', closed_at = NULL, closed_by = NULL,
           reason = 'it has changed since ' || b.closed_by || ' matched it: ' || b.reason
      FROM book_matches m
     WHERE b.account = $1 AND b.state = 'matched' AND b.subject = m.transaction_id
       AND b.kind = m.verdict
       AND ((m.amount_minor, m.our_minor) IS DISTINCT FROM (b.their_minor, b.our_minor)
            OR m.status <> b.their_state AND m.meaning NOT IN ('captured', 'settled'))
"""
_CLEAR: Final = f"""
    UPDATE reconciliation_breaks b
       SET state = 'cleared', closed_at = db_now(), closed_by = '{ITSELF}',
           their_state = m.status,
           reason = CASE WHEN m.meaning IN ('voided', 'expired', 'declined')
                         THEN 'it moves no money: the processor has it as ' || m.status
                         WHEN m.verdict IS NOT NULL THEN 'found again as ' || m.verdict
                         WHEN m.operation_id IS NULL AND m.meaning NOT IN ('authorized', 'failed')
                         THEN 'it is another program''s: the account is shared'
                         ELSE 'both sides agree' END
      FROM book_matches m
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = ANY($2::text[])
       AND b.subject = m.transaction_id
       AND m.verdict IS DISTINCT FROM b.kind AND m.verdict IS DISTINCT FROM '{LATER}'
"""

# Ours ------------------------------------------------------------------------------------------

# What should be in the books and is not: money that we took or returned, of some operations.
_ABSENT: Final = """
    WITH ours AS MATERIALIZED (
        SELECT o.* FROM operations o
         WHERE o.merchant_id = ANY($2::uuid[]) AND {which} AND {operations}
           AND o.kind IN ('authorize', 'sale', 'capture', 'refund') AND o.state = 'approved'
           AND NOT o.voided
           AND coalesce(o.finished_at, o.begun_at) < $3
    ), left_over AS MATERIALIZED (
        SELECT o.* FROM ours o
         WHERE NOT EXISTS (SELECT FROM book_matches m
                            WHERE m.payment_id = o.payment_id AND m.merchant_id = o.merchant_id
                              AND CASE o.kind WHEN 'refund' THEN m.operation_id = o.id
                                              ELSE m.kind = 'charge' END)
           AND NOT EXISTS (SELECT FROM settled_transactions s
                            WHERE s.merchant_id = o.merchant_id AND s.payment_id = o.payment_id
                              AND CASE o.kind WHEN 'refund' THEN s.operation_id = o.id
                                              ELSE s.kind = 'charge' END)
    )
    SELECT o.merchant_id, o.id, o.payment_id, o.reference,
           CASE o.kind WHEN 'refund' THEN o.transaction_id ELSE p.transaction_id END,
           o.kind = 'authorize'
      FROM left_over o
     CROSS JOIN LATERAL (SELECT * FROM payments p
                          WHERE p.merchant_id = o.merchant_id AND p.mode = o.mode
                            AND p.id = o.payment_id AND {payments} LIMIT 1) p
     WHERE CASE o.kind WHEN 'refund' THEN true WHEN 'authorize' THEN p.status = 'authorized'
                       ELSE p.status = 'captured' END
       AND p.active_operation IS NULL
       AND p.login_id IN (SELECT l.id FROM processor_logins l WHERE l.account = $1)
       AND NOT EXISTS (SELECT FROM reconciliation_breaks b
                        WHERE b.account = $1 AND b.operation_id = o.id AND b.subject = o.reference
                          AND b.state <> 'cleared')
     ORDER BY o.id LIMIT $4
"""
_OF_SPAN: Final = "o.id >= $5 AND o.id < $6"
_NAMED: Final = "o.id = ANY($5::uuid[])"
# An event has the time at which its operation ended. Settlement comes late for every payment.
_ENDED_LATE: Final = """
    SELECT e.id, e.operation_id, e.payment_id FROM events e
     WHERE e.merchant_id = ANY($1::uuid[]) AND e.id >= $2 AND e.id < $3 AND {events}
       AND e.type NOT IN ('payment.settled', 'refund.settled')
       AND e.operation_id < lowest_id_at(e.created_at - $4::interval)
     ORDER BY e.id LIMIT $5
"""
# In any order: if there is no time to ask about all of them, each has its turn in some run.
_OPEN_OURS: Final = """
    SELECT b.merchant_id, b.operation_id, b.payment_id, b.reference, b.transaction_id,
           b.our_state = 'authorized'
      FROM reconciliation_breaks b
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = ANY($2::text[])
     ORDER BY random() LIMIT $3
"""
_NOTE_OURS: Final = f"""
    WITH asked AS (
        SELECT * FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[],
                             $7::text[])
            AS u(kind, merchant_id, operation_id, payment_id, transaction_id, their_state)
    ), found AS (
        SELECT $1::bytea AS account, u.kind, o.reference AS subject, o.merchant_id, o.mode,
               o.payment_id, o.id AS operation_id, NULL::text AS batch_id, u.transaction_id,
               o.reference,
               CASE o.kind WHEN 'refund' THEN o.state ELSE p.status END AS our_state,
               CASE o.kind WHEN 'refund' THEN o.amount_minor
                           WHEN 'authorize' THEN p.authorized_minor
                           ELSE p.captured_minor END AS our_minor,
               o.currency AS our_currency, u.their_state, NULL::bigint AS their_minor,
               NULL::text AS their_currency, p.card_last4 AS last4, o.begun_at AS happened_at
          FROM asked u {{joins}}
         WHERE o.state = 'approved' AND p.active_operation IS NULL
           AND CASE o.kind WHEN 'refund' THEN true WHEN 'authorize' THEN p.status = 'authorized'
                           ELSE p.status = 'captured' END
           AND (u.kind <> 'missing_at_processor'
                OR coalesce(o.finished_at, o.begun_at) < db_now() - $8::interval)
    )
    {_WRITE}
"""
_CLEAR_OURS: Final = f"""
    UPDATE reconciliation_breaks b
       SET state = 'cleared', closed_at = db_now(), closed_by = '{ITSELF}', reason = a.reason
      FROM unnest($2::text[], $3::text[], $4::text[]) AS a(subject, now_kind, reason)
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = ANY($5::text[])
       AND b.subject = a.subject AND b.kind IS DISTINCT FROM a.now_kind
"""
# Ours has changed since: the payment was voided, refunded or given back here too.
_CLEAR_CHANGED: Final = f"""
    UPDATE reconciliation_breaks b
       SET state = 'cleared', closed_at = db_now(), closed_by = '{ITSELF}',
           reason = 'the payment is ' || p.status || ' here now'
      FROM payments p
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = ANY($2::text[])
       AND p.merchant_id = b.merchant_id AND p.mode = b.mode AND p.id = b.payment_id AND {{months}}
       AND b.our_state IN ('authorized', 'captured') AND p.status <> b.our_state
       AND p.active_operation IS NULL
"""

_UNPROVEN_IDS: Final = f"""
    SELECT merchant_id, operation_id, payment_id FROM unresolved_operations
     WHERE account = $1 AND NOT held AND NOT not_sent
       AND since < db_now() - interval '{UNPROVEN_AFTER}'
     ORDER BY since LIMIT $2
"""
_UNPROVEN: Final = f"""
    WITH found AS (
        SELECT $1::bytea AS account, 'unknown_unproven' AS kind, o.reference AS subject,
               o.merchant_id, o.mode, o.payment_id, o.id AS operation_id, NULL::text AS batch_id,
               o.transaction_id, o.reference, o.state AS our_state, o.amount_minor AS our_minor,
               o.currency AS our_currency, NULL::text AS their_state, NULL::bigint AS their_minor,
               NULL::text AS their_currency, p.card_last4 AS last4, o.begun_at AS happened_at
          FROM unnest($2::uuid[], $3::uuid[], $4::uuid[])
                   AS u(merchant_id, operation_id, payment_id) {{joins}}
         WHERE o.state IN ('in_flight', 'unknown')
    )
    {_WRITE}
"""
_PROVEN: Final = f"""
    UPDATE reconciliation_breaks b
       SET state = 'cleared', closed_at = db_now(), closed_by = '{ITSELF}',
           reason = 'its outcome is known'
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = 'unknown_unproven'
       AND NOT EXISTS (SELECT FROM unresolved_operations u
                        WHERE u.merchant_id = b.merchant_id AND u.operation_id = b.operation_id)
"""
_LATE_IDS: Final = """
    SELECT merchant_id, operation_id, payment_id FROM late_charges
     WHERE state = 'needs_person' AND merchant_id = ANY($1::uuid[]) ORDER BY found_at LIMIT $2
"""
_LATE: Final = f"""
    WITH found AS (
        SELECT $1::bytea AS account, 'late_charge_open' AS kind, c.transaction_id AS subject,
               c.merchant_id, c.mode, c.payment_id, c.operation_id, NULL::text AS batch_id,
               c.transaction_id, o.reference, p.status AS our_state, NULL::bigint AS our_minor,
               c.currency AS our_currency, c.kind AS their_state, c.amount_minor AS their_minor,
               c.currency AS their_currency, p.card_last4 AS last4, c.found_at AS happened_at
          FROM unnest($2::uuid[], $3::uuid[], $4::uuid[])
                   AS u(merchant_id, operation_id, payment_id)
          JOIN late_charges c ON c.merchant_id = u.merchant_id
           AND c.operation_id = u.operation_id {{joins}}
         WHERE c.state = 'needs_person'
           AND p.login_id IN (SELECT l.id FROM processor_logins l WHERE l.account = $1)
    )
    {_WRITE}
"""
_LATE_CLOSED: Final = f"""
    UPDATE reconciliation_breaks b
       SET state = 'cleared', closed_at = db_now(), closed_by = '{ITSELF}',
           reason = 'the late charge is ' || c.state
      FROM late_charges c
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = 'late_charge_open'
       AND c.merchant_id = b.merchant_id AND c.operation_id = b.operation_id
       AND c.state <> 'needs_person'
"""
_OUR_KINDS: Final = [BreakKind.MISSING_AT_PROCESSOR.value, BreakKind.UNEXPLAINED_VOID.value]
_LINE_KINDS: Final = sorted(kind.value for kind in ABOUT_LINES)


class Ours(NamedTuple):
    """An operation of ours that the books do not show, and the transaction to ask about."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID
    reference: str
    transaction_id: str | None
    holds: bool
    """It holds money and has taken none."""


class Asked(NamedTuple):
    """What the processor says of such an operation. `kind`: what differs, None if nothing."""

    ours: Ours
    kind: BreakKind | None
    their_state: str


New = Counter[str]
"""How many differences were found for the first time, by kind."""


def _count(new: New, rows: Iterable[Any]) -> None:
    for row in rows:
        new[row["kind"]] += row["new"]


async def note(connection: Any, account: Account, new: New) -> None:
    """Write what `book_matches` found, and clear what it found no more."""
    await connection.execute(_REOPEN, account.key)
    _count(new, await connection.fetch(_NOTE, account.key))
    await connection.execute(_CLEAR, account.key, _LINE_KINDS)


async def note_ours(connection: Any, account: Account, new: New) -> None:
    """Write and clear the differences that begin with rows of ours."""
    for statement, found in (
        (_UNPROVEN, await connection.fetch(_UNPROVEN_IDS, account.key, MOST_OF_OURS)),
        (_LATE, await connection.fetch(_LATE_IDS, account.merchants, MOST_OF_OURS)),
    ):
        if found:
            merchants, operations, payments = zip(*found, strict=True)
            text = statement.format(joins=joins(operations, payments))
            _count(new, await connection.fetch(text, account.key, merchants, operations, payments))
    await connection.execute(_PROVEN, account.key)
    await connection.execute(_LATE_CLOSED, account.key)


async def not_in_the_books(
    connection: Any, account: Account, span: Span, before: datetime
) -> tuple[list[Ours], UUID]:
    """Return what should be in the books and is not, oldest first, and the id up to which was
    looked: the span's end, or less if there is much. `span` bounds the operations' ids; each ended
    before `before`."""
    oldest = ids.lowest_id_at(ids.moment_of(span[0]) - _PAYMENT_LIFE)
    rows = await connection.fetch(
        _ABSENT.format(
            which=_OF_SPAN,
            operations=within_months("o.id", span),
            payments=within_months("p.id", (oldest, span[1])),
        ),
        *(account.key, account.merchants, before, AT_ONCE),
        *span,
    )
    found = [Ours(*row) for row in rows]
    return found, _next(found[-1].operation_id) if len(found) == AT_ONCE else span[1]


async def ended_late(
    connection: Any, account: Account, span: Span, before: datetime
) -> tuple[list[Ours], UUID]:
    """Return the same of operations that were open for long before they ended. `span` bounds the
    ids of the events that told of it."""
    events = await connection.fetch(
        _ENDED_LATE.format(events=within_months("e.id", span)),
        *(account.merchants, *span, _LONG, AT_ONCE),
    )
    if not events:
        return [], span[1]
    operations = [row[1] for row in events]
    rows = await connection.fetch(
        _ABSENT.format(
            which=_NAMED,
            operations=within_months("o.id", operations),
            payments=within_months("p.id", [row[2] for row in events]),
        ),
        *(account.key, account.merchants, before, AT_ONCE, operations),
    )
    return [Ours(*row) for row in rows], (
        _next(events[-1][0]) if len(events) == AT_ONCE else span[1]
    )


def _next(value: UUID) -> UUID:
    return UUID(int=value.int + 1)


async def open_ours(connection: Any, account: Account, limit: int) -> list[Ours]:
    """Return those with an open difference."""
    return [
        Ours(*row) for row in await connection.fetch(_OPEN_OURS, account.key, _OUR_KINDS, limit)
    ]


async def note_asked(connection: Any, account: Account, asked: Sequence[Asked], new: New) -> None:
    """Write and clear what the processor said of operations that the books do not show."""
    found = [each for each in asked if each.kind is not None]
    if found:
        operations = [each.ours.operation_id for each in found]
        payments = [each.ours.payment_id for each in found]
        statement = _NOTE_OURS.format(joins=joins(operations, payments))
        _count(
            new,
            await connection.fetch(
                statement,
                account.key,
                [each.kind for each in found],
                [each.ours.merchant_id for each in found],
                operations,
                payments,
                [each.ours.transaction_id for each in found],
                [each.their_state for each in found],
                OLD_AFTER,
            ),
        )
    if not asked:
        return
    await connection.execute(
        _CLEAR_OURS,
        account.key,
        [each.ours.reference for each in asked],
        [each.kind for each in asked],
        [f"the processor has it as {each.their_state}" for each in asked],
        _OUR_KINDS,
    )
    months = within_months("p.id", [each.ours.payment_id for each in asked])
    await connection.execute(_CLEAR_CHANGED.format(months=months), account.key, _OUR_KINDS)


_OPEN_LINES: Final = """
    SELECT b.transaction_id FROM reconciliation_breaks b
     WHERE b.account = $1 AND b.state = 'open' AND b.kind = ANY($2::text[])
       AND NOT EXISTS (SELECT FROM book_matches m WHERE m.transaction_id = b.transaction_id)
       AND NOT EXISTS (SELECT FROM settled_transactions s
                        WHERE s.account = $1 AND s.batch_id = b.batch_id
                          AND s.transaction_id = b.transaction_id)
     GROUP BY 1 ORDER BY random() LIMIT $3
"""
_OPEN_SETTLED: Final = """
    WITH b AS (SELECT batch_id, transaction_id FROM reconciliation_breaks
                WHERE account = $1 AND state = 'open' AND kind = ANY($2::text[])
                UNION
               SELECT batch_id, transaction_id FROM settled_transactions
                WHERE account = $1 AND payment_id IS NOT NULL
                  AND told IS DISTINCT FROM settlement_state)
    SELECT s.transaction_id, s.status, s.settlement_state, s.kind, s.reference, s.amount_minor,
           s.currency, s.card_brand, s.last4, s.submitted_at, s.batch_id, s.settled_at
      FROM b
      JOIN settled_transactions s ON s.account = $1 AND s.batch_id = b.batch_id
       AND s.transaction_id = b.transaction_id
     WHERE (b.batch_id, b.transaction_id) > ($3, $4)
     ORDER BY b.batch_id, b.transaction_id LIMIT $5
"""


class SettledLine(NamedTuple):
    line: BookLine
    batch_id: str
    settled_at: datetime


async def open_lines(connection: Any, account: Account, limit: int) -> list[str]:
    """Return the transactions with an open difference that are in no batch, and not in
    `book_matches` either."""
    rows = await connection.fetch(_OPEN_LINES, account.key, _LINE_KINDS, limit)
    return [row[0] for row in rows]


async def open_settled(
    connection: Any, account: Account, after: tuple[str, str], limit: int
) -> list[SettledLine]:
    """Return the lines of batches that are to be judged once more, for a difference is open, or
    ours was when the batch was read. `after`: the batch and transaction of the last ones."""
    rows = await connection.fetch(_OPEN_SETTLED, account.key, _LINE_KINDS, *after, limit)
    return [SettledLine(BookLine(*row[:10]), row[10], row[11]) for row in map(list, rows)]


# by hand ---------------------------------------------------------------------------------------

_FIND: Final = f"SELECT {BREAK_COLUMNS} FROM reconciliation_breaks WHERE id = $1"
_MATCH: Final = f"""
    UPDATE reconciliation_breaks
       SET state = 'matched', closed_at = db_now(), closed_by = $2, reason = $3
     WHERE id = $1 AND state = 'open'
 RETURNING {BREAK_COLUMNS}
"""
_OWN: Final = f"""
    UPDATE reconciliation_breaks SET owner = $2 WHERE id = $1 AND owner IS DISTINCT FROM $2
 RETURNING {BREAK_COLUMNS}
"""


async def find(runner: Runner, break_id: UUID) -> Break | None:
    row = await runner.fetchrow(_FIND, break_id)
    return None if row is None else Break(*row)


async def match_by_hand(connection: Any, break_id: UUID, actor: str, reason: str) -> Break | None:
    """Record a person's explanation, audited, in the caller's transaction. Returns None, and does
    nothing, if the difference is not open."""
    row = await connection.fetchrow(_MATCH, break_id, actor, reason)
    if row is None:
        return None
    found = Break(*row)
    detail = {"kind": found.kind, "subject": found.subject, "reason": reason}
    await write_down(
        connection, actor, "reconciliation.matched", ids.typed(ids.BREAK, found.id), detail
    )
    return found


async def own(connection: Any, break_id: UUID, owner: str | None, actor: str) -> Break | None:
    """Say who sees to a difference, audited, in the caller's transaction. Returns None if it is
    theirs already, or there is none."""
    row = await connection.fetchrow(_OWN, break_id, owner)
    if row is None:
        return None
    found = Break(*row)
    await write_down(
        connection, actor, "reconciliation.owned", ids.typed(ids.BREAK, found.id), {"owner": owner}
    )
    return found
