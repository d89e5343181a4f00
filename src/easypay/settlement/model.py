"""What follows from a transaction in the processor's books, for its payment and its merchant. Pure.

A payment is told of every step, also of those that were not seen: money that is found charged back
had settled before.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from easypay.payments.model import State, Status

_WAY: Final[Mapping[str, tuple[str, ...]]] = {
    "settled": ("settled",),
    "returned": ("settled", "returned"),
    "charged_back": ("settled", "charged_back"),
    "chargeback_reversed": ("settled", "charged_back", "chargeback_reversed"),
}
"""The steps by which money comes to a state."""
_EVENTS: Final[Mapping[tuple[str, str], str]] = {
    **{("charge", state): f"payment.{state}" for state in _WAY},
    ("refund", "settled"): "refund.settled",
    ("refund", "returned"): "refund.returned",
}
"""By kind and step: what the merchant is told. Of other steps it is told nothing."""


class Booked(msgspec.Struct, frozen=True):
    """A row of `settled_transactions` that has a payment."""

    batch_id: str
    transaction_id: str
    kind: str
    settlement_state: str
    told: str | None
    amount_minor: int
    currency: str
    settled_at: datetime
    merchant_id: UUID
    mode: str
    payment_id: UUID
    operation_id: UUID
    change_code: str | None
    change_message: str | None
    changed_at: datetime | None


class Ours(msgspec.Struct, frozen=True):
    """Our side of a booked transaction now: its payment, and of a refund its operation, too."""

    status: str
    currency: str
    transaction_id: str | None
    updated_at: datetime
    state: str | None = None
    gives_back: bool = False
    """The refund gives a late charge back; the merchant knows nothing of it."""
    refund_id: str | None = None
    """The refund's transaction, if it is known."""


def steps_of(told: str | None, now: str) -> tuple[str, ...]:
    """Return the steps from what the payment was told last to what is so now."""
    way = _WAY[now]
    if told is None:
        return way
    return way[way.index(told) + 1 :] if told in way and told != now else (now,)


def is_ours(booked: Booked, ours: Ours) -> bool:
    """Whether the transaction is what our row says that it is. If not, nobody is told of it:
    reconciliation has a difference, or the outcome is still open here."""
    if booked.kind == "refund":
        known = ours.refund_id in (None, booked.transaction_id)
        return ours.state == State.APPROVED and known
    return ours.status == Status.CAPTURED and ours.transaction_id == booked.transaction_id


def event_of(booked: Booked, ours: Ours, step: str) -> str | None:
    """Return the type of the event by which the merchant is told of a step; None: it is not."""
    return None if ours.gives_back else _EVENTS.get((booked.kind, step))


def is_change(told: str | None, step: str) -> bool:
    """Whether a step is more than the first settlement."""
    return step != "settled" or told is not None
