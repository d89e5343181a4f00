"""What a payment and an operation are: rows, as the gateway holds them.

Field order is column order: rows are made from records as they come.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

CREATES: Final = frozenset({"authorize", "sale"})
"""Kinds of operation that make a payment."""

REVIEWS: Final = frozenset({"approve", "decline"})
"""Kinds of operation that end a review."""

KINDS: Final = CREATES | REVIEWS | {"capture", "void", "refund"}
"""Every kind. All but refunds hold their payment alone; refunds share it and reserve an amount."""


class Payment(msgspec.Struct, frozen=True, gc=False):
    """One row of `payments`."""

    merchant_id: UUID
    id: UUID
    mode: str
    status: str
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
    decline_code: str | None
    processor: str
    transaction_id: str | None
    network_transaction_id: str | None
    auth_code: str | None
    avs_result: str | None
    cvv_result: str | None
    processor_code: str | None
    processor_message: str | None
    order_reference: str | None
    customer_reference: str | None
    description: str | None
    statement_descriptor: str | None
    metadata: str | None
    settled_at: datetime | None
    created_at: datetime
    updated_at: datetime
    avs_word: str | None
    cvv_word: str | None
    retry: str | None
    login_id: UUID | None
    """The merchant's processor account that took it; None where it is the account of today."""

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
    kind: str
    state: str
    attempt: int
    amount_minor: int
    currency: str
    reference: str
    parent_transaction_id: str | None
    transaction_id: str | None
    auth_code: str | None
    decline_code: str | None
    processor_code: str | None
    processor_message: str | None
    evidence: str | None
    processor_us: int | None
    reply_status: int | None
    reply_body: bytes | None
    begun_at: datetime
    finished_at: datetime | None
    voided: bool
    """Of an approved refund: it was done by a void, because the payment had not settled."""
    retry: str | None
    gives_back: UUID | None
    """The operation whose late charge it gives back; None for what a merchant asked for."""


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


PAYMENT_COLUMNS: Final = ", ".join(Payment.__struct_fields__)
OPERATION_COLUMNS: Final = ", ".join(Operation.__struct_fields__)
