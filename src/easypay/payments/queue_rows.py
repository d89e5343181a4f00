"""Queued operations as rows: how they are begun, queued again and cancelled. SQL only.

A worker leases the row of an operation that was accepted (`queue_acceptance`, `db.work_list`), then
begins the operation: from that commit on it is in flight like any other, and only then may anything
be sent. One begin can follow one acceptance, whatever became of the lease.

The operation is locked first and the payment second, as in `statements.RECORD`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import astuple

from easypay import clock, ids
from easypay.db.work_list import Work, WorkList
from easypay.mode import Mode
from easypay.payments.begin import FollowUp
from easypay.payments.model import (
    OPERATION_COLUMNS,
    PAYMENT_COLUMNS,
    Operation,
    Payment,
    operation_of,
    payment_of,
)
from easypay.payments.statements import (
    FOLLOW_UP_ALLOWED,
    RECORD_CHANGES,
    Statement,
    record_sql,
)

Runner = Any

QUEUED: Final = WorkList(
    "queued_operations",
    key=(("merchant_id", "uuid"), ("operation_id", "uuid")),
    payload=(
        *("payment_id", "mode", "kind", "sealed", "asked_minor", "whole", "expected_version"),
        *("expires_at", "trace_id", "span_id"),
    ),
    # One look-up for each row, whatever the plan takes the table for: LIMIT keeps it apart.
    ready="(SELECT e.place FROM queued_operations e WHERE e.payment_id = w.payment_id"
    " AND e.place < w.place ORDER BY e.place LIMIT 1) IS NULL",
    counted="w.place = min(w.place) OVER (PARTITION BY w.merchant_id, w.payment_id)",
)
"""The work list. Of each payment, the operation that was accepted first is done first."""


Link = tuple[UUID, int]
"""A trace, and a span in it as a signed number: what a later trace leads back to."""


class QueuedWork(NamedTuple):
    """A row of the list as a claim returns it: its key, then the payload of QUEUED."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID
    mode: Mode
    kind: str
    sealed: bytes | None
    asked_minor: int | None
    whole: bool
    expected_version: int | None
    expires_at: datetime
    trace_id: UUID | None = None
    span_id: int | None = None

    @property
    def link(self) -> Link | None:
        """The trace of its request, if that was traced."""
        if self.trace_id is None or self.span_id is None:
            return None
        return self.trace_id, self.span_id


# begin: from then on it may be sent --------------------------------------------------------------


