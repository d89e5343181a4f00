"""A void of what is on its way to settlement: what the simulator answers and what the connector's
table says agree, for every status there is."""

from uuid import uuid4

import pytest

from easypay.clock import monotonic
from easypay.processors.authorize_net import statuses
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Account,
    Approved,
    AuthorizeRequest,
    Card,
    Deadline,
    Rejected,
    VoidRequest,
)

from .conftest import Wire

VOIDED, TOO_LATE, NOT_FOUND = "voided", "327", "16"
"""What a void of it gets."""
ANSWERS = {
    "absent": {VOIDED},
    "impossible": {TOO_LATE, NOT_FOUND},
    "unclear": {TOO_LATE, NOT_FOUND},
    "done": {VOIDED},
}


def reference() -> str:
    return uuid4().hex[:20].upper()


OF_CHARGES = [
    status
    for status in statuses.STATUSES
    if not status.startswith("refund") and status != "returnedItem"
]


@pytest.mark.parametrize("status", OF_CHARGES)
async def test_a_void_gets_what_the_table_says(
    processor: AuthorizeNet, account: Account, wire: Wire, status: str
) -> None:
    until = Deadline(monotonic() + 20)
    sale = await processor.authorize(
        AuthorizeRequest(
            account=account, reference=reference(), amount_minor=2500, currency="USD", capture=True,
            method=Card(number="4111111111111111", exp_month=12, exp_year=2040),
        ),
        until,
    )  # fmt: skip
    assert isinstance(sale, Approved)
    await wire.call("POST", "/status", {"trans_id": sale.transaction_id, "status": status})
    voided = await processor.void(
        VoidRequest(account=account, reference=reference(), transaction_id=sale.transaction_id),
        until,
    )
    if isinstance(voided, Approved):
        got = VOIDED
    else:
        assert isinstance(voided, Rejected), voided
        got = voided.code
    assert got in ANSWERS[statuses.meaning(status, "void")]
    if statuses.meaning(status, "payment") == "settling":
        assert got == TOO_LATE
        assert voided.decline_code == "not_voidable"  # type: ignore[union-attr]
    if statuses.meaning(status, "payment") == "unsettled":
        assert got == VOIDED, "a void can still undo it"
