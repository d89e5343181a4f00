"""The statuses of a transaction: the stage of each, its response code and reason.

A status decides whether a transaction is in the unsettled list, whether it is in a batch and
whether its money moves. `PLACES` is that table; `status_changes` applies it.
"""

from enum import Enum
from typing import Final, NamedTuple

AUTHORIZED: Final = "authorizedPendingCapture"
CAPTURED: Final = "capturedPendingSettlement"
REFUND_PENDING: Final = "refundPendingSettlement"
SETTLED: Final = "settledSuccessfully"
REFUND_SETTLED: Final = "refundSettledSuccessfully"
DECLINED: Final = "declined"
VOIDED: Final = "voided"
EXPIRED: Final = "expired"
HELD: Final = "FDSPendingReview"
HELD_AUTHORIZED: Final = "FDSAuthorizedPendingReview"
UNDER_REVIEW: Final = "underReview"
PENDING_RELEASE: Final = "authorizedPendingRelease"
SETTLEMENT_ERROR: Final = "settlementError"
RETURNED: Final = "returnedItem"
CHARGEBACK: Final = "chargeback"
CHARGEBACK_REVERSAL: Final = "chargebackReversal"
FAILED_REVIEW: Final = "failedReview"
GENERAL_ERROR: Final = "generalError"
COMMUNICATION_ERROR: Final = "communicationError"

PENDING: Final = frozenset(
    {
        AUTHORIZED,
        CAPTURED,
        REFUND_PENDING,
        HELD,
        HELD_AUTHORIZED,
        UNDER_REVIEW,
        PENDING_RELEASE,
        "approvedReview",
        "couldNotVoid",
        "pendingSettlement",
        "pendingFinalSettlement",
        "updatingSettlement",
    }
)
"""Statuses shown in the unsettled list."""
AGING: Final = frozenset({AUTHORIZED, PENDING_RELEASE})
"""Statuses that expire without a capture."""
IN_REVIEW: Final = frozenset({HELD, HELD_AUTHORIZED, UNDER_REVIEW})


class Place(Enum):
    """The stage of a transaction."""

    AUTHORIZED = "authorized"
    """The money is held; a capture may follow."""
    SETTLING = "settling"
    """It will be in the next settlement."""
    REVIEW = "review"
    """It awaits a person's decision."""
    BATCHED = "batched"
    """It is in a batch: settled, or returned or disputed afterwards."""
    CLOSED = "closed"
    """No money moves any more."""


class Status(NamedTuple):
    place: Place
    response_code: int
    reason: int
    of: str = ""
    """'charge' or 'refund' if only those can have the status; else ''."""


PLACES: Final[dict[str, Status]] = {
    AUTHORIZED: Status(Place.AUTHORIZED, 1, 1, "charge"),
    PENDING_RELEASE: Status(Place.AUTHORIZED, 4, 295, "charge"),
    CAPTURED: Status(Place.SETTLING, 1, 1, "charge"),
    REFUND_PENDING: Status(Place.SETTLING, 1, 1, "refund"),
    "approvedReview": Status(Place.SETTLING, 1, 1),
    "couldNotVoid": Status(Place.SETTLING, 1, 1),
    "pendingSettlement": Status(Place.SETTLING, 1, 1),
    "pendingFinalSettlement": Status(Place.SETTLING, 1, 1),
    "updatingSettlement": Status(Place.SETTLING, 1, 1),
    HELD: Status(Place.REVIEW, 4, 252),
    HELD_AUTHORIZED: Status(Place.REVIEW, 4, 253),
    UNDER_REVIEW: Status(Place.REVIEW, 4, 193),
    SETTLED: Status(Place.BATCHED, 1, 1, "charge"),
    REFUND_SETTLED: Status(Place.BATCHED, 1, 1, "refund"),
    SETTLEMENT_ERROR: Status(Place.BATCHED, 3, 36),
    RETURNED: Status(Place.BATCHED, 1, 1),
    CHARGEBACK: Status(Place.BATCHED, 1, 1, "charge"),
    CHARGEBACK_REVERSAL: Status(Place.BATCHED, 1, 1, "charge"),
    DECLINED: Status(Place.CLOSED, 2, 2),
    VOIDED: Status(Place.CLOSED, 1, 1),
    EXPIRED: Status(Place.CLOSED, 1, 1),
    FAILED_REVIEW: Status(Place.CLOSED, 2, 254),
    GENERAL_ERROR: Status(Place.CLOSED, 3, 19),
    COMMUNICATION_ERROR: Status(Place.CLOSED, 3, 20),
}
CLOSED: Final = frozenset(name for name, each in PLACES.items() if each.place is Place.CLOSED)
SETTLING: Final = frozenset(name for name, each in PLACES.items() if each.place is Place.SETTLING)
TOO_LATE_TO_VOID: Final = frozenset(
    {"pendingFinalSettlement", "updatingSettlement", "couldNotVoid"}
)
"""The settlement has begun, or a void failed: a void gets reason 327."""
BATCHED: Final = frozenset(name for name, each in PLACES.items() if each.place is Place.BATCHED)

VOID, DECLINE, ERROR = range(3)
TALLIED: Final = {
    VOIDED: VOID,
    DECLINED: DECLINE,
    FAILED_REVIEW: DECLINE,
    GENERAL_ERROR: ERROR,
    COMMUNICATION_ERROR: ERROR,
}
"""The statuses that a batch counts besides the settled ones."""
