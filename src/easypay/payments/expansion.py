"""Payments that are shown together with their refunds and operations (`?expand=`). Pure."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from easypay.payments.model import Kind, Operation
from easypay.payments.views import (
    ExpandedOperations,
    ExpandedRefunds,
    PaymentView,
    operation_view,
    refund_view,
)

LIMIT: Final = 20
"""How many operations of one payment are shown at most. The lists of the payment have the rest."""


def expanded(
    view: PaymentView, operations: Sequence[Operation], expand: Sequence[str]
) -> PaymentView:
    """Return a payment with the lists that `expand` names.

    `operations`: the payment's first LIMIT + 1 operations, oldest first; only its refunds if
    operations are not to be shown.
    """
    more = len(operations) > LIMIT
    shown = operations[:LIMIT]
    processor = view.processor.name
    found: dict[str, ExpandedRefunds | ExpandedOperations] = {}
    if "refunds" in expand:
        refunds = [refund_view(each, processor) for each in shown if each.kind is Kind.REFUND]
        found["refunds"] = ExpandedRefunds(refunds, more)
    if "operations" in expand:
        found["operations"] = ExpandedOperations(
            [operation_view(each, processor) for each in shown], more
        )
    return replace(view, **found)