class Turn(msgspec.Struct, frozen=True, gc=False):
    """A queued payment whose turn it is. `needs_s`: how long the call may take. `event_id` is that
    of its event `payment.processing`, which happens `at`: after the payment's `payment.pending`,
    however much ahead the clock was that dated it."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID
    mode: Mode
    needs_s: float
    event_id: UUID
    at: datetime


def turn_of(item: QueuedWork, needs_s: float) -> Turn:
    """Return the turn of a payment that was claimed."""
    at = clock.now_after(ids.moment_of(item.payment_id))
    return Turn(
        *(item.merchant_id, item.operation_id, item.payment_id, item.mode, needs_s),
        *(ids.new_id_from(at), at),
    )


Rows = tuple[Operation, Payment]

_OPERATION: Final = OPERATION_COLUMNS.split(", ")
_PAYMENT: Final = PAYMENT_COLUMNS.split(", ")


def _returned(alias: str, columns: Sequence[str]) -> str:
    """Return columns of a row under names of their own: `o.id AS o_id`."""
    return ", ".join(f"{alias}.{column} AS {alias}_{column}" for column in columns)


def _named(alias: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{alias}_{column}" for column in columns)


_ROWS: Final = f"{_named('o', _OPERATION)}, {_named('p', _PAYMENT)}"

# LIMIT keeps the look-up of the row apart, so that of the operation is by its whole key, even in a
# plan that was made while the month was empty.
BEGIN_QUEUED_PAYMENTS: Final = f"""
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::float8[],
                             $6::uuid[], $7::timestamptz[])
            AS i(merchant_id, operation_id, payment_id, mode, needs_s, event_id, at)
    ), waiting AS MATERIALIZED (
        SELECT i.* FROM input i CROSS JOIN LATERAL (
               SELECT q.expires_at FROM queued_operations q
                WHERE q.merchant_id = i.merchant_id AND q.operation_id = i.operation_id
                LIMIT 1) AS q
         WHERE q.expires_at > db_now() + make_interval(secs => i.needs_s)
    ), begun AS (
        UPDATE {{operations}} o SET state = 'in_flight', begun_at = db_now()
          FROM waiting i
         WHERE o.merchant_id = i.merchant_id AND o.id = i.operation_id
           AND o.payment_id = i.payment_id AND o.state = 'queued'
        RETURNING i.event_id, i.at, {_returned("o", _OPERATION)}
    ), moved AS (
        UPDATE {{payments}} p
           SET status = 'processing', version = p.version + 1,
               updated_at = greatest(p.updated_at, at)
          FROM begun
         WHERE p.merchant_id = o_merchant_id AND p.mode = o_mode AND p.id = o_payment_id
           AND p.active_operation = o_id AND p.status IN ('pending', 'processing')
        RETURNING {_returned("p", _PAYMENT)}
    ), happened AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        SELECT o_merchant_id, event_id, o_payment_id, o_id, o_mode, 'payment.processing',
            'processing', o_amount_minor, o_currency, p_updated_at
          FROM begun JOIN moved ON p_merchant_id = o_merchant_id AND p_id = o_payment_id
    )
    SELECT {_ROWS} FROM begun JOIN moved
        ON p_merchant_id = o_merchant_id AND p_id = o_payment_id
     WHERE CASE WHEN (SELECT count(*) FROM moved) = (SELECT count(*) FROM begun) THEN true
                ELSE refuse('a queued operation does not hold its payment') END
"""


class FollowUpTurn(msgspec.Struct, frozen=True, gc=False):
    """An operation of a payment whose turn it is. `claim` is the number of the claim: only the
    worker whose claim is the last one begins it, whatever became of clocks and leases."""

    intent: FollowUp
    claim: int


# Of a payment that does not allow it, nothing is changed: the operation stays queued.
BEGIN_QUEUED_FOLLOW_UPS: Final = f"""
    WITH input AS (
        SELECT * FROM unnest($1::follow_up_intent[], $2::int[])
            AS i({", ".join(FollowUp.__struct_fields__)}, claim)
    ), waiting AS MATERIALIZED (
        SELECT o.merchant_id, o.id FROM input i JOIN {{operations}} o
            ON o.merchant_id = i.merchant_id AND o.id = i.operation_id
               AND o.payment_id = i.payment_id
             JOIN queued_operations q
            ON q.merchant_id = ANY (ARRAY[i.merchant_id])
               AND q.operation_id = ANY (ARRAY[i.operation_id])
         WHERE o.state = 'queued' AND q.expires_at > db_now() AND q.attempt = i.claim
         ORDER BY o.id FOR UPDATE OF o, q
    ), taken AS (
        UPDATE {{payments}} p
           SET active_operation = CASE WHEN i.kind <> 'refund' THEN i.operation_id END,
               refund_reserved_minor = p.refund_reserved_minor
                   + CASE WHEN i.kind = 'refund' THEN i.asked_minor ELSE 0 END
          FROM input i JOIN waiting w ON w.merchant_id = i.merchant_id AND w.id = i.operation_id
         WHERE p.merchant_id = i.merchant_id AND p.mode = i.mode AND p.id = i.payment_id
           AND p.active_operation IS NULL
           AND (i.expected_version IS NULL OR p.version = i.expected_version)
           {FOLLOW_UP_ALLOWED}
        RETURNING i.operation_id, i.kind, i.asked_minor, {_returned("p", _PAYMENT)}
    ), begun AS (
        UPDATE {{operations}} o
           SET state = 'in_flight', begun_at = db_now(),
               parent_transaction_id = t.p_transaction_id,
               amount_minor = coalesce(t.asked_minor, CASE t.kind
                   WHEN 'capture' THEN t.p_authorized_minor ELSE t.p_amount_minor END)
          FROM taken t
         WHERE o.merchant_id = t.p_merchant_id AND o.id = t.operation_id
           AND o.payment_id = t.p_id AND o.state = 'queued'
        RETURNING {_returned("o", _OPERATION)}
    )
    SELECT {_ROWS} FROM begun JOIN taken ON operation_id = o_id
     WHERE CASE WHEN (SELECT count(*) FROM begun) = (SELECT count(*) FROM taken) THEN true
                ELSE refuse('an operation took its payment and did not begin') END
