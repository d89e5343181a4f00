"""The erasure of a customer as the API and the command line show it. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from easypay import ids
from easypay.clock import rfc3339, rfc3339_or_none
from easypay.customers.erasure_rows import Erasure, find
from easypay.customers.model import Customer
from easypay.customers.personal_data import COLUMNS, erased, kept
from easypay.customers.views import (
    ErasedFieldsView,
    ErasureView,
    KeptFieldsView,
    NotReachedView,
)
from easypay.db import archived_months
from easypay.db.archived_months import ArchivedMonth

_ALWAYS: Final = (
    NotReachedView("exports", "files that were exported before; whoever has them must erase there"),
    NotReachedView(
        "backups", "backups and replicas that are not connected, until they are replaced"
    ),
    NotReachedView(
        "batches",
        "lines that wait with a card's token: they are encrypted, and go when they have been sent; "
        "and the `line_reference` of these, and of lines that failed without a payment",
    ),
    NotReachedView("webhooks", "what was delivered before; whoever received it must erase there"),
)


def erasure_view(
    erasure: Erasure, customer: Customer, archived: Sequence[ArchivedMonth]
) -> ErasureView:
    """Return an erasure as it is shown. `archived` are the months that are in files."""
    references = erasure.with_references
    return ErasureView(
        id=ids.typed(ids.CUSTOMER, erasure.customer_id),
        state=erasure.state,
        references=references,
        reference=None if references else customer.reference,
        waiting_for=erasure.waiting_for,
        asked_at=rfc3339(erasure.asked_at),
        erased_at=rfc3339_or_none(erasure.erased_at),
        mode=erasure.mode,
        erased=[
            ErasedFieldsView(table, columns, erasure.rows.get(table, 0))
            for table in dict.fromkeys(each.table for each in COLUMNS)
            if (columns := erased(table, references=references))
        ],
        kept=[
            KeptFieldsView(each.table, each.columns, each.why)
            for each in kept(references=references)
        ],
        not_reached=[
            *_ALWAYS,
            *(
                NotReachedView(f"month {month.month}", f"it was archived: {month.label}")
                for month in archived
            ),
        ],
    )


async def read(runner: Any, customer: Customer) -> ErasureView | None:
    """Return a customer's erasure as it is shown. None if nobody has asked for it."""
    erasure = await find(runner, customer.merchant_id, customer.mode, customer.id)
    return None if erasure is None else await shown(runner, erasure, customer)


async def shown(runner: Any, erasure: Erasure, customer: Customer) -> ErasureView:
    """Return an erasure as it is shown, with the months that are in files."""
    return erasure_view(erasure, customer, await archived_months.every(runner))
