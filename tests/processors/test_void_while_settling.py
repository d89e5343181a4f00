"""Voids before and during settlement: for every status, the simulator's answer agrees with the
connector's table."""

import pytest

from easypay.processors.authorize_net import statuses
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Account,
    Approved,
    Rejected,
)
from harness import Simulator

from .example_requests import payment, soon, void
from .outcomes import expect

VOIDED, TOO_LATE, NOT_FOUND = "voided", "327", "16"
"""The answer to a void of it."""
ANSWERS = {
    "absent": {VOIDED},
    "impossible": {TOO_LATE, NOT_FOUND},
    "unclear": {TOO_LATE, NOT_FOUND},
    "done": {VOIDED},
}


OF_CHARGES = [
    status
    for status in statuses.STATUSES
    if not status.startswith("refund") and status != "returnedItem"
]


@pytest.mark.parametrize("status", OF_CHARGES)
async def test_a_void_gets_the_answer_in_the_table(
    processor: AuthorizeNet, account: Account, wire: Simulator, status: str
) -> None:
    sale = expect(Approved, await processor.authorize(payment(account), soon()))
    parent = sale.transaction_id
    await wire.post("/status", trans_id=parent, status=status)
    voided = await processor.void(void(account, parent), soon())
    got = VOIDED if isinstance(voided, Approved) else expect(Rejected, voided).code
    assert got in ANSWERS[statuses.meaning(status, "void")]
    if statuses.meaning(status, "payment") == "settling":
        assert got == TOO_LATE
        assert voided.decline_code == "not_voidable"  # type: ignore[union-attr]
    if statuses.meaning(status, "payment") == "unsettled":
        assert got == VOIDED, "a void can still undo it"
