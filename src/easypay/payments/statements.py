"""Begin and record: the SQL of the hot path, and the one door for outcomes, `Recorder.record`.

One statement for a group, one round trip, one commit. A group is sent as one array of rows of a
composite type: that costs client and server half of what one array per column does. A statement
names the tables of its group's month, so it is planned once and costs the same however many months
exist (docs/decisions/0005, 0007).
A `Statement` says how its items are grouped; `group_committer` runs one.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import astuple

from easypay import clock, ids
from easypay.db.connections import ANSWER_WITHIN_S, Lane
from easypay.db.group_commit import GroupCommitter
from easypay.payment_details import DETAIL_FIELDS, INTENT_TYPE
from easypay.payments import store
from easypay.payments.begin import FollowUp, NewPayment
from easypay.payments.model import (
    OPERATION_ANSWER,
    PAYMENT_ANSWER,
    PAYMENT_COLUMNS,
    Operation,
    Payment,
    PaymentKey,
    State,
    column_of,
    payment_of,
)
from easypay.payments.outcome_changes import (
    NOT_SENT_S,
    OPEN,
    REVIEW_INTERVAL_S,
    Change,
    Evidence,
    Learned,
    OperationEffect,
    PaymentEffect,
    decide,
)
from easypay.processors.base import Approved, ProcessorAnswer

log = logging.getLogger(__name__)


def _p(columns: str) -> str:
    return ", ".join(f"p.{column}" for column in columns.split(", "))


def in_months(sql: str, variant: str) -> str:
    """Return a group statement on the tables of single months instead of the parent tables.

    `variant` is the payments' month and a second one, as `db.partitions.Months` names them:
    `_2026_11 _2026_11`. The second is the operations' month, or the month of earlier payments that
    a new one is compared with. Empty means the parents.
    """
    first, _, second = variant.partition(" ")
    return sql.format(
        payments=f"payments{first}",
        operations=f"operations{second}",
        earlier_payments=f"payments{second}",
    )


# begin: claim the key, write the intent -------------------------------------------------------

INTENT_FIELDS: Final = (
    *("merchant_id", "mode", "key", "fingerprint", "payment_id", "operation_id", "kind"),
    *("amount_minor", "currency", "capture", "method_type", "card_brand", "card_last4"),
    *("card_exp_month", "card_exp_year", "card_fingerprint", "processor"),
    *DETAIL_FIELDS,
    *("customer", "billing_address", "metadata", "reference", "at", "login_id"),
    *("customer_id", "payment_method_id"),
)
"""The fields of INTENT_TYPE, in the order of `begin_payments_arguments`."""
_DETAILS: Final = ", ".join(DETAIL_FIELDS)

NEW_PAYMENT_COLUMNS: Final = f"""\
merchant_id, id, mode, status, amount_minor, currency, capture,
            active_operation, method_type, card_brand, card_last4, card_exp_month, card_exp_year,
            card_fingerprint, processor, {_DETAILS}, customer, billing_address, metadata,
            created_at, updated_at, login_id, customer_id, payment_method_id"""
"""A payment's columns; `new_payment_values` are their values from an intent."""


def new_payment_values(status: str) -> str:
    """Return the values of NEW_PAYMENT_COLUMNS of a payment that begins with this status."""
    return f"""\
merchant_id, payment_id, mode, '{status}', amount_minor, currency, capture,
            operation_id, method_type, card_brand, card_last4, card_exp_month, card_exp_year,
            card_fingerprint, processor, {_DETAILS}, customer, billing_address, metadata,
            at, at, login_id, customer_id, payment_method_id"""


def insert_operations(state: str) -> str:
    """Return the insert of the operations of `fresh` intents, in this state."""
    return f"""\
INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
            currency, reference, begun_at)
        SELECT merchant_id, operation_id, payment_id, mode, kind, '{state}', amount_minor,
            currency, reference, db_now()
          FROM fresh"""


def claim_and_write(status: str, state: str) -> str:
    """Return the parts that claim the keys of `input`, and write what is `fresh`."""
    return f"""\
claimed AS (
        INSERT INTO idempotency_keys
            (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
        SELECT merchant_id, mode, key, fingerprint, operation_id, payment_id, db_now() FROM input
        ON CONFLICT DO NOTHING
        RETURNING operation_id
    ), fresh AS (
        SELECT i.* FROM input i JOIN claimed USING (operation_id)
    ), new_payments AS (
        INSERT INTO payments ({NEW_PAYMENT_COLUMNS})
        SELECT {new_payment_values(status)}
          FROM fresh
    ), new_operations AS (
        {insert_operations(state)}
    )"""