"""


def _turns_arguments(items: Sequence[Turn]) -> list[list[Any]]:
    columns = list(map(list, zip(*map(astuple, items), strict=True)))
    return columns or [[] for _ in Turn.__struct_fields__]


def _rows_of(row: asyncpg.Record) -> Rows:
    values = tuple(row)
    return operation_of(values[: len(_OPERATION)]), payment_of(values[len(_OPERATION) :])


def begun_results(
    items: Sequence[Turn | FollowUp], rows: list[asyncpg.Record]
) -> Sequence[Rows | None]:
    """Return for each item its operation and payment as begun; None if it did not begin."""
    begun = {operation.id: (operation, payment) for operation, payment in map(_rows_of, rows)}
    return [begun.get(item.operation_id) for item in items]


def _follow_ups_arguments(items: Sequence[FollowUpTurn]) -> list[list[Any]]:
    return [[astuple(item.intent) for item in items], [item.claim for item in items]]


BEGIN_QUEUED: Final = Statement[Turn, Rows | None](
    "begin-queued",
    BEGIN_QUEUED_PAYMENTS,
    _turns_arguments,
    begun_results,
    order=lambda item: item.operation_id,
    touches=lambda item: (item.payment_id,),
    months=lambda item: (item.payment_id, item.operation_id),
)
BEGIN_QUEUED_FOLLOW_UP: Final = Statement[FollowUpTurn, Rows | None](
    "begin-queued-follow-up",
    BEGIN_QUEUED_FOLLOW_UPS,
    _follow_ups_arguments,
    lambda items, rows: begun_results([item.intent for item in items], rows),
    order=lambda item: item.intent.operation_id,
    touches=lambda item: (item.intent.payment_id,),
    months=lambda item: (item.intent.payment_id, item.intent.operation_id),
)


_BEGUN_BY: Final = f"""
    SELECT {", ".join(f"o.{each}" for each in _OPERATION)},
           {", ".join(f"p.{each}" for each in _PAYMENT)}
      FROM operations o JOIN payments p
        ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = $3
     WHERE o.merchant_id = $1 AND o.id = $2 AND o.payment_id = $3 AND o.state = 'in_flight'
       AND EXISTS (SELECT FROM events
                    WHERE merchant_id = $1 AND payment_id = $3 AND id = $4)
"""


async def begun_by(runner: Runner, turn: Turn) -> Rows | None:
    """Return the operation and payment that this very turn has begun: the connection was lost after
    the commit, and the turn that was repeated did nothing. None if it did not begin."""
    row = await runner.fetchrow(
        _BEGUN_BY, turn.merchant_id, turn.operation_id, turn.payment_id, turn.event_id
    )
    return None if row is None else _rows_of(row)


_BEGUN_SINCE_CLAIM: Final = f"""
    SELECT {", ".join(f"o.{each}" for each in _OPERATION)} FROM operations o
     WHERE o.merchant_id = $1 AND o.id = $2 AND o.state = 'in_flight'
       AND EXISTS (SELECT FROM queued_operations
                    WHERE merchant_id = $1 AND operation_id = $2 AND attempt = $3)
