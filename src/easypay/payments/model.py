"""What a payment and an operation are: rows, as the gateway holds them.

What the processor says of either is one `ProcessorAnswer`, and what the merchant says of a payment
one `PaymentDetails`. `PAYMENT_COLUMNS` and `OPERATION_COLUMNS` are the columns in the order in
which `payment_of` and `operation_of` take them.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.payment_details import DETAIL_FIELDS, PaymentDetails
from easypay.payments.status import BY_NAME, Status
from easypay.processors.base import ProcessorAnswer


class Kind(StrEnum):
    """What is asked of the processor. All but refunds hold their payment alone; refunds share it
    and reserve an amount."""

    AUTHORIZE = "authorize"
    SALE = "sale"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    APPROVE = "approve"
    DECLINE = "decline"


class State(StrEnum):
    """What is known of an operation."""

    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"
    APPROVED = "approved"
    DECLINED = "declined"
    REJECTED = "rejected"
    HELD = "held"
    ABSENT = "absent"


KIND: Final = {kind.value: kind for kind in Kind}
STATE: Final = {state.value: state for state in State}
"""By name. The same as `Kind(name)` and `State(name)`, in a tenth of the time."""

CREATES: Final = frozenset({Kind.AUTHORIZE, Kind.SALE})
"""Kinds of operation that make a payment."""

REVIEWS: Final = frozenset({Kind.APPROVE, Kind.DECLINE})
"""Kinds of operation that end a review."""


class Payment(msgspec.Struct, frozen=True, gc=False):
    """One row of `payments`."""

    merchant_id: UUID
    id: UUID
    mode: str
    status: Status
    amount_minor: int
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    refund_reserved_minor: int
    version: int
    currency: str
    capture: str
    active_operation: UUID | None
    method_type: str
    card_brand: str | None
    card_last4: str | None
    card_exp_month: int | None
    card_exp_year: int | None
    processor: str
    metadata: str | None
    settled_at: datetime | None
    created_at: datetime
    updated_at: datetime
    login_id: UUID | None
    """The merchant's processor account that took it; None where it is the account of today."""
    details: PaymentDetails
    answer: ProcessorAnswer

    @property
    def voidable_minor(self) -> int | None:
        """What a refund must ask for to be done by a void while the payment has not settled: all
        that was captured. None where some was refunded, so that it has settled."""
        return None if self.refunded_minor else self.captured_minor

    @property
    def refundable_minor(self) -> int:
        """What is left to refund, not counting refunds whose outcome is open."""
        return self.captured_minor - self.refunded_minor - self.refund_reserved_minor


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One row of `operations`: one call to a processor."""

    merchant_id: UUID
    id: UUID
    payment_id: UUID
    mode: str
    kind: Kind
    state: State
    attempt: int
    amount_minor: int
    currency: str
    reference: str
    parent_transaction_id: str | None
    begun_at: datetime
    evidence: str | None = None
    processor_us: int | None = None
    reply_status: int | None = None
    reply_body: bytes | None = None
    finished_at: datetime | None = None
    voided: bool = False
    """Of an approved refund: it was done by a void, because the payment had not settled."""
    gives_back: UUID | None = None
    """The operation whose late charge it gives back; None for what a merchant asked for."""
    answer: ProcessorAnswer = ProcessorAnswer()


class Spent(msgspec.Struct, frozen=True, gc=False):
    """What a money request spent its time on, in seconds: our two commits, and the processor
    between them."""

    begin_s: float
    processor_s: float
    record_s: float


class PaymentKey(msgspec.Struct, frozen=True, gc=False):
    """Whose payment, and which."""

    merchant_id: UUID
    mode: str
    payment_id: UUID


_COLUMN_OF: Final = {"code": "processor_code", "message": "processor_message"} | {
    "avs": "avs_word",
    "cvv": "cvv_word",
}
OPERATION_ANSWER: Final = ProcessorAnswer.__struct_fields__[:6]
PAYMENT_ANSWER: Final = ProcessorAnswer.__struct_fields__[:11]
"""The fields of an answer that a row remembers; a payment has a card of its own."""


def column_of(field: str) -> str:
    """Return the column of a field of `ProcessorAnswer`."""
    return _COLUMN_OF.get(field, field)


_PAYMENT_OWN: Final = Payment.__struct_fields__[:-2]
_OPERATION_OWN: Final = Operation.__struct_fields__[:-1]
PAYMENT_COLUMNS: Final = ", ".join((*_PAYMENT_OWN, *DETAIL_FIELDS, *map(column_of, PAYMENT_ANSWER)))
OPERATION_COLUMNS: Final = ", ".join((*_OPERATION_OWN, *map(column_of, OPERATION_ANSWER)))

_DETAILS_AT: Final = len(_PAYMENT_OWN)
_PAYMENT_ANSWER_AT: Final = _DETAILS_AT + len(DETAIL_FIELDS)
_OPERATION_ANSWER_AT: Final = len(_OPERATION_OWN)
_STATUS_AT: Final = _PAYMENT_OWN.index("status")
_KIND_AT: Final = _OPERATION_OWN.index("kind")
_STATE_AT: Final = _OPERATION_OWN.index("state")


def payment_of(row: Iterable[Any]) -> Payment:
    """Return the payment of a row of PAYMENT_COLUMNS."""
    own = list(row)
    own[_DETAILS_AT:] = (
        PaymentDetails(*own[_DETAILS_AT:_PAYMENT_ANSWER_AT]),
        ProcessorAnswer(*own[_PAYMENT_ANSWER_AT:]),
    )
    own[_STATUS_AT] = BY_NAME[own[_STATUS_AT]]
    return Payment(*own)


def operation_of(row: Iterable[Any]) -> Operation:
    """Return the operation of a row of OPERATION_COLUMNS."""
    own = list(row)
    own[_OPERATION_ANSWER_AT:] = (ProcessorAnswer(*own[_OPERATION_ANSWER_AT:]),)
    own[_KIND_AT], own[_STATE_AT] = KIND[own[_KIND_AT]], STATE[own[_STATE_AT]]
    return Operation(*own)