BEGIN_PAYMENTS: Final = f"""
    WITH input AS (
        SELECT * FROM unnest($1::{INTENT_TYPE}[])
    ), {claim_and_write("processing", "in_flight")}
    SELECT operation_id FROM claimed
"""


def begin_payments_arguments(items: Sequence[NewPayment]) -> list[list[tuple[Any, ...]]]:
    """Return the group as an array of rows of INTENT_FIELDS."""
    rows = []
    for item in items:
        new, operation = item.payment, item.operation
        rows.append(
            (
                *(new.merchant_id, new.mode, item.key, item.fingerprint, new.id, operation.id),
                *(operation.kind, new.amount_minor, new.currency, new.capture, new.method_type),
                *(new.card_brand, new.card_last4, new.card_exp_month, new.card_exp_year),
                *(item.card_fingerprint, new.processor),
                *astuple(new.details),
                *(item.customer, item.billing_address, new.metadata, operation.reference),
                *(new.created_at, new.login_id, new.customer_id, new.payment_method_id),
            )
        )
    return [rows]


def begin_payments_results(
    items: Sequence[NewPayment], rows: list[asyncpg.Record]
) -> Sequence[bool]:
    """Return for each item whether it claimed its key."""
    claimed = {row[0] for row in rows}
    return [item.operation_id in claimed for item in items]


FOLLOW_UP_ALLOWED: Final = """\
AND CASE i.kind
               WHEN 'capture' THEN p.status = 'authorized'
                   AND coalesce(i.asked_minor, p.authorized_minor) <= p.authorized_minor
               WHEN 'void' THEN p.status IN ('authorized', 'captured', 'in_review')
                   AND p.refunded_minor + p.refund_reserved_minor = 0 AND p.settled_at IS NULL
               WHEN 'approve' THEN p.status = 'in_review'
               WHEN 'decline' THEN p.status = 'in_review'
               WHEN 'refund' THEN p.status = 'captured'
                   AND coalesce(p.settlement_state, '') NOT IN ('returned', 'charged_back')
                   AND p.refunded_minor + p.refund_reserved_minor + i.asked_minor
                       <= p.captured_minor
                   AND (NOT i.whole OR p.refunded_minor + p.refund_reserved_minor + i.asked_minor
                       = p.captured_minor)
               END"""
"""Whether a payment `p` allows the follow-up `i` by its status and its amounts."""

# One UPDATE both checks the conditions and takes the payment (or reserves the refund). The key is
# claimed only if it succeeds, so a refusal uses up no key. If two processes claim one key, one gets
# a unique violation: its group runs again as single statements, and finds the other's key.
BEGIN_FOLLOW_UPS: Final = f"""
    WITH input AS (
        SELECT * FROM unnest($1::follow_up_intent[])
    ), taken AS (
        UPDATE {{payments}} p
           SET active_operation = CASE WHEN i.kind <> 'refund' THEN i.operation_id END,
               refund_reserved_minor = p.refund_reserved_minor
                   + CASE WHEN i.kind = 'refund' THEN i.asked_minor ELSE 0 END
          FROM input i
         WHERE p.merchant_id = i.merchant_id AND p.mode = i.mode AND p.id = i.payment_id
           AND p.active_operation IS NULL
           AND (i.expected_version IS NULL OR p.version = i.expected_version)
           AND NOT EXISTS (SELECT FROM idempotency_keys k WHERE k.merchant_id = i.merchant_id
                              AND k.mode = i.mode AND k.key = i.key)
           {FOLLOW_UP_ALLOWED}
        RETURNING i.operation_id, i.key, i.fingerprint, i.kind, i.asked_minor, i.reference, i.at,
            {_p(PAYMENT_COLUMNS)}
    ), claimed AS (
        INSERT INTO idempotency_keys
            (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
        SELECT merchant_id, mode, key, fingerprint, operation_id, id, db_now() FROM taken
    ), new_operations AS (
        INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,
            currency, reference, parent_transaction_id, begun_at)
        SELECT merchant_id, operation_id, id, mode, kind, 'in_flight',
            coalesce(asked_minor, CASE kind WHEN 'capture' THEN authorized_minor
                                            ELSE amount_minor END),
            currency, reference, transaction_id, db_now()
          FROM taken
    )
    SELECT operation_id, {PAYMENT_COLUMNS} FROM taken
"""


def begin_follow_ups_arguments(items: Sequence[FollowUp]) -> Sequence[object]:
    """Return the group as an array of its rows."""
    return [list(map(astuple, items))]


