"""A difference between the processor's books and ours: its kinds, its states, its row. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec


class BreakKind(StrEnum):
    """What differs."""

    UNEXPLAINED_CHARGE = "unexplained_charge"
    UNEXPLAINED_REFUND = "unexplained_refund"
    UNEXPLAINED_VOID = "unexplained_void"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    MISSING_AT_PROCESSOR = "missing_at_processor"
    NOT_SETTLED = "not_settled"
    UNKNOWN_UNPROVEN = "unknown_unproven"
    LATE_CHARGE_OPEN = "late_charge_open"
    DOUBLED = "doubled"


MEANINGS: Final[Mapping[BreakKind, str]] = {
    BreakKind.UNEXPLAINED_CHARGE: "The processor took money that no operation of ours explains: "
    "none has its reference, or ours says that nothing was charged.",
    BreakKind.UNEXPLAINED_REFUND: "The processor returned money that no refund of ours explains, "
    "such as a refund made at its own pages.",
    BreakKind.UNEXPLAINED_VOID: "A payment that is authorized or captured here, or a refund, is "
    "voided there, and no operation of ours did it.",
    BreakKind.AMOUNT_DIFFERS: "The same charge or refund has another amount there than here.",
    BreakKind.CURRENCY_DIFFERS: "The account is kept in another currency than the payment's.",
    BreakKind.MISSING_AT_PROCESSOR: "A charge or refund that was approved more than three days "
    "ago is not in the processor's books.",
    BreakKind.NOT_SETTLED: "A charge or refund has not settled three days after it was made, or "
    "the processor could not settle it.",
    BreakKind.UNKNOWN_UNPROVEN: "An operation's outcome has been unknown for more than a day.",
    BreakKind.LATE_CHARGE_OPEN: "A charge was found after its payment had failed, and a person has "
    "to decide about it (`easypay late-charges list`).",
    BreakKind.DOUBLED: "The processor has a second transaction with the reference of one of our "
    "operations.",
}

ABOUT_LINES: Final = frozenset(
    {
        BreakKind.UNEXPLAINED_CHARGE,
        BreakKind.UNEXPLAINED_REFUND,
        BreakKind.AMOUNT_DIFFERS,
        BreakKind.CURRENCY_DIFFERS,
        BreakKind.NOT_SETTLED,
        BreakKind.DOUBLED,
    }
)
"""Kinds whose subject is a transaction that the processor shows; the others begin with ours."""


class BreakState(StrEnum):
    """What is known about a difference."""

    OPEN = "open"
    MATCHED = "matched"  # a person explained it
    CLEARED = "cleared"  # it is no more: the other side arrived


class Break(msgspec.Struct, frozen=True):
    """One row of `reconciliation_breaks`."""

    id: UUID
    account: bytes
    kind: str
    subject: str
    state: str
    owner: str | None
    merchant_id: UUID | None
    mode: str | None
    payment_id: UUID | None
    operation_id: UUID | None
    batch_id: str | None
    transaction_id: str | None
    reference: str | None
    our_state: str | None
    our_minor: int | None
    our_currency: str | None
    their_state: str | None
    their_minor: int | None
    their_currency: str | None
    last4: str | None
    happened_at: datetime | None
    found_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    reason: str | None


BREAK_COLUMNS: Final = ", ".join(Break.__struct_fields__)
