"""Endpoints, deliveries and attempts, and the schedule by which a delivery is repeated. Pure."""

import random
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from easypay.customers.events import TYPES as CUSTOMER_TYPES
from easypay.events.batch_events import TYPES as BATCH_TYPES
from easypay.mode import Mode
from easypay.payments.model import SETTLEMENT_TYPES

TEST: Final = "webhook.test"
DISABLED: Final = "webhook_endpoint.disabled"
PAYMENT_TYPES: Final = (
    "payment.pending",
    "payment.processing",
    "payment.in_review",
    "payment.authorized",
    "payment.captured",
    "payment.declined",
    "payment.failed",
    "payment.voided",
    "payment.expired",
    "capture.failed",
    "void.failed",
    "approve.failed",
    "decline.failed",
    "refund.succeeded",
    "refund.failed",
    "late_charge.found",
    "late_charge.returned",
    "authorization.expiring",
    *SETTLEMENT_TYPES,
)
"""The types of all events of payments."""
TYPES: Final = (*PAYMENT_TYPES, *CUSTOMER_TYPES, *BATCH_TYPES, DISABLED)
"""What an endpoint can ask for. A test event goes to any endpoint."""

MOST_ENDPOINTS: Final = 20
"""Endpoints of one merchant and mode."""
RETRY_AFTER_S: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long after each failed attempt the next one is made, in seconds. Ten attempts in 75 hours."""
MOST_ATTEMPTS: Final = len(RETRY_AFTER_S) + 1
_JITTER: Final = 0.1
DISABLE_AFTER_S: Final = 5 * 86_400
"""An endpoint to which every attempt has failed for this long is disabled, in seconds."""
MOST_RETRY_AFTER_S: Final = 86_400
"""The longest `Retry-After` that is honoured, in seconds."""


class Endpoint(msgspec.Struct, frozen=True):
    """One row of `webhook_endpoints`, without its secrets."""

    merchant_id: UUID
    mode: Mode
    id: UUID
    url: str
    description: str
    types: list[str]
    """Empty: events of every type."""
    state: str
    """`enabled`; `paused`: deliveries wait; or `disabled`: there are none."""
    reason: str | None
    old_secret_until: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class Delivery(msgspec.Struct, frozen=True):
    """One claimed row of `webhook_deliveries`, with what is needed of its endpoint."""

    merchant_id: UUID
    endpoint_id: UUID
    event_id: UUID
    mode: Mode
    payment_id: UUID
    type: str
    data: str | None
    attempt: int
    """The number of the claim; it fences a worker that was stopped meanwhile."""
    failures: int
    """How many attempts have failed before."""
    created_at: datetime
    overdue_s: float
    """How long it had been due when it was claimed, in seconds by the database's clock."""
    url: str
    secrets: tuple[bytes, ...]
    """Sealed; the present one first."""
    held_until: float
    """A time of `clock.monotonic` before which no other worker can claim it."""


class Back(NamedTuple):
    """How many seconds back a claim looks for one endpoint's deliveries."""

    merchant_id: UUID
    endpoint_id: UUID
    back_s: float


class Attempt(msgspec.Struct, frozen=True):
    """One row of `webhook_attempts`."""

    id: UUID
    merchant_id: UUID
    endpoint_id: UUID
    event_id: UUID
    type: str
    attempt: int
    outcome: str
    url: str
    sent_at: datetime
    took_ms: int
    status: int | None
    reason: str | None
    answer: str


def object_of_test(endpoint_id: str) -> str:
    """Return the object of a test event as JSON. `endpoint_id`: as the API shows it."""
    return msgspec.json.encode({"endpoint_id": endpoint_id, "test": True}).decode()


def next_try_s(failures: int, retry_after_s: int | None = None) -> float | None:
    """Return how long after so many failures (1, 2, …) the next attempt is made, in seconds; None
    if there is none. It is not made before the endpoint wants it."""
    if failures >= MOST_ATTEMPTS:
        return None
    planned = RETRY_AFTER_S[failures - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return max(planned, min(retry_after_s or 0, MOST_RETRY_AFTER_S))
