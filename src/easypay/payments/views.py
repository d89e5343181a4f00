"""Payments, refunds and operations as the API shows them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import fields as fields_of

from easypay import __version__, ids
from easypay.clock import rfc3339, rfc3339_of_each, rfc3339_or_none
from easypay.payment_details import DETAIL_FIELDS, detail_values
from easypay.payments.model import (
    GONE_BACK,
    OPERATION_ANSWER,
    Operation,
    Payment,
    State,
    Status,
    column_of,
)


class PaymentMethodView(msgspec.Struct, frozen=True, gc=False):
    """What is stored of a card or bank account: enough to recognise it, never to charge it."""

    type: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    id: str | UnsetType = UNSET
    """The stored payment method. Absent if none was used."""


class ExpandedCustomer(msgspec.Struct, frozen=True, gc=False):
    """The customer of a payment, as it is now."""

    id: str
    reference: str | None
    email: str | None
    name: str | None
    description: str | None
    deleted: bool


class ProcessorView(msgspec.Struct, frozen=True, gc=False):
    """The processor's answer, with its codes as sent."""

    name: str
    transaction_id: str | None
    auth_code: str | None
    avs_result: str | None
    cvv_result: str | None
    code: str | None
    message: str | None
    avs: str | None
    cvv: str | None
    retry: str | None
    network_transaction_id: str | None


class PaymentView(msgspec.Struct, frozen=True, gc=False):
    """A payment. Amounts are integers of minor units (cents for USD) of `currency`."""

    id: str
    status: Status
    amount: int
    currency: str
    captured_amount: int
    refunded_amount: int
    capture: str
    payment_method: PaymentMethodView
    decline_code: str | None
    processor: ProcessorView
    order_reference: str | None
    customer_reference: str | None
    description: str | None
    statement_descriptor: str | None
    metadata: dict[str, str]
    mode: str
    version: int
    created_at: str
    updated_at: str
    possible_duplicate_of: str | UnsetType = UNSET
    """Absent if the payment looks like no other, or if nobody checked."""
    customer: str | ExpandedCustomer | UnsetType = UNSET
    """The id of the stored method's customer, or with `expand=customer` the customer. Absent if no
    stored method was used."""
    settled_at: str | UnsetType = UNSET
    """When its batch settled. Absent until the processor's books say so."""
    settlement_state: str | UnsetType = UNSET
    """What became of the money. While it is absent, only all of it can be refunded."""
    partial_refund: str | UnsetType = UNSET
    """Whether a part can be refunded. Absent until it has settled: until then it cannot."""
    refunds: "ExpandedRefunds | UnsetType" = UNSET
    operations: "ExpandedOperations | UnsetType" = UNSET


class RefundView(msgspec.Struct, frozen=True, gc=False):
    """A refund: `pending` while it is queued, `processing` until its outcome is known, then
    `succeeded` or `failed`."""

    id: str
    payment_id: str
    status: str
    method: str | None
    amount: int
    currency: str
    decline_code: str | None
    processor: ProcessorView
    mode: str
    created_at: str
    updated_at: str


class OperationView(msgspec.Struct, frozen=True, gc=False):
    """One call to the processor: the request, its reference and its outcome."""

    id: str
    payment_id: str
    kind: str
    state: str
    amount: int
    currency: str
    reference: str
    attempt: int
    decline_code: str | None
    processor: ProcessorView
    processor_ms: float | None
    evidence: msgspec.Raw | None
    begun_at: str
    finished_at: str | None


class ExpandedRefunds(msgspec.Struct, frozen=True, gc=False):
    """A payment's oldest refunds. `has_more`: read the others in the list of its refunds."""

    data: list[RefundView]
    has_more: bool


class ExpandedOperations(msgspec.Struct, frozen=True, gc=False):
    """A payment's oldest operations. `has_more`: read the others in the list of its operations."""

    data: list[OperationView]
    has_more: bool


class EventView(msgspec.Struct, frozen=True):
    """An event of a payment, with the payment's status after it."""

    id: str
    type: str
    payment_id: str
    operation_id: str
    status: str
    amount: int
    currency: str
    created_at: str


def form_of(*views: type[msgspec.Struct]) -> str:
    """Return six characters that differ as soon as a field does, or the version of EasyPay: its
    words may differ, too. So they tell apart what two versions make of the same row."""
    fields = [f"{view.__name__}.{field.name}" for view in views for field in fields_of(view)]
    return sha256("\n".join([__version__, *fields]).encode()).hexdigest()[:6]


