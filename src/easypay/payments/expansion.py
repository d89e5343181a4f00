"""Payments that are shown together with their refunds, operations and customers (`?expand=`).
Pure."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from easypay import ids
from easypay.customers.paying import CustomerOfPayment
from easypay.payments.model import Kind, Operation
from easypay.payments.views import (
    ExpandedCustomer,
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


def customer_ids(views: Sequence[PaymentView]) -> set[UUID]:
    """Return the customers whose ids these payments show."""
    found = {ids.parse(ids.CUSTOMER, v.customer) for v in views if isinstance(v.customer, str)}
    return {each for each in found if each is not None}


def with_customer(view: PaymentView, customers: Mapping[UUID, CustomerOfPayment]) -> PaymentView:
    """Return a payment with its customer in place of the id, if it has one and it is there."""
    if not isinstance(view.customer, str):
        return view
    customer_id = ids.parse(ids.CUSTOMER, view.customer)
    customer = None if customer_id is None else customers.get(customer_id)
    return view if customer is None else replace(view, customer=_customer_view(customer))


def _customer_view(customer: CustomerOfPayment) -> ExpandedCustomer:
    return ExpandedCustomer(
        ids.typed(ids.CUSTOMER, customer.id),
        customer.reference,
        customer.email,
        customer.name,
        customer.description,
        customer.deleted,
    )