def begin_follow_ups_results(
    items: Sequence[FollowUp], rows: list[asyncpg.Record]
) -> Sequence[Payment | None]:
    """Return for each item its payment as taken, or None if it was refused."""
    taken = {row[0]: payment_of(row[1:]) for row in map(tuple, rows)}
    return [taken.get(item.operation_id) for item in items]


# record: every outcome enters here -------------------------------------------------------------

CHANGE_FIELDS: Final = (
    *("merchant_id", "mode", "payment_id", "operation_id", "attempt", "amount_minor", "currency"),
    "changed_at",
    *OperationEffect.__struct_fields__,
    *PaymentEffect.__struct_fields__,
    *map(column_of, ProcessorAnswer.__struct_fields__),
    *("event_id", "event_type"),
)
"""The fields of recorded_change_3, in the order of `record_arguments`."""

_OPEN: Final = ", ".join(f"'{state}'" for state in OPEN)
_OPERATION_ANSWER: Final = ", ".join(f"{c} = i.{c}" for c in map(column_of, OPERATION_ANSWER))
_PAYMENT_ANSWER: Final = ", ".join(
    f"{c} = CASE WHEN f.describes_payment THEN f.{c} ELSE p.{c} END"
    for c in map(column_of, PAYMENT_ANSWER)
)


# The operation is locked first and the payment second, here and wherever both are changed. The
# locked row's state is checked against from_states (NULL: OPEN). So if two callers learn the same
# operation's outcome, exactly one records it, and only its changes reach the payment.
def record_sql(more: str) -> str:
    """Return the statement, with `more` of what follows from an outcome."""
    return f"""
    WITH input AS (
        SELECT * FROM unnest($1::recorded_change_3[])
    ), finished AS (
        UPDATE {{operations}} o
           SET state = i.state,
               {_OPERATION_ANSWER},
               evidence = coalesce(i.evidence, o.evidence),
               processor_us = coalesce(i.processor_us, o.processor_us),
               reply_status = coalesce(o.reply_status, i.reply_status),
               reply_body = coalesce(o.reply_body, i.reply_body),
               finished_at = i.finished_at,
               voided = i.voided
          FROM input i
         WHERE o.merchant_id = i.merchant_id AND o.id = i.operation_id
           AND o.payment_id = i.payment_id
           AND o.attempt = i.attempt
           AND o.state = ANY (coalesce(i.from_states, ARRAY[{_OPEN}]))
        RETURNING i.*
    ), moved AS (
        UPDATE {{payments}} p
           SET status = f.status_to,
               version = p.version + 1,
               active_operation = nullif(p.active_operation, f.operation_id),
               authorized_minor = f.authorized_minor,
               captured_minor = f.captured_minor,
               refunded_minor = p.refunded_minor + f.refunded_delta,
               refund_reserved_minor = p.refund_reserved_minor + f.reserved_delta,
               {_PAYMENT_ANSWER},
               card_brand = coalesce(p.card_brand, f.card_brand),
               card_last4 = coalesce(p.card_last4, f.card_last4),
               updated_at = f.changed_at
          FROM finished f
         WHERE f.moves_payment
           AND p.merchant_id = f.merchant_id AND p.mode = f.mode AND p.id = f.payment_id
           AND p.status = f.status_from
           AND (p.active_operation = f.operation_id OR p.active_operation IS NULL)
        RETURNING 1
    ), happened AS (
        INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
            amount_minor, currency, created_at)
        SELECT merchant_id, event_id, payment_id, operation_id, mode, event_type,
            status_to, amount_minor, currency, changed_at
          FROM finished
         WHERE event_id IS NOT NULL
    ), unresolved AS (
        INSERT INTO unresolved_operations
            (merchant_id, operation_id, payment_id, since, next_inquiry_at, held, not_sent)
        SELECT merchant_id, operation_id, payment_id, db_now(),
            db_now() + (next_inquiry_at - changed_at), state = 'held', state = 'not_sent'
          FROM finished
         WHERE next_inquiry_at IS NOT NULL
        ON CONFLICT (merchant_id, operation_id) DO UPDATE
            SET next_inquiry_at = excluded.next_inquiry_at, held = excluded.held,
                not_sent = excluded.not_sent, absences = 0, absent_from = NULL, absent_to = NULL,
                searched = DEFAULT
    ){more}
    SELECT operation_id FROM finished
     WHERE CASE WHEN (SELECT count(*) FROM moved)
                     = (SELECT count(*) FROM finished WHERE moves_payment) THEN true
                ELSE refuse('an operation could not move its payment') END
"""


RECORD: Final = record_sql("")