PAYMENT_FORM: Final = form_of(PaymentView, PaymentMethodView, ProcessorView)
"""Of a payment without its children. It is a part of the payment's ETag."""
ANSWERS_FORM: Final = form_of(
    *(PaymentView, PaymentMethodView, ProcessorView, ExpandedCustomer),
    *(RefundView, OperationView, EventView),
)
"""Of everything that is shown. A value that another form of gateway has cached is not used."""

_json = msgspec.json.Encoder()
_metadata = msgspec.json.Decoder(dict[str, str])


def payment_view(payment: Payment) -> PaymentView:
    """Return a payment as the API shows it."""
    answer, twin = payment.answer, payment.possible_duplicate_of
    customer, method = payment.customer_id, payment.payment_method_id
    # As in `listed_payment_views`: by position, which is faster than by name, and without calls of
    # `ids.typed`. Every payment comes here.
    return PaymentView(  # type: ignore[call-arg]  # mypy cannot count `*`
        f"pay_{payment.id.hex}",
        payment.status,
        payment.amount_minor,
        payment.currency,
        payment.captured_minor,
        payment.refunded_minor,
        payment.capture,
        PaymentMethodView(
            payment.method_type,
            payment.card_brand,
            payment.card_last4,
            payment.card_exp_month,
            payment.card_exp_year,
            UNSET if method is None else f"pm_{method.hex}",
        ),
        answer.decline_code,
        ProcessorView(payment.processor, *_payment_answer(answer)),
        *detail_values(payment.details),
        _metadata.decode(payment.metadata) if payment.metadata else {},
        payment.mode,
        payment.version,
        rfc3339(payment.created_at),
        rfc3339(payment.updated_at),
        UNSET if twin is None else f"pay_{twin.hex}",
        UNSET if customer is None else f"cus_{customer.hex}",
        UNSET if payment.settled_at is None else rfc3339(payment.settled_at),
        payment.settlement_state or UNSET,
        partial_refund(payment.settlement_state, payment.captured_minor, payment.refunded_minor),
    )


PARTIAL_REFUNDS: Final = ("possible", "impossible")


def partial_refund(
    settlement_state: str | UnsetType | None, captured_minor: int, refunded_minor: int
) -> str | UnsetType:
    """Return whether a part can be refunded, as far as it is known. `COLUMNS` of exports say the
    same in SQL."""
    if not isinstance(settlement_state, str):
        return UNSET
    left = settlement_state not in GONE_BACK and refunded_minor < captured_minor
    return "possible" if left else "impossible"


