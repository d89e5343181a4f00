"""An event with its payment as it was after that event, rebuilt from what is kept anyway.

Nothing is written for this: a payment's row has its present state, its events say how it got there.
Most columns are fixed when a payment begins. The others follow from the events up to this one, in
their order: status, amounts, settlement, version and time of the last change; so does whose answer
the payment had. The row has the last of these answers. There was an earlier one only if the payment
was in review, or had failed and was found charged:

- the answer that came with a hold is in the reply that was stored for the merchant's key. If the
  hold was learned by an inquiry, or if the replies of that month were removed by compaction, only
  the transaction's id is known; the other fields of `processor` are null;
- a payment that was found charged had failed because no charge was found.

Events have no number within their payment, and the clocks in ids differ. But a payment never comes
back to a status, so most of the order is that of the statuses; only events within one status are in
the order of their ids. So two refunds of one payment that end within the same moment at two
gateways may be in another order here than they were committed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from easypay import clock, ids
from easypay.clock import rfc3339
from easypay.customers import events as customer_events
from easypay.db.partitions import within_months
from easypay.events import batch_events
from easypay.events.pages import FeedEvent
from easypay.payments.model import SETTLEMENT_STATES, STATUS, Status
from easypay.payments.outcome_changes import ABSENT_ANSWER
from easypay.payments.store import earliest_child
from easypay.payments.views import (
    PAYMENT_VIEW_COLUMNS,
    PaymentView,
    ProcessorView,
    listed_payment_views,
    partial_refund,
)

Runner = Any

API_VERSION: Final = "v1"
"""The version of the API whose objects an event has."""
_UNANSWERED: Final = frozenset({Status.PENDING, Status.PROCESSING})
"""What a queued payment is before its outcome. A token's card is not known yet."""
_LATER: Final = {
    Status.PENDING: 0,
    Status.PROCESSING: 1,
    Status.IN_REVIEW: 2,
    Status.FAILED: 3,
    Status.AUTHORIZED: 4,
    Status.CAPTURED: 5,
    Status.DECLINED: 6,
    Status.VOIDED: 6,
    Status.EXPIRED: 6,
}
"""Statuses in an order in which every change of a payment goes forward."""
_TELL_ONLY: Final = ("late_charge.", "authorization.", "refund.settled", "refund.returned")
"""How the types of events begin that leave their payment as it was."""
_SETTLES: Final = frozenset(f"payment.{state}" for state in SETTLEMENT_STATES)
_MOST_EVENTS: Final = 10_000
"""Of one payment."""
_UNDECIDED: Final = frozenset({Status.PENDING, Status.PROCESSING, Status.IN_REVIEW, Status.FAILED})
"""A payment takes over the answer of what leads out of these, but not that of a capture or void."""


class FeedEventView(msgspec.Struct, frozen=True, gc=False):
    """An event of the merchant, with the payment as it was after it."""

    id: str
    type: str
    api_version: str
    mode: str
    payment_id: str | None
    """Null, as all others down to `currency`, if the event is about a customer or a batch."""
    operation_id: str | None
    status: str | None
    amount: int | None
    currency: str | None
    created_at: str
    data: Any
    """A PaymentView, StoredCustomerView, StoredMethodView, a batch as JSON, or None."""


class Happened(msgspec.Struct, frozen=True, gc=False):
    """What is known of one event of a payment."""

    id: UUID
    operation_id: UUID
    type: str
    status: str
    amount_minor: int
    changed_at: str


class Answer(msgspec.Struct, frozen=True):
    """The part of a payment that is the processor's answer."""

    decline_code: str | None
    processor: ProcessorView


# One statement, so one snapshot: the row is as the last of these events left it.
_HISTORY: Final = """
    SELECT i.n, e.id, e.operation_id, e.type, e.status, e.amount_minor, e.created_at, {columns}
      FROM unnest($1::uuid[], $2::text[], $3::uuid[]) WITH ORDINALITY
           AS i(merchant_id, mode, payment_id, n)
     CROSS JOIN LATERAL (
           SELECT * FROM payments p
            WHERE p.merchant_id = i.merchant_id AND p.mode = i.mode AND p.id = i.payment_id
              AND {payments} LIMIT 1) AS p
     CROSS JOIN LATERAL (
           SELECT * FROM events e
            WHERE e.merchant_id = i.merchant_id AND e.payment_id = i.payment_id
              AND {events} ORDER BY e.id LIMIT {most}) AS e
     ORDER BY i.n, e.id
"""
_REPLIES: Final = """
    SELECT o.id, o.reply_body FROM unnest($1::uuid[], $2::uuid[]) AS i(merchant_id, operation_id)
     CROSS JOIN LATERAL (
           SELECT * FROM operations o
            WHERE o.merchant_id = i.merchant_id AND o.id = i.operation_id
              AND {operations} LIMIT 1) AS o
     WHERE o.reply_status = 201
"""
_COLUMNS: Final = ", ".join(f"p.{name}" for name in PAYMENT_VIEW_COLUMNS.split(", "))
_answer: Final = msgspec.json.Decoder(Answer)


