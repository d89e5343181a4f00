"""What a transaction of the processor's books was here before the restore. Pure.

A lost charge comes back as the operation that had its reference, with a payment of its own. What
became of the charge later is told by its status alone: a capture and a void have no transaction of
their own, so they come back under new references.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.payment_details import PaymentDetails
from easypay.payments.begin import new_operation
from easypay.payments.model import Kind, Operation, Payment, State, Status
from easypay.processors.base import (
    Account,
    Approved,
    Finding,
    Found,
    InquiryRequest,
    ProcessorAnswer,
    Rejected,
)
from easypay.processors.books import MOVED, BookedTransaction, BookLine

Did = Literal["charge", "refund", "capture", "void"]
Became = Literal["restored", "open", "by_hand"]

_TAKEN: Final = MOVED | {"captured", "failed"}
"""Meanings of a charge whose money was asked for, whether it has settled or not."""
NO_MONEY: Final = frozenset({"voided", "expired", "declined"})
"""Meanings of a charge whose repeat is no second charge."""
_NO_ANSWER: Final = ProcessorAnswer()


class Owner(NamedTuple):
    """A merchant in one mode that uses an account, and the login that its payments store."""

    merchant_id: UUID
    mode: Mode
    login_id: UUID
    currencies: frozenset[str] = frozenset()


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found at the processor and was not here, and what became of it."""

    what: Did
    state: Became
    """`restored`: written, or in a dry run to be written. `open`: written, and the resolver still
    has to learn its outcome. `by_hand`: a person has to see to it."""
    transaction_id: str
    reference: str | None
    amount: int
    currency: str
    at: datetime | None = None
    last4: str | None = None
    order_reference: str | None = None
    merchant_id: str | None = None
    payment_id: str | None = None
    status: str | None = None
    """The payment's afterwards; in a dry run the processor's word."""
    why: str | None = None


def operation_id_of(reference: str | None) -> UUID | None:
    """Return the lowest id of the operation that has this reference. None if it is none of ours."""
    if reference is None:
        return None
    try:
        low, _ = ids.reference_bounds(reference)
    except ValueError:
        return None
    return low if low.version == 7 else None


def was_begun_between(operation_id: UUID, since: datetime, until: datetime) -> bool:
    """Whether an operation was begun in a time. Another program's number may be of any year."""
    low, high = ids.lowest_id_at(since), ids.lowest_id_at(until)
    return low <= operation_id <= high


def payment_id_of(operation_id: UUID) -> UUID:
    """Return the id of the payment of a lost operation: of the same millisecond, and the same each
    time, so that a run that was cut short can be repeated."""
    made = int.from_bytes(sha256(b"restored payment" + operation_id.bytes).digest()[:16], "big")
    bits = operation_id.int >> 80 << 80 | made & (1 << 80) - 1
    bits = bits & ~(0xF << 76) | 0x7 << 76  # version 7
    return UUID(int=bits & ~(0x3 << 62) | 0x2 << 62)  # its variant


def asked_minor(booked: BookedTransaction) -> int:
    """Return the amount that was asked for. 0 if the books do not say."""
    line = booked.line
    if booked.asked == "refund":
        return line.amount_minor
    return booked.authorized_minor or line.amount_minor


def inquiry(account: Account, operation_id: UUID, booked: BookedTransaction) -> InquiryRequest:
    """Return the question that proves the outcome of a lost sale, authorization or refund."""
    assert booked.asked is not None
    return InquiryRequest(
        account=account,
        kind=booked.asked,
        reference=ids.reference(operation_id),
        amount_minor=asked_minor(booked),
        currency=booked.line.currency,
        transaction_id=booked.parent_id if booked.asked == "refund" else None,
        sent_at_ms=operation_id.int >> 80,
    )


def outcome_of(booked: BookedTransaction, finding: Finding) -> Finding:
    """Return what became of a lost operation first. A charge that was voided later, or could not be
    settled, was approved before; an inquiry tells only how it is now."""
    line = booked.line
    rejected = isinstance(finding, Found) and isinstance(finding.outcome, Rejected)
    voided = line.meaning == "voided" and rejected
    unsettled = line.meaning == "failed" and not isinstance(finding, Found)
    if booked.asked == "refund" or not (voided or unsettled):
        return finding
    fields = {name: getattr(booked.answer, name) for name in booked.answer.__struct_fields__}
    approved = Approved(**fields | {"transaction_id": line.transaction_id})
    return Found(outcome=approved, evidence=f"{line.transaction_id}: {line.status}")


def next_step(payment: Payment, line: BookLine) -> tuple[Kind, int] | None:
    """Return the operation that the payment lacks to be what the processor shows, and its amount.
    None if it lacks none, or something open will tell."""
    if payment.active_operation is not None or line.kind == "refund":
        return None
    if payment.status is Status.AUTHORIZED and line.meaning in _TAKEN:
        return Kind.CAPTURE, line.amount_minor
    if payment.status in (Status.AUTHORIZED, Status.CAPTURED) and line.meaning == "voided":
        return Kind.VOID, payment.amount_minor
    return None


def lost_payment(
    owner: Owner, processor: str, operation_id: UUID, booked: BookedTransaction
) -> tuple[Payment, Operation]:
    """Return a lost charge as it was before its outcome was known."""
    line, at = booked.line, ids.moment_of(operation_id)
    sale, amount = booked.asked == "sale", asked_minor(booked)
    payment_id = payment_id_of(operation_id)
    payment = Payment(
        merchant_id=owner.merchant_id,
        id=payment_id,
        mode=owner.mode,
        status=Status.PROCESSING,
        amount_minor=amount,
        authorized_minor=0,
        captured_minor=0,
        refunded_minor=0,
        refund_reserved_minor=0,
        version=1,
        currency=line.currency,
        capture="automatic" if sale else "manual",
        active_operation=operation_id,
        method_type=booked.method or "card",
        card_brand="echeck" if booked.method == "bank_account" else line.card_brand,
        card_last4=line.last4,
        card_exp_month=None,
        card_exp_year=None,
        processor=processor,
        metadata=None,
        settled_at=None,
        settlement_state=None,
        created_at=at,
        updated_at=at,
        login_id=owner.login_id,
        possible_duplicate_of=None,
        customer_id=None,
        payment_method_id=None,
        details=PaymentDetails(order_reference=booked.order_reference),
        answer=_NO_ANSWER,
    )
    kind = Kind.SALE if sale else Kind.AUTHORIZE
    return payment, unknown_operation(payment, operation_id, kind, amount, None)


def unknown_operation(
    payment: Payment, operation_id: UUID, kind: Kind, amount: int, parent: str | None
) -> Operation:
    """Return an operation whose outcome is to be recorded."""
    begun = new_operation(payment, operation_id, kind, amount, ids.moment_of(operation_id))
    return msgspec.structs.replace(begun, state=State.UNKNOWN, parent_transaction_id=parent)