def record_arguments(items: Sequence[Change]) -> list[list[tuple[Any, ...]]]:
    """Return the group as an array of rows of CHANGE_FIELDS."""
    rows = []
    for item in items:
        operation = item.operation
        from_states, *effect = astuple(item.effect)
        rows.append(
            (
                *(operation.merchant_id, operation.mode, operation.payment_id, operation.id),
                *(operation.attempt, operation.amount_minor, operation.currency, item.at),
                # Nearly all are OPEN. The driver takes as long for an array as for half of a row.
                None if from_states == OPEN else from_states,
                *effect,
                *astuple(item.payment),
                *astuple(item.answer),
                *(item.event_id, item.event_type),
            )
        )
    return [rows]


def record_results(items: Sequence[Change], rows: list[asyncpg.Record]) -> Sequence[bool]:
    """Return for each item whether it was recorded; False if another outcome had been before."""
    recorded = {row[0] for row in rows}
    return [item.operation.id in recorded for item in items]


# the one door -----------------------------------------------------------------------------------


LOST_OPERATION: Final = "lost"
"""The reported state of an operation that is no longer in the database."""
EndState = State | Literal["lost"]


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An operation's stored reply. `reply_status` is None if it has none yet or was not sent.
    `first`: this outcome was recorded, and not another one before it."""

    state: EndState
    reply_status: int | None
    reply_body: bytes | None
    first: bool = True


class Recorder:
    """The one door: every outcome of every operation is recorded here, whatever its source.

    The same outcome may be recorded again, even at the same time: the row decides which was first.
    """

    def __init__(
        self,
        committer: GroupCommitter[Change, bool],
        pool: Any,
        *,
        first_inquiry_s: float,
        review_interval_s: float = REVIEW_INTERVAL_S,
        not_sent_s: float = NOT_SENT_S,
        changed: Callable[[PaymentKey], None] = lambda _: None,
    ) -> None:
        self._committer = committer
        self.changed = changed
        """To be called after a payment was changed beside an outcome: it is cached."""
        self._pool = pool
        self._first_inquiry_s = first_inquiry_s
        self._review_interval_s = review_interval_s
        self._not_sent_s = not_sent_s

    async def record(
        self,
        operation: Operation,
        payment: Payment,
        learned: Learned,
        *,
        processor_us: int | None = None,
        evidence: Evidence | None = None,
    ) -> Recorded:
        """Commit an outcome with everything that follows from it (`decide`). Return the stored
        reply: this outcome's, or an earlier one's.

        `operation` and `payment` are as they were when the operation began. `evidence` says why
        we believe an outcome that is not the call's own reply.
        """
        change = decide(
            operation,
            payment,
            learned,
            at=clock.now_after(payment.updated_at),
            first_inquiry_s=self._first_inquiry_s,
            review_interval_s=self._review_interval_s,
            not_sent_s=self._not_sent_s,
            processor_us=processor_us,
            evidence=evidence,
        )
        if await self._committer.submit(change):
            effect = change.effect
            return Recorded(effect.state, effect.reply_status, effect.reply_body)
        return await self._after_another(operation, learned)

    async def end_queued(self, change: Change) -> bool:
        """Commit the end of an operation that was queued and not sent (`queue_endings`). False if
        it is no longer queued: then nothing is changed."""
        return await self._committer.submit(change)

    async def _after_another(self, operation: Operation, learned: Learned) -> Recorded:
        """Return what was recorded before us: that stands. If it says absent but the money moved,
        the operation is looked for again and handled as a late charge."""
        current = await store.find_operation(self._pool, operation.merchant_id, operation.id)
        if current is None:
            return _lost(operation, learned)
        if current.state is State.ABSENT and isinstance(learned, Approved):
            log.critical(
                "operation %s was called absent, and the processor approved it as %s",
                current.reference,
                learned.transaction_id,
            )
            await store.look_now(self._pool, current)
        elif current.state is State.QUEUED and isinstance(learned, Approved):
            log.warning(
                "operation %s was approved as %s and is queued, as a standby without its begin "
                "took over: it is sent again, which the processor refuses, and found then",
                *(operation.reference, learned.transaction_id),
            )
        elif current.state is not State.APPROVED and isinstance(learned, Approved):
            log.critical(
                "operation %s is %s, but the processor approved it as %s: needs a person",
                operation.reference,
                current.state,
                learned.transaction_id,
            )
        return Recorded(current.state, current.reply_status, current.reply_body, first=False)


def _lost(operation: Operation, learned: Learned) -> Recorded:
    """Log an outcome whose committed operation is no longer in the database, because a standby
    without it took over. The processor's answer must not be lost with it."""
    log.critical(
        "operation %s of %s is not in the database any more; the processor said %s, transaction "
        "%s, amount %d %s: needs a person",
        operation.reference,
        ids.typed(ids.PAYMENT, operation.payment_id),
        type(learned).__name__.lower(),
        getattr(learned, "transaction_id", None),
        operation.amount_minor,
        operation.currency,
    )
    return Recorded(LOST_OPERATION, None, None, first=False)


