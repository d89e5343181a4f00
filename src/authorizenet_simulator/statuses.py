"""The statuses of a transaction: where each one puts it, and what it says of the answer.

A status is not free text: a transaction with it is in the unsettled list or not, in a batch or
not, and its money moves or does not. `PLACES` is that table; `moves` keeps to it.
"""

from enum import Enum
from typing import Final, NamedTuple

from authorizenet_simulator import records


class Place(Enum):
    """Where a transaction is on its way."""

    AUTHORIZED = "authorized"
    """Money is held; a capture may come."""
    SETTLING = "settling"
    """The next settlement takes it."""
    REVIEW = "review"
    """A person decides."""
    BATCHED = "batched"
    """In a batch: settled, or what became of it afterwards."""
    CLOSED = "closed"
    """No money moves."""


class Status(NamedTuple):
    place: Place
    response_code: int
    reason: int
    of: str = ""
    """'charge' or 'refund' where only those can have it."""


PLACES: Final[dict[str, Status]] = {
    records.AUTHORIZED: Status(Place.AUTHORIZED, 1, 1, "charge"),
    records.PENDING_RELEASE: Status(Place.AUTHORIZED, 4, 295, "charge"),
    records.CAPTURED: Status(Place.SETTLING, 1, 1, "charge"),
    records.REFUND_PENDING: Status(Place.SETTLING, 1, 1, "refund"),
    "approvedReview": Status(Place.SETTLING, 1, 1),
    "couldNotVoid": Status(Place.SETTLING, 1, 1),
    "pendingSettlement": Status(Place.SETTLING, 1, 1),
    "pendingFinalSettlement": Status(Place.SETTLING, 1, 1),
    "updatingSettlement": Status(Place.SETTLING, 1, 1),
    records.HELD: Status(Place.REVIEW, 4, 252),
    records.HELD_AUTHORIZED: Status(Place.REVIEW, 4, 253),
    records.UNDER_REVIEW: Status(Place.REVIEW, 4, 193),
    records.SETTLED: Status(Place.BATCHED, 1, 1, "charge"),
    records.REFUND_SETTLED: Status(Place.BATCHED, 1, 1, "refund"),
    records.SETTLEMENT_ERROR: Status(Place.BATCHED, 3, 36),
    records.RETURNED: Status(Place.BATCHED, 1, 1),
    records.CHARGEBACK: Status(Place.BATCHED, 1, 1, "charge"),
    records.CHARGEBACK_REVERSAL: Status(Place.BATCHED, 1, 1, "charge"),
    records.DECLINED: Status(Place.CLOSED, 2, 2),
    records.VOIDED: Status(Place.CLOSED, 1, 1),
    records.EXPIRED: Status(Place.CLOSED, 1, 1),
    records.FAILED_REVIEW: Status(Place.CLOSED, 2, 254),
    records.GENERAL_ERROR: Status(Place.CLOSED, 3, 19),
    records.COMMUNICATION_ERROR: Status(Place.CLOSED, 3, 20),
}
CLOSED: Final = frozenset(name for name, said in PLACES.items() if said.place is Place.CLOSED)
SETTLING: Final = frozenset(name for name, said in PLACES.items() if said.place is Place.SETTLING)
TOO_LATE_TO_VOID: Final = frozenset(
    {"pendingFinalSettlement", "updatingSettlement", "couldNotVoid"}
)
"""On its way into a batch, or a void was tried and failed: reason 327."""
BATCHED: Final = frozenset(name for name, said in PLACES.items() if said.place is Place.BATCHED)

VOID, DECLINE, ERROR = range(3)
TALLIED: Final = {
    records.VOIDED: VOID,
    records.DECLINED: DECLINE,
    records.FAILED_REVIEW: DECLINE,
    records.GENERAL_ERROR: ERROR,
    records.COMMUNICATION_ERROR: ERROR,
}
"""The statuses that a batch counts beside what it settled."""