async def objects_of(runner: Runner, events: Sequence[FeedEvent]) -> list[FeedEventView]:
    """Return each event with its payment as it was after it, in one statement for all; in two if
    one of the payments was in review. `data` is None if the payment was archived meanwhile, or has
    a status that only a newer version knows.

    One more statement each reads the objects of events about customers and about batches.
    """
    subjects = [subject_of(event) for event in events]
    of = {
        each: [e for e, s in zip(events, subjects, strict=True) if s == each]
        for each in set(subjects)
    }
    others: dict[UUID, Any] = {
        **await customer_events.objects_of(runner, of.get(ids.CUSTOMER, ())),
        **await batch_events.objects_of(runner, of.get(ids.BATCH, ())),
    }
    payments = iter(await _with_payments(runner, of.get(ids.PAYMENT, ())))
    return [
        next(payments) if subject == ids.PAYMENT else _other_view(event, others.get(event.id))
        for event, subject in zip(events, subjects, strict=True)
    ]


def subject_of(event: FeedEvent) -> str:
    """Return what an event is about, whose id it has in `payment_id`: `ids.PAYMENT`, `ids.CUSTOMER`
    or `ids.BATCH`."""
    if customer_events.is_of_customer(event.type):
        return ids.CUSTOMER
    return ids.BATCH if batch_events.is_of_batch(event.type) else ids.PAYMENT


async def _with_payments(runner: Runner, events: Sequence[FeedEvent]) -> list[FeedEventView]:
    if not events:
        return []
    keys = list(dict.fromkeys((e.merchant_id, e.mode, e.payment_id) for e in events))
    merchants, modes, payments = (list(column) for column in zip(*keys, strict=True))
    newest = max(ids.lowest_id_at(clock.now()), *(event.id for event in events))
    children = (earliest_child(min(payments)), newest)
    rows = await runner.fetch(
        _HISTORY.format(
            columns=_COLUMNS,
            payments=within_months("p.id", payments),
            events=within_months("e.id", children),
            most=_MOST_EVENTS,
        ),
        merchants,
        modes,
        payments,
    )
    histories: dict[int, list[Happened]] = {}
    present: dict[int, PaymentView] = {}
    for row in rows:
        n, event_id, operation_id, word, status, amount, changed_at, *payment = row
        if n not in present:
            (present[n],) = listed_payment_views([payment])
        histories.setdefault(n, []).append(
            Happened(event_id, operation_id, word, status, amount, rfc3339(changed_at))
        )
    replies = await _replies(
        runner,
        [(merchants[n - 1], holds) for n, each in histories.items() for holds in _holds(each)],
    )
    views = {
        event_id: view
        for n, history in histories.items()
        for event_id, view in _known(present[n], history, replies).items()
    }
    return [_view(event, views.get(event.id)) for event in events]


def _known(
    present: PaymentView, history: Sequence[Happened], replies: dict[UUID, Answer]
) -> dict[UUID, PaymentView]:
    """Return `views_after`; nothing if a status is one that only a newer version knows."""
    try:
        return views_after(present, history, replies)
    except KeyError:
        return {}


def _holds(history: Iterable[Happened]) -> list[UUID]:
    """Return the operation of the hold, if the payment was in review and is no more."""
    held = [each for each in history if each.type == "payment.in_review"]
    return [each.operation_id for each in held[:1]]


async def _replies(runner: Runner, asked: Sequence[tuple[UUID, UUID]]) -> dict[UUID, Answer]:
    """Return the answers in the stored replies of operations (merchant, operation)."""
    if not asked:
        return {}
    merchants, operations = (list(column) for column in zip(*asked, strict=True))
    sql = _REPLIES.format(operations=within_months("o.id", operations))
    rows = await runner.fetch(sql, merchants, operations)
    return {row[0]: _answer.decode(row[1]) for row in rows if row[1] is not None}