"""


async def in_flight_under(runner: Runner, work: Work) -> Operation | None:
    """Return the operation of a payment if it is in flight and nobody else has claimed it since.

    If it was queued when it was claimed, then it was begun under this claim: a begin needs the
    number of the last one.
    """
    row = await runner.fetchrow(_BEGUN_SINCE_CLAIM, *work.key, work.attempt)
    return None if row is None else operation_of(row)


# queue again: proven that nothing left ------------------------------------------------------------

# The next attempt has another number, so nobody who learns something about this one records it.
_QUEUE_AGAIN: Final = """
    WITH again AS (
        UPDATE operations o SET state = 'queued', attempt = o.attempt + 1
         WHERE o.merchant_id = $1 AND o.id = $2 AND o.attempt = $3 AND o.state = 'in_flight'
           AND EXISTS (SELECT FROM queued_operations
                        WHERE merchant_id = $1 AND operation_id = $2)
        RETURNING o.merchant_id, o.id, o.payment_id, o.mode, o.kind, o.amount_minor
    ), released AS (
        UPDATE payments p
           SET active_operation = CASE WHEN a.kind IN ('authorize', 'sale')
                                       THEN p.active_operation
                                       ELSE nullif(p.active_operation, a.id) END,
               refund_reserved_minor = p.refund_reserved_minor
                   - CASE WHEN a.kind = 'refund' THEN a.amount_minor ELSE 0 END
          FROM again a
         WHERE p.merchant_id = a.merchant_id AND p.mode = a.mode AND p.id = a.payment_id
           AND p.id = $4  -- so that the months of other payments are left alone
    ), forgotten AS (
        DELETE FROM unresolved_operations u USING again a
         WHERE u.merchant_id = a.merchant_id AND u.operation_id = a.id
    ), later AS (
        UPDATE queued_operations q SET due_at = db_now() + make_interval(secs => $5), reason = $6
          FROM again a WHERE q.merchant_id = a.merchant_id AND q.operation_id = a.id
    )
    SELECT id FROM again
"""


async def queue_again(runner: Runner, operation: Operation, delay_s: float, reason: str) -> bool:
    """Let an operation in flight, which is proven not to have left, wait for its next attempt.

    False if it is no longer in flight, or was begun again: then nothing is changed.
    """
    found = await runner.fetchval(
        _QUEUE_AGAIN,
        *(operation.merchant_id, operation.id, operation.attempt, operation.payment_id),
        *(delay_s, reason[:500].replace("\0", " ")),
    )
    return found is not None


# leave to the queue what was sent by a request, and proven to have begun nothing -----------------

# The row comes before whatever was accepted for the payment meanwhile: `place` begins with 1. No
# event says that the payment exists, so the search table is told.
_QUEUE_BEGUN: Final = """
    WITH again AS (
        UPDATE operations o SET state = 'queued', attempt = o.attempt + 1
         WHERE o.merchant_id = $1 AND o.id = $2 AND o.attempt = $3 AND o.state = 'in_flight'
        RETURNING o.merchant_id, o.id, o.payment_id, o.mode, o.kind
    ), waiting AS (
        INSERT INTO queued_operations
            (merchant_id, operation_id, payment_id, mode, kind, place, sealed, expires_at, reason)
        OVERRIDING SYSTEM VALUE
        SELECT merchant_id, id, payment_id, mode, kind, 0, $4,
               db_now() + make_interval(secs => $5), $6
          FROM again
    ), forgotten AS (
        DELETE FROM unresolved_operations u USING again a
         WHERE u.merchant_id = a.merchant_id AND u.operation_id = a.id
    ), noted AS (
        INSERT INTO payments_to_search (merchant_id, payment_id)
        SELECT merchant_id, payment_id FROM again
    )
    SELECT id FROM again
