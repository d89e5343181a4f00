"""Payments and operations as rows, and the table of all changes of a payment's status. Pure.

`ProcessorAnswer` holds what the processor answered, `PaymentDetails` the merchant's own texts.
`PAYMENT_COLUMNS` and `OPERATION_COLUMNS` list the columns in the order that `payment_of` and
`operation_of` expect.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.errors import DatabaseUnavailable, InvalidState
from easypay.mode import MODE, Mode
from easypay.payment_details import DETAIL_FIELDS, PaymentDetails
from easypay.processors.base import ProcessorAnswer


class Status(StrEnum):
    """Where a payment is."""

    PENDING = "pending"  # accepted and queued
    PROCESSING = "processing"  # sent or being sent; the outcome is unknown
    IN_REVIEW = "in_review"  # held until a person at the processor decides
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    VOIDED = "voided"
    EXPIRED = "expired"


class Kind(StrEnum):
    """What the processor is asked to do. A payment has one open operation at a time, except that
    several refunds may be open: each reserves its amount."""

    AUTHORIZE = "authorize"
    SALE = "sale"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    APPROVE = "approve"
    DECLINE = "decline"


class State(StrEnum):
    """What is known about an operation's outcome."""

    QUEUED = "queued"  # accepted; a worker will send it
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"
    APPROVED = "approved"
    DECLINED = "declined"
    REJECTED = "rejected"
    HELD = "held"
    ABSENT = "absent"
    CANCELLED = "cancelled"  # ended while it was queued: nothing was sent


STATUS: Final = {status.value: status for status in Status}
KIND: Final = {kind.value: kind for kind in Kind}
STATE: Final = {state.value: state for state in State}
"""By name: ten times as fast as `Status(name)`, `Kind(name)` and `State(name)`."""

CREATES: Final = frozenset({Kind.AUTHORIZE, Kind.SALE})
"""Kinds of operation that create a payment."""

SETTLEMENT_STATES: Final = ("settled", "returned", "charged_back", "chargeback_reversed")
"""What became of the money of a captured payment once its batch had settled."""
SETTLEMENT_TYPES: Final = (
    *(f"payment.{state}" for state in SETTLEMENT_STATES),
    *("refund.settled", "refund.returned"),
)
"""The types of the events that tell of settlement."""
GONE_BACK: Final = frozenset({"returned", "charged_back"})
"""The bank took the money back: there is nothing to refund."""

REVIEWS: Final = frozenset({Kind.APPROVE, Kind.DECLINE})
"""Kinds of operation that decide a review."""


# the status table: every change of a payment's status is one of its entries ---------------------


class Event(StrEnum):
    """What can happen to a payment."""

    SENT = "sent"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    HELD_FOR_REVIEW = "held_for_review"
    VOIDED = "voided"
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # by a void, before anything was sent
    FOUND_AUTHORIZED = "found_authorized"  # authorized, although it had been recorded as absent
    FOUND_CAPTURED = "found_captured"  # captured, although it had been recorded as absent


TRANSITIONS: Final[Mapping[tuple[str, Event], Status]] = {
    (Status.PENDING, Event.SENT): Status.PROCESSING,
    (Status.PENDING, Event.FAILED): Status.FAILED,
    (Status.PENDING, Event.CANCELLED): Status.VOIDED,
    (Status.PROCESSING, Event.AUTHORIZED): Status.AUTHORIZED,
    (Status.PROCESSING, Event.CAPTURED): Status.CAPTURED,  # a sale
    (Status.PROCESSING, Event.DECLINED): Status.DECLINED,
    (Status.PROCESSING, Event.FAILED): Status.FAILED,
    (Status.PROCESSING, Event.HELD_FOR_REVIEW): Status.IN_REVIEW,
    (Status.PROCESSING, Event.CANCELLED): Status.VOIDED,  # queued again, because nothing had left
    (Status.IN_REVIEW, Event.AUTHORIZED): Status.AUTHORIZED,
    (Status.IN_REVIEW, Event.CAPTURED): Status.CAPTURED,
    (Status.IN_REVIEW, Event.DECLINED): Status.DECLINED,
    (Status.IN_REVIEW, Event.VOIDED): Status.VOIDED,
    (Status.IN_REVIEW, Event.EXPIRED): Status.EXPIRED,
    (Status.AUTHORIZED, Event.CAPTURED): Status.CAPTURED,
    (Status.AUTHORIZED, Event.VOIDED): Status.VOIDED,
    (Status.AUTHORIZED, Event.EXPIRED): Status.EXPIRED,
    (Status.CAPTURED, Event.VOIDED): Status.VOIDED,  # until the batch settles
    # A correction: the proof of absence was wrong, so the status follows the money.
    (Status.FAILED, Event.FOUND_AUTHORIZED): Status.AUTHORIZED,
    (Status.FAILED, Event.FOUND_CAPTURED): Status.CAPTURED,
}

EDGES: Final = frozenset((start, end) for (start, _), end in TRANSITIONS.items())
"""Every allowed (status, next status); the database refuses all others."""


def advance(status: str, event: Event) -> Status:
    """Return the status after an event. Raises InvalidState if the table has no such entry."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise InvalidState(f"a payment that is {status} cannot be {event}") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for docs/architecture.md."""
    lines = ["stateDiagram-v2"]
    lines += [
        f"    {start} --> {end}: {event.replace('_', ' ')}"
        for (start, event), end in TRANSITIONS.items()
    ]
    return "\n".join(lines)


# rows -------------------------------------------------------------------------------------------


