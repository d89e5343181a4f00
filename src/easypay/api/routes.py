"""The table of every API call: name, path, scope, request and replies.

Routing and documentation are both made from it, so the two cannot drift.
"""

from typing import Final

from easypay.api.route_tables import batches, customers, events, finance, operators, payments
from easypay.api.route_types import Route

TOPICS: Final = (
    "payments", "settlements", "reconciliation", "customers", "batches", "events", "webhooks",
    "idempotency", "errors", "conventions", "testing", "administration",
    "objects", "system",
)  # fmt: skip
"""The pages under /docs, in the order of their navigation."""

ROUTES: Final[tuple[Route, ...]] = (
    *payments.PAYMENTS,
    *finance.SETTLEMENTS,
    *events.EVENTS,
    *payments.BY_OTHER_IDS,
    *customers.CUSTOMERS,
    *batches.BATCHES,
    *finance.RECONCILIATION,
    *events.WEBHOOKS,
    *operators.ADMIN,
    *operators.NOTIFICATIONS,
    *operators.SYSTEM,
)
"""In the order of the documentation."""