"""


async def queue_begun(
    runner: Runner, operation: Operation, sealed: bytes, lives_s: float, reason: str
) -> bool:
    """Let a worker send a new payment that a request has begun, and that is proven to have begun
    nothing at the processor. `sealed` and `lives_s`: as in QueuedPayment. The payment stays
    `processing`.

    False if the operation is no longer in flight, or was begun again: then nothing is changed.
    """
    found = await runner.fetchval(
        _QUEUE_BEGUN,
        *(operation.merchant_id, operation.id, operation.attempt, sealed, lives_s, reason),
    )
    return found is not None


# the end of the work -----------------------------------------------------------------------------


# ANY: see `db.work_list`.
RECORD_QUEUED: Final = record_sql(
    """, left_the_queue AS (
        DELETE FROM queued_operations q USING finished f
         WHERE q.merchant_id = ANY (ARRAY[f.merchant_id])
           AND q.operation_id = ANY (ARRAY[f.operation_id])
    )"""
)
RECORD_QUEUED_CHANGES: Final = replace(RECORD_CHANGES, sql=RECORD_QUEUED)
"""Records outcomes, and takes off the list what has ended, in one statement."""


class Leaving(msgspec.Struct, frozen=True, gc=False):
    """An operation that a worker is done with."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID


# ANY: see `db.work_list`.
LEAVE_LIST: Final = """
    WITH ended AS MATERIALIZED (
        SELECT i.merchant_id, i.operation_id
          FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
               AS i(merchant_id, operation_id, payment_id)
         CROSS JOIN LATERAL (
               SELECT o.state FROM {operations} o
                WHERE o.merchant_id = i.merchant_id AND o.id = i.operation_id
                  AND o.payment_id = i.payment_id
                LIMIT 1) AS o
         WHERE o.state NOT IN ('queued', 'in_flight')
    )
    DELETE FROM queued_operations q USING ended
     WHERE q.merchant_id = ANY (ARRAY[ended.merchant_id])
       AND q.operation_id = ANY (ARRAY[ended.operation_id])
    RETURNING q.operation_id
"""
LEAVE: Final = Statement[Leaving, bool](
    "leave-queue",
    LEAVE_LIST,
    lambda items: [
        [item.merchant_id for item in items],
        [item.operation_id for item in items],
        [item.payment_id for item in items],
    ],
    lambda items, rows: [item.operation_id in {row[0] for row in rows} for item in items],
    order=lambda item: item.operation_id,
    touches=lambda item: (),
    months=lambda item: (item.operation_id, item.operation_id),
)
"""Takes operations off the list that have ended, or whose outcome is the resolver's to find, and
that did not leave it with their outcome (`RECORD_QUEUED`). False for one that is still
queued or in flight: it stays, so that it can be queued again."""


# The sweep for what a dead process left in flight looks at the newest ids. The id of an operation
# is as old as its acceptance, and it may have waited for long.
_HAND_OVER: Final = """
    INSERT INTO unresolved_operations
        (merchant_id, operation_id, payment_id, since, next_inquiry_at)
    SELECT merchant_id, id, payment_id, db_now(), db_now() FROM operations
     WHERE merchant_id = $1 AND id = $2 AND state = 'in_flight'
       AND begun_at < db_now() - make_interval(secs => $3)
    ON CONFLICT DO NOTHING
"""


async def hand_over(runner: Runner, operation: Operation, call_s: float) -> None:
    """Let the resolver ask about an operation that a worker began and did not end, if its call is
    over: if it began more than `call_s` seconds ago."""
    await runner.execute(_HAND_OVER, operation.merchant_id, operation.id, call_s)


_NOT_AFTER_ALL: Final = """
    UPDATE queued_operations SET due_at = db_now()
     WHERE parked_at IS NULL AND due_at > db_now() + make_interval(secs => $1)
"""