_PROCESSOR_COLUMNS: Final = ("processor", *map(column_of, ProcessorView.__struct_fields__[1:]))
PAYMENT_VIEW_COLUMNS: Final = ", ".join(
    (
        *("id", "status", "amount_minor", "currency", "captured_minor", "refunded_minor"),
        *("capture", "decline_code", "mode", "version", "created_at", "updated_at", "metadata"),
        *("method_type", "card_brand", "card_last4", "card_exp_month", "card_exp_year"),
        *_PROCESSOR_COLUMNS,
        *DETAIL_FIELDS,
        *("possible_duplicate_of", "customer_id", "payment_method_id"),
        *("settled_at", "settlement_state"),
    )
)
"""The columns that a payment's view shows. Lists read no others."""
_CREATED_AT: Final = 10
_UPDATED_AT: Final = 11
_METHOD_AT: Final = 13
_PROCESSOR_AT: Final = 18
_DETAILS_AT: Final = _PROCESSOR_AT + len(_PROCESSOR_COLUMNS)
_LINKS_AT: Final = _DETAILS_AT + len(DETAIL_FIELDS)
_SETTLED_AT: Final = _LINKS_AT + 3
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the time of what has not settled, and is not shown."""


def listed_payment_views(rows: Sequence[Sequence[Any]]) -> list[PaymentView]:
    """Return `payment_view` of each row of PAYMENT_VIEW_COLUMNS, in less than half the time. The
    times of all rows become text together."""
    created = rfc3339_of_each([row[_CREATED_AT] for row in rows])
    updated = rfc3339_of_each([row[_UPDATED_AT] for row in rows])
    settled = rfc3339_of_each([row[_SETTLED_AT] or _NEVER for row in rows])
    return [
        _listed(tuple(row), *times)
        for row, *times in zip(rows, created, updated, settled, strict=True)
    ]


def _listed(own: tuple[Any, ...], created_at: str, updated_at: str, settled_at: str) -> PaymentView:
    payment_id, status, amount, currency, captured, refunded, capture = own[:7]
    decline_code, mode, version, _, _, metadata = own[7:_METHOD_AT]
    twin, customer, method, settled, state = own[_LINKS_AT:]
    return PaymentView(  # type: ignore[call-arg]  # mypy cannot count `*`
        f"pay_{payment_id.hex}",
        status,
        amount,
        currency,
        captured,
        refunded,
        capture,
        PaymentMethodView(  # type: ignore[call-arg]  # as above
            *own[_METHOD_AT:_PROCESSOR_AT], UNSET if method is None else f"pm_{method.hex}"
        ),
        decline_code,
        ProcessorView(*own[_PROCESSOR_AT:_DETAILS_AT]),
        *own[_DETAILS_AT:_LINKS_AT],
        _metadata.decode(metadata) if metadata else {},
        mode,
        version,
        created_at,
        updated_at,
        UNSET if twin is None else f"pay_{twin.hex}",
        UNSET if customer is None else f"cus_{customer.hex}",
        UNSET if settled is None else settled_at,
        state or UNSET,
        UNSET if state is None else partial_refund(state, captured, refunded),
    )


REFUND_STATUS: Final = {
    State.QUEUED: "pending",
    State.IN_FLIGHT: "processing",
    State.UNKNOWN: "processing",
    State.NOT_SENT: "processing",
    State.HELD: "processing",
    State.APPROVED: "succeeded",
    State.DECLINED: "failed",
    State.REJECTED: "failed",
    State.ABSENT: "failed",
    State.CANCELLED: "failed",
}


def refund_view(operation: Operation, processor: str) -> RefundView:
    """Return an operation of kind refund, at the named processor, as the API shows it."""
    return RefundView(
        id=ids.typed(ids.REFUND, operation.id),
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        status=REFUND_STATUS[operation.state],
        method=_refund_method(operation),
        amount=operation.amount_minor,
        currency=operation.currency,
        decline_code=operation.answer.decline_code,
        processor=_operation_processor(operation, processor),
        mode=operation.mode,
        created_at=rfc3339(ids.moment_of(operation.id)),
        updated_at=rfc3339(operation.finished_at or operation.begun_at),
    )


REFUND_METHODS: Final = ("refund", "void")


def _refund_method(operation: Operation) -> str | None:
    """Return how the money went back: by a refund, or by a void before settlement."""
    if operation.state is not State.APPROVED:
        return None
    return "void" if operation.voided else "refund"


def operation_view(operation: Operation, processor: str) -> OperationView:
    """Return an operation at the named processor as the API shows it."""
    return OperationView(
        id=ids.typed(ids.OPERATION, operation.id),
        payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
        kind=operation.kind,
        state=operation.state,
        amount=operation.amount_minor,
        currency=operation.currency,
        reference=operation.reference,
        attempt=operation.attempt,
        decline_code=operation.answer.decline_code,
        processor=_operation_processor(operation, processor),
        processor_ms=None if operation.processor_us is None else operation.processor_us / 1000,
        evidence=None if operation.evidence is None else msgspec.Raw(operation.evidence.encode()),
        begun_at=rfc3339(operation.begun_at),
        finished_at=rfc3339_or_none(operation.finished_at),
    )


EVENT_VIEW_COLUMNS: Final = (
    "id, type, payment_id, operation_id, status, amount_minor, currency, created_at"
)


def event_view(row: Iterable[Any]) -> EventView:
    """Return a row of EVENT_VIEW_COLUMNS as the API shows it."""
    event_id, word, payment_id, operation_id, status, amount, currency, created_at = row
    return EventView(
        id=ids.typed(ids.EVENT, event_id),
        type=word,
        payment_id=ids.typed(ids.PAYMENT, payment_id),
        operation_id=ids.typed(ids.OPERATION, operation_id),
        status=status,
        amount=amount,
        currency=currency,
        created_at=rfc3339(created_at),
    )


_SHOWN: Final = ProcessorView.__struct_fields__[1:]
_payment_answer: Final = attrgetter(*_SHOWN)


def _operation_processor(operation: Operation, processor: str) -> ProcessorView:
    """Return an operation's answer. AVS, CVV and network id are shown on the payment only."""
    shown = (getattr(operation.answer, f) if f in OPERATION_ANSWER else None for f in _SHOWN)
    return ProcessorView(processor, *shown)


def body_of(view: PaymentView | RefundView) -> bytes:
    """Return the JSON that is both sent and stored, byte for byte."""
    return _json.encode(view)