class Payment(msgspec.Struct, frozen=True, gc=False):
    """One row of `payments`."""

    merchant_id: UUID
    id: UUID
    mode: Mode
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
    settlement_state: str | None
    """One of SETTLEMENT_STATES; None until the payment has settled, as far as is known here."""
    created_at: datetime
    updated_at: datetime
    login_id: UUID | None
    """The processor account that took the payment; None means the merchant's current account."""
    possible_duplicate_of: UUID | None
    """The payment that this one looked like when it began, if the merchant checks that."""
    customer_id: UUID | None
    payment_method_id: UUID | None
    """The stored method that was charged, and whose it is. None: no stored method was used."""
    details: PaymentDetails
    answer: ProcessorAnswer

    @property
    def is_by_bank(self) -> bool:
        """Whether a bank account paid. A token may stand for one: then the answer says so."""
        return self.method_type == "bank_account" or self.card_brand == "echeck"

    @property
    def voidable_minor(self) -> int | None:
        """The amount whose refund is made as a void before settlement: all that was captured.
        None if part of it was refunded, because then the payment has settled."""
        return None if self.refunded_minor else self.captured_minor

    @property
    def refundable_minor(self) -> int:
        """The amount that is neither refunded nor reserved by an open refund."""
        return self.captured_minor - self.refunded_minor - self.refund_reserved_minor


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One row of `operations`: one call to a processor."""

    merchant_id: UUID
    id: UUID
    payment_id: UUID
    mode: Mode
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
    """The refund was made as a void, because the payment had not settled."""
    gives_back: UUID | None = None
    """The operation whose late charge this one gives back; None if a merchant asked for it."""
    answer: ProcessorAnswer = ProcessorAnswer()


class Spent(msgspec.Struct, frozen=True, gc=False):
    """Where a money request spent its time, in seconds: our two commits and the processor."""

    begin_s: float
    processor_s: float
    record_s: float


class PaymentKey(msgspec.Struct, frozen=True, gc=False):
    """Identifies a payment."""

    merchant_id: UUID
    mode: Mode
    payment_id: UUID


_COLUMN_OF: Final = {
    "code": "processor_code",
    "message": "processor_message",
    "avs": "avs_word",
    "cvv": "cvv_word",
}
OPERATION_ANSWER: Final = ProcessorAnswer.__struct_fields__[:6]
PAYMENT_ANSWER: Final = ProcessorAnswer.__struct_fields__[:11]
"""The fields of an answer that each row stores; a payment has its own card columns."""


def column_of(field: str) -> str:
    """Return the column that stores a field of `ProcessorAnswer`."""
    return _COLUMN_OF.get(field, field)


_PAYMENT_OWN: Final = Payment.__struct_fields__[:-2]
_OPERATION_OWN: Final = Operation.__struct_fields__[:-1]
PAYMENT_COLUMNS: Final = ", ".join((*_PAYMENT_OWN, *DETAIL_FIELDS, *map(column_of, PAYMENT_ANSWER)))
OPERATION_COLUMNS: Final = ", ".join((*_OPERATION_OWN, *map(column_of, OPERATION_ANSWER)))
OPERATION_VIEW_COLUMNS: Final = OPERATION_COLUMNS.replace("reply_body", "NULL::bytea AS reply_body")
"""For `operation_of` too, but without the stored reply, which is most of the row."""

_DETAILS_AT: Final = len(_PAYMENT_OWN)
_PAYMENT_ANSWER_AT: Final = _DETAILS_AT + len(DETAIL_FIELDS)
_OPERATION_ANSWER_AT: Final = len(_OPERATION_OWN)
_STATUS_AT: Final = _PAYMENT_OWN.index("status")
_MODE_AT: Final = _PAYMENT_OWN.index("mode")
_MODE_OF_OPERATION_AT: Final = _OPERATION_OWN.index("mode")
_KIND_AT: Final = _OPERATION_OWN.index("kind")
_STATE_AT: Final = _OPERATION_OWN.index("state")


def _unknown_word(what: str, word: str) -> DatabaseUnavailable:
    """Return the error for a word that only a newer version knows. During an upgrade the next
    request may meet a gateway that does."""
    return DatabaseUnavailable(
        f"The {what} is {word!r}, which this version of EasyPay does not know: a newer one wrote "
        "it. Nothing was done. Repeat the request; upgrade all gateways and workers."
    )


def payment_of(row: Iterable[Any]) -> Payment:
    """Return the payment in a row of PAYMENT_COLUMNS. Raises DatabaseUnavailable for
    a word that only a newer version knows."""
    own = list(row)
    own[_DETAILS_AT:] = (
        PaymentDetails(*own[_DETAILS_AT:_PAYMENT_ANSWER_AT]),
        ProcessorAnswer(*own[_PAYMENT_ANSWER_AT:]),
    )
    try:
        own[_MODE_AT], own[_STATUS_AT] = MODE[own[_MODE_AT]], STATUS[own[_STATUS_AT]]
    except KeyError:
        raise _unknown_word("payment's status", own[_STATUS_AT]) from None
    return Payment(*own)


def operation_of(row: Iterable[Any]) -> Operation:
    """Return the operation in a row of OPERATION_COLUMNS. Raises DatabaseUnavailable for
    a word that only a newer version knows."""
    own = list(row)
    own[_OPERATION_ANSWER_AT:] = (ProcessorAnswer(*own[_OPERATION_ANSWER_AT:]),)
    own[_MODE_OF_OPERATION_AT] = MODE[own[_MODE_OF_OPERATION_AT]]
    try:
        own[_KIND_AT], own[_STATE_AT] = KIND[own[_KIND_AT]], STATE[own[_STATE_AT]]
    except KeyError:
        words = f"{own[_KIND_AT]} {own[_STATE_AT]}"
        raise _unknown_word("operation's kind and state", words) from None
    return Operation(*own)