# reads by id -----------------------------------------------------------------------------------


READ_PAYMENTS: Final = f"""
    SELECT {_p(PAYMENT_COLUMNS)}
      FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS i(merchant_id, mode, payment_id)
      JOIN {{payments}} p
        ON p.merchant_id = i.merchant_id AND p.mode = i.mode AND p.id = i.payment_id
"""


def read_payments_arguments(items: Sequence[PaymentKey]) -> Sequence[object]:
    """Return one list per column; each payment appears once, however many callers want it."""
    return list(zip(*map(astuple, set(items)), strict=True))


def read_payments_results(
    items: Sequence[PaymentKey], rows: list[asyncpg.Record]
) -> Sequence[Payment | None]:
    """Return for each item its payment, or None."""
    found = {(row[0], row[2], row[1]): payment_of(row) for row in rows}
    return [found.get((item.merchant_id, item.mode, item.payment_id)) for item in items]


# grouping --------------------------------------------------------------------------------------

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Statement(Generic[Item, Result]):
    """A hot statement: its SQL, and how its arguments are built and its rows are read."""

    name: str
    sql: str
    arguments: Callable[[Sequence[Item]], Sequence[object]]
    results: Callable[[Sequence[Item], list[asyncpg.Record]], Sequence[Result]]
    order: Callable[[Item], Any]
    """Rows are locked in this order, in every process."""
    touches: Callable[[Item], Sequence[Hashable]]
    """Things that two items must not share if they run at the same time."""
    months: Callable[[Item], tuple[UUID, ...]]
    """Ids whose months the statement names, in the order of `in_months`: the payment's first."""
    hash_joins: bool = False
    """See `Lane`."""


BEGIN: Final = Statement[NewPayment, bool](
    "begin",
    BEGIN_PAYMENTS,
    begin_payments_arguments,
    begin_payments_results,
    order=lambda new: (new.payment.merchant_id, new.payment.mode, new.key),
    touches=lambda new: ((new.payment.merchant_id, new.payment.mode, new.key),),
    months=lambda new: (),  # it only inserts
)
FOLLOW_UP: Final = Statement[FollowUp, Payment | None](
    "follow-up",
    BEGIN_FOLLOW_UPS,
    begin_follow_ups_arguments,
    begin_follow_ups_results,
    order=lambda item: item.payment_id,
    touches=lambda item: (item.payment_id, (item.merchant_id, item.mode, item.key)),
    months=lambda item: (item.payment_id,),
)
RECORD_CHANGES: Final = Statement[Change, bool](
    "record",
    RECORD,
    record_arguments,
    record_results,
    order=lambda change: change.operation.id,
    touches=lambda change: (change.operation.payment_id,),
    months=lambda change: (change.operation.payment_id, change.operation.id),
)
READ: Final = Statement[PaymentKey, Payment | None](
    "read",
    READ_PAYMENTS,
    read_payments_arguments,
    read_payments_results,
    order=lambda key: key.payment_id,
    touches=lambda key: (),
    months=lambda key: (key.payment_id,),
)


def lane(
    statement: Statement[Any, Any], dsn: str, number: int = 1, *, limit_s: float = ANSWER_WITHIN_S
) -> Lane:
    """Return a connection for a statement. An answer may take `limit_s`."""
    return Lane(
        dsn,
        f"{statement.name} {number}",
        lambda variant: in_months(statement.sql, variant),
        lookups=statement is not BEGIN,
        hash_joins=statement.hash_joins,
        limit_s=limit_s,
    )


def group_committer(
    statement: Statement[Item, Result],
    lanes: Sequence[Lane],
    *,
    month_of: Callable[[UUID], str],
    size: int,
    limit: int | None,
    patience_s: float,
    **more: Any,
) -> GroupCommitter[Item, Result]:
    """Return the committer of a statement. `month_of` is `db.partitions.Months.of`; the other
    parameters are GroupCommitter's."""
    return GroupCommitter(
        statement.name,
        lanes,
        arguments=statement.arguments,
        results=statement.results,
        order=statement.order,
        touches=statement.touches,
        variant=lambda item: " ".join(map(month_of, statement.months(item))),
        size=size,
        limit=limit,
        patience_s=patience_s,
        **more,
    )
