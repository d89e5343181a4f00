"""The table of all status changes of a payment. Every change must be one of its entries."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from easypay.errors import InvalidState


class Status(StrEnum):
    PENDING = "pending"  # accepted and queued
    PROCESSING = "processing"  # sent or being sent; the outcome is unknown
    IN_REVIEW = "in_review"  # held until a person at the processor decides
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    VOIDED = "voided"
    EXPIRED = "expired"


BY_NAME: Final = {status.value: status for status in Status}
"""Ten times as fast as `Status(name)`."""


class Event(StrEnum):
    SENT = "sent"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    HELD_FOR_REVIEW = "held_for_review"
    VOIDED = "voided"
    EXPIRED = "expired"
    FOUND_AUTHORIZED = "found_authorized"  # authorized, although it had been recorded as absent
    FOUND_CAPTURED = "found_captured"  # captured, although it had been recorded as absent


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