async def mind_the_clock(runner: Runner, longest_s: float) -> int:
    """Make due what is due only in more than `longest_s` seconds, which must be longer than any
    claim and any pause: the database's clock was set back. Returns how many rows."""
    done: str = await runner.execute(_NOT_AFTER_ALL, longest_s)
    return int(done.rpartition(" ")[2])


async def is_too_late(runner: Runner, operation: Operation, needs_s: float) -> bool:
    """Whether a queued operation can no longer be sent, if the call may take `needs_s` seconds."""
    late: bool | None = await runner.fetchval(
        "SELECT expires_at <= db_now() + make_interval(secs => $3) FROM queued_operations"
        " WHERE merchant_id = $1 AND operation_id = $2",
        operation.merchant_id,
        operation.id,
        needs_s,
    )
    return late is True


async def is_queued(runner: Runner, operation: Operation) -> bool:
    """Whether an operation is on the list."""
    found: bool = await runner.fetchval(
        "SELECT EXISTS (SELECT FROM queued_operations"
        " WHERE merchant_id = $1 AND operation_id = $2)",
        operation.merchant_id,
        operation.id,
    )
    return found


# cancelled by a void -----------------------------------------------------------------------------


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """A void of a payment that was not sent: what it writes. `payment` is as it was read."""

    payment: Payment
    void: Operation
    key: str
    fingerprint: bytes
    reply: bytes
    """The payment as it is afterwards, which both requests are answered from now on."""
    event_id: UUID
    at: datetime


_CANCEL: Final = """
    WITH cancelled AS (
        UPDATE operations o
           SET state = 'cancelled', reply_status = 201, reply_body = $9, finished_at = $10
         WHERE o.merchant_id = $1 AND o.id = $4 AND o.payment_id = $3 AND o.state = 'queued'
        RETURNING o.id, o.currency, o.amount_minor
    ), moved AS (
        UPDATE payments p
           SET status = 'voided', version = p.version + 1, active_operation = NULL,
               updated_at = $10
          FROM cancelled c
         WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = $3 AND p.version = $5
           AND p.active_operation = c.id AND p.status IN ('pending', 'processing')
        RETURNING 1
    ), claimed AS (
        INSERT INTO idempotency_keys
            (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
        SELECT $1, $2, $7::text, $8::bytea, $6::uuid, $3, db_now() FROM cancelled
    ), void AS (
        INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
            currency, reference, begun_at, reply_status, reply_body, finished_at, evidence)
        SELECT $1, $6, $3, $2, 'void', 'approved', amount_minor, currency, $12::text, db_now(), 201,
            $9, $10, '{"source": "queue", "finding": "nothing had been sent"}'
          FROM cancelled
    ), happened AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        SELECT $1, $11::uuid, $3, $6, $2, 'payment.voided', 'voided', amount_minor, currency, $10
          FROM cancelled
    ), left_the_list AS (
        DELETE FROM queued_operations q USING cancelled c
         WHERE q.merchant_id = $1 AND q.operation_id = c.id
    )
    SELECT id FROM cancelled
     WHERE CASE WHEN (SELECT count(*) FROM moved) = (SELECT count(*) FROM cancelled) THEN true
                ELSE refuse('a queued payment could not be voided') END
"""


async def cancel(runner: Runner, what: Cancelled) -> bool:
    """Void a payment whose authorization or sale is still queued. False if it is no longer queued.

    Raises UniqueViolationError if the void's key was used, and CheckViolationError if the payment
    has changed since it was read.
    """
    payment, void = what.payment, what.void
    found = await runner.fetchval(
        _CANCEL,
        *(payment.merchant_id, payment.mode, payment.id, payment.active_operation),
        *(payment.version, void.id, what.key, what.fingerprint, what.reply, what.at),
        *(what.event_id, void.reference),
    )
    return found is not None
