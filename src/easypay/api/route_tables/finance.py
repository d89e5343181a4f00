"""The calls of what was paid out, and of what differs from the processor's books."""

from typing import Final

from easypay import errors
from easypay.api import reconciliation, settlements
from easypay.api.paging import Page
from easypay.api.route_types import BODY, KEYED, LIST, LISTED, PAYMENT, READ, Route
from easypay.reconciliation.views import BreakView, ReconciliationView

SETTLEMENTS: Final[tuple[Route, ...]] = (
    Route(
        f"GET {PAYMENT}/settlements",
        "settlements_of_payment",
        "List what has settled of a payment",
        "Its charge and its refunds, oldest first, each with the batch that it settled in and what "
        "became of it. Empty until the processor's books were read that have it.",
        replies={200: Page, 304: None},
        page_of=settlements.SettledView,
        headers=LISTED,
        scope=settlements.SCOPE,
        errors=READ,
    ),
    Route(
        f"GET {settlements.PATH}",
        "settlements_list_batches",
        "List settlements",
        "The processor's batches that settled from `from` until `to`, at most 93 days, newest "
        "first, each with the sums of what is the merchant's in it. All are on one page.",
        replies={200: Page, 304: None},
        page_of=settlements.SettlementView,
        query=settlements.QUERY,
        headers=LISTED,
        scope=settlements.SCOPE,
        errors=LIST,
    ),
    Route(
        f"GET {settlements.PATH}/{{batch_id}}",
        "settlements_get",
        "Read a settlement",
        "A batch, with the sums of what is the merchant's in it.",
        replies={200: settlements.SettlementView, 304: None},
        headers=LISTED,
        scope=settlements.SCOPE,
        errors=(*LIST, errors.NotFound),
    ),
)
RECONCILIATION: Final[tuple[Route, ...]] = (
    Route(
        f"GET {reconciliation.PATH}",
        "reconciliation_state",
        "Read the state of reconciliation",
        "When the processor's books of each account were read, how far, and what is open, by kind.",
        replies={200: ReconciliationView},
        scope=reconciliation.READ,
        errors=(*KEYED, errors.ValidationFailed),
    ),
    Route(
        f"GET {reconciliation.PATH}/breaks",
        "reconciliation_list_breaks",
        "List differences",
        "What differs between the processor's books and EasyPay's, newest first, with both sides.",
        replies={200: Page},
        page_of=BreakView,
        query=("limit", "cursor", "state", "kind"),
        scope=reconciliation.READ,
        errors=(*KEYED, errors.ValidationFailed),
    ),
    Route(
        f"GET {reconciliation.PATH}/breaks/{{id}}",
        "reconciliation_get",
        "Read a difference",
        "Both sides, who sees to it, and how it ended.",
        replies={200: BreakView},
        scope=reconciliation.READ,
        errors=(*KEYED, errors.ValidationFailed, errors.NotFound),
    ),
    Route(
        f"POST {reconciliation.PATH}/breaks/{{id}}/match",
        "reconciliation_match",
        "Match a difference",
        "Closes an open difference that you can explain. The reason is kept in the audit entries. "
        "Repeating the call changes nothing.",
        body=reconciliation.MatchBreak,
        replies={200: BreakView},
        scope=reconciliation.WRITE,
        errors=(*KEYED, *BODY, errors.NotFound, errors.InvalidState),
    ),
)
