"""What a notification says about an operation that we know: one table. Pure.

A notification proves nothing. The most that it does is to let the processor be asked sooner than
it would be anyway, so that everything ends as it would without any notification.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, assert_never
from uuid import UUID

import msgspec

from easypay.payments.model import CREATES, REVIEWS, Kind, State, Status
from easypay.processors.notifications import Happened


class Step(StrEnum):
    """What to do about a notification."""

    DONE = "done"  # what we know explains it
    ASK = "ask"  # let the processor be asked about the operation now
    WAIT = "wait"  # an operation is being sent: its own answer comes first
    LOOK_AGAIN = "look again"  # it was called absent: look for it now
    READ_BOOKS = "read the books"  # nothing of ours explains it: reconciliation has to find it


class Known(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Our operation with a notification's reference, and its payment, as they are now.
    `abandoned`: it began so long ago that no answer to its call can come any more."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID
    kind: Kind
    state: State
    voided: bool
    status: Status
    captured_minor: int
    active_operation: UUID | None
    abandoned: bool


_CALLS: Final[Mapping[Happened, frozenset[Kind]]] = {
    "charge": CREATES,
    "held": CREATES,
    "review": REVIEWS,
    "capture": frozenset({Kind.CAPTURE}),
    "refund": frozenset({Kind.REFUND}),
    "void": frozenset({Kind.VOID, Kind.DECLINE}),
}
"""The kinds of operation whose call makes each thing happen."""

_LIVE: Final = frozenset({Status.PROCESSING, Status.IN_REVIEW, Status.AUTHORIZED, Status.CAPTURED})
"""Statuses of payments that hold or took money, or may do so."""

_BY_STATE: Final[Mapping[State, Step]] = {
    State.APPROVED: Step.DONE,
    State.HELD: Step.DONE,
    State.UNKNOWN: Step.ASK,
    State.ABSENT: Step.LOOK_AGAIN,
    # Nothing of it can have reached the processor, or it was refused there.
    State.QUEUED: Step.READ_BOOKS,
    State.NOT_SENT: Step.READ_BOOKS,
    State.DECLINED: Step.READ_BOOKS,
    State.REJECTED: Step.READ_BOOKS,
    State.CANCELLED: Step.READ_BOOKS,
}
"""The step for an operation of which its own call is told; IN_FLIGHT depends on its age."""


def step_for(known: Known, happened: Happened) -> Step:
    """Return what to do about a notification that names this operation."""
    if known.kind in _CALLS[happened]:
        return _of_call(known)
    if known.kind is Kind.REFUND and happened == "void" and (known.voided or _is_open(known)):
        return _of_call(known)  # it may have been made as a void
    return _of_charge(known, happened)


def _of_call(known: Known) -> Step:
    """It tells what this operation's call has done."""
    if known.state is State.IN_FLIGHT:
        return Step.ASK if known.abandoned else Step.WAIT
    return _BY_STATE[known.state]


def _of_charge(charge: Known, happened: Happened) -> Step:
    """It tells what somebody else did to this charge, at the processor's portal or through another
    system."""
    if _is_open(charge):
        return _of_call(charge)
    if charge.active_operation is not None:
        return Step.WAIT
    if charge.status is Status.IN_REVIEW:
        return Step.ASK
    match happened:
        case "charge" | "held" | "review":
            return Step.DONE
        case "capture":
            explained = charge.captured_minor > 0 or charge.status is Status.VOIDED
        case "void":
            explained = charge.status not in _LIVE
        case "refund":
            explained = False
        case _:
            assert_never(happened)
    return Step.DONE if explained else Step.READ_BOOKS


def _is_open(known: Known) -> bool:
    return known.state in (State.IN_FLIGHT, State.UNKNOWN)
