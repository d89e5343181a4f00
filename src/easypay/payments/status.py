"""The one table of what may happen to a payment. There is no second way to change a status."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from easypay.errors import InvalidState


class Status(StrEnum):
    PENDING = "pending"  # accepted and queued
    PROCESSING = "processing"  # sent or being sent; the outcome is not known
    IN_REVIEW = "in_review"  # a person at the processor decides
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    VOIDED = "voided"
    EXPIRED = "expired"


BY_NAME: Final = {status.value: status for status in Status}
"""The same as `Status(name)`, in a tenth of the time."""


class Event(StrEnum):
    SENT = "sent"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    HELD_FOR_REVIEW = "held_for_review"
    VOIDED = "voided"
    EXPIRED = "expired"
    FOUND_AUTHORIZED = "found_authorized"  # held after all, though it was believed absent
    FOUND_CAPTURED = "found_captured"  # taken after all, though it was believed absent


TRANSITIONS: Final[Mapping[tuple[str, Event], Status]] = {
    (Status.PENDING, Event.SENT): Status.PROCESSING,
    (Status.PENDING, Event.FAILED): Status.FAILED,
    (Status.PROCESSING, Event.AUTHORIZED): Status.AUTHORIZED,
    (Status.PROCESSING, Event.CAPTURED): Status.CAPTURED,  # a sale
    (Status.PROCESSING, Event.DECLINED): Status.DECLINED,
    (Status.PROCESSING, Event.FAILED): Status.FAILED,
    (Status.PROCESSING, Event.HELD_FOR_REVIEW): Status.IN_REVIEW,
    (Status.IN_REVIEW, Event.AUTHORIZED): Status.AUTHORIZED,
    (Status.IN_REVIEW, Event.CAPTURED): Status.CAPTURED,
    (Status.IN_REVIEW, Event.DECLINED): Status.DECLINED,
    (Status.IN_REVIEW, Event.VOIDED): Status.VOIDED,
    (Status.IN_REVIEW, Event.EXPIRED): Status.EXPIRED,
    (Status.AUTHORIZED, Event.CAPTURED): Status.CAPTURED,
    (Status.AUTHORIZED, Event.VOIDED): Status.VOIDED,
    (Status.AUTHORIZED, Event.EXPIRED): Status.EXPIRED,
    (Status.CAPTURED, Event.VOIDED): Status.VOIDED,  # until the batch settles
    # A correction: proof of absence was wrong, and the money is what counts.
    (Status.FAILED, Event.FOUND_AUTHORIZED): Status.AUTHORIZED,
    (Status.FAILED, Event.FOUND_CAPTURED): Status.CAPTURED,
}

EDGES: Final = frozenset((start, end) for (start, _), end in TRANSITIONS.items())
"""Every (status, next status) that can be; the database refuses all others."""


def advance(status: str, event: Event) -> Status:
    """The status (by name) after an event. Raises InvalidState where the table has no such edge."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise InvalidState(f"a payment that is {status} cannot be {event}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/architecture.md."""
    lines = ["stateDiagram-v2"]
    lines += [
        f"    {start} --> {end}: {event.replace('_', ' ')}"
        for (start, event), end in TRANSITIONS.items()
    ]
    return "\n".join(lines)