def views_after(
    present: PaymentView, history: Sequence[Happened], replies: dict[UUID, Answer]
) -> dict[UUID, PaymentView]:
    """Return the payment as it was after each of its events, by the event's id. Pure.

    `present` is the payment now, `history` all of its events, `replies` the answers that came with
    holds, by operation.
    """
    history = sorted(history, key=_place)
    moves = [not each.type.startswith(_TELL_ONLY) for each in history]
    version = present.version - sum(moves)  # others raised it before the first event
    answers = _answers(present, history, replies)
    status, captured, refunded, updated_at = Status.PROCESSING, 0, 0, present.created_at
    settled: str | UnsetType = UNSET
    unread = present.payment_method
    if unread.type == "accept_token":
        unread = msgspec.structs.replace(unread, brand=None, last4=None)
    views = {}
    for each, moved, answer in zip(history, moves, answers, strict=True):
        status = STATUS[each.status]
        if moved:
            version += 1
            updated_at = each.changed_at
            captured, refunded = _amounts(each, captured, refunded)
        if each.type in _SETTLES:
            settled = each.type.removeprefix("payment.")
        views[each.id] = msgspec.structs.replace(
            present,
            status=status,
            captured_amount=captured,
            refunded_amount=refunded,
            version=version,
            updated_at=updated_at,
            decline_code=answer.decline_code,
            processor=answer.processor,
            payment_method=unread if status in _UNANSWERED else present.payment_method,
            settled_at=UNSET if settled is UNSET else present.settled_at,
            settlement_state=settled,
            partial_refund=partial_refund(settled, captured, refunded),
        )
    return views


def _place(event: Happened) -> tuple[int, bool, UUID]:
    """Return what says which of two events of a payment was earlier."""
    return _LATER[STATUS[event.status]], event.type != f"payment.{event.status}", event.id


def _amounts(event: Happened, captured: int, refunded: int) -> tuple[int, int]:
    """Return (captured, refunded) after an event, in minor units."""
    if event.status == Status.VOIDED:  # also by a refund before settlement
        return 0, refunded
    if event.type == "payment.captured":
        return event.amount_minor, refunded
    if event.type == "refund.succeeded":
        return captured, refunded + event.amount_minor
    return captured, refunded


def _answers(
    present: PaymentView, history: Sequence[Happened], replies: dict[UUID, Answer]
) -> list[Answer]:
    """Return the answer that the payment had after each event."""
    took = _took_over(history)
    last = max((at for at, taken in enumerate(took) if taken), default=-1)
    name, transaction_id = present.processor.name, present.processor.transaction_id
    nothing = Answer(None, ProcessorView(name, *[None] * (_FIELDS - 1)))
    answer, answers = nothing, []
    for at, each in enumerate(history):
        if at == last:
            answer = Answer(present.decline_code, present.processor)
        elif took[at] and each.status == Status.IN_REVIEW:
            only_id = msgspec.structs.replace(nothing.processor, transaction_id=transaction_id)
            answer = replies.get(each.operation_id) or Answer(None, only_id)
        elif took[at]:
            message = ABSENT_ANSWER.message
            answer = Answer(None, msgspec.structs.replace(nothing.processor, message=message))
        answers.append(answer)
    return answers


def _took_over(history: Sequence[Happened]) -> list[bool]:
    """Return for each event whether the payment took over its answer: that of what created it, and
    that of what ended its review."""
    took, before = [], Status.PROCESSING
    for each in history:
        creates = each.operation_id == history[0].operation_id
        by_merchant = each.type == "payment.voided" and not creates
        answered = each.type.startswith("payment.") and each.status not in _UNANSWERED
        took.append(answered and before in _UNDECIDED and not by_merchant)
        before = STATUS[each.status]
    return took


_FIELDS: Final = len(ProcessorView.__struct_fields__)


def _other_view(event: FeedEvent, data: Any) -> FeedEventView:
    return FeedEventView(
        id=ids.typed(ids.EVENT, event.id),
        type=event.type,
        api_version=API_VERSION,
        mode=event.mode,
        payment_id=None,
        operation_id=None,
        status=None,
        amount=None,
        currency=None,
        created_at=rfc3339(event.created_at),
        data=data,
    )


def _view(event: FeedEvent, data: PaymentView | None) -> FeedEventView:
    return FeedEventView(
        id=ids.typed(ids.EVENT, event.id),
        type=event.type,
        api_version=API_VERSION,
        mode=event.mode,
        payment_id=ids.typed(ids.PAYMENT, event.payment_id),
        operation_id=ids.typed(ids.OPERATION, event.operation_id),
        status=event.status,
        amount=event.amount_minor,
        currency=event.currency,
        created_at=rfc3339(event.created_at),
        data=data,
    )
