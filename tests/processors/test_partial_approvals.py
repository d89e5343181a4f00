"""A prepaid card is approved for less than the goods cost. The gateway gives the part back and
reports a decline, so that no part of the customer's money stays held."""

from typing import Any

import pytest

from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Account,
    Declined,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    Outcome,
    Unknown,
)
from recorded.bodies import JSON
from recorded.player import Player
from recorded.scenarios import LOST

from .example_requests import inquiry, payment, soon
from .outcomes import expect, expect_found
from .reports import playing

SALE, VOID = "authCaptureTransaction", "voidTransaction"


async def paid(processor: AuthorizeNet, account: Account) -> Outcome:
    return await processor.authorize(payment(account), soon())


@pytest.mark.parametrize("part", ["partial", "partial_open"])
async def test_a_partial_approval_is_voided_and_is_a_decline(
    processor: AuthorizeNet, part: str
) -> None:
    player = Player(part, "changed")
    async with playing(player) as account:
        outcome = expect(Declined, await paid(processor, account))
    assert outcome.decline_code == "insufficient_funds"
    assert "1.23 USD" in outcome.message
    assert outcome.transaction_id == "60198282518"
    assert (outcome.avs, outcome.cvv, outcome.card_last4) == ("full_match", "match", "1111")
    assert outcome.retry == "fix_data"
    assert player.asked == [SALE, VOID]
    sale, void = (each.request for each in player.requests)
    assert void["refTransId"] == "60198282518"
    assert {"settingName": "allowPartialAuth", "settingValue": "false"} in sale[
        "transactionSettings"
    ]["setting"]


@pytest.mark.parametrize("void", [LOST, "refused_327", "refused_login", "declined", "partial_open"])
@pytest.mark.parametrize("part", ["partial", "partial_open"])
async def test_a_part_that_may_still_be_held_is_unknown(
    processor: AuthorizeNet, part: str, void: str
) -> None:
    async with playing(Player(part, void)) as account:
        outcome = expect(Unknown, await paid(processor, account))
    assert "60198282518" in outcome.reason


async def test_a_partial_approval_without_a_readable_amount_is_not_an_approval(
    processor: AuthorizeNet,
) -> None:
    response = {**JSON["partial_open"]["transactionResponse"]}
    del response["prePaidCard"]
    body = {**JSON["partial_open"], "transactionResponse": response}
    async with playing(Player(body, "changed")) as account:
        outcome = await paid(processor, account)
    assert isinstance(outcome, Declined), outcome


def details(status: str, authorized: object, **fields: object) -> dict[str, Any]:
    answer = JSON["details_captured"]
    found = {
        **answer["transaction"],
        "transactionStatus": status,
        "authAmount": authorized,
        "settleAmount": authorized if status != "voided" else 0,
    }
    return {**answer, "transaction": {**found, **fields}}


async def found(processor: AuthorizeNet, answer: dict[str, Any], *void: str) -> Finding:
    """Lose a sale's reply, play these details, and return the inquiry's finding."""
    async with playing(Player(LOST, "nothing", "listed", answer, *void)) as account:
        sale = payment(account)
        assert isinstance(await processor.authorize(sale, soon()), Unknown)
        asked = inquiry(account, "sale", sale.reference)
        return await processor.inquire(asked, soon())


PENDING = "capturedPendingSettlement"


@pytest.mark.parametrize("status", [PENDING, "authorizedPendingRelease"])
async def test_a_part_found_later_is_voided_then(processor: AuthorizeNet, status: str) -> None:
    finding = await found(processor, details(status, 1.23), "changed")
    assert expect_found(Declined, finding).decline_code == "insufficient_funds"
    assert "voided" in expect(Found, finding).evidence


@pytest.mark.parametrize("void", [LOST, "refused_327", "refused_54"])
async def test_a_part_found_later_whose_void_is_unclear_is_inconclusive(
    processor: AuthorizeNet, void: str
) -> None:
    expect(Inconclusive, await found(processor, details(PENDING, 1.23), void))


async def test_a_part_that_was_voided_before_is_a_decline(processor: AuthorizeNet) -> None:
    seen = expect_found(Declined, await found(processor, details("voided", 1.23)))
    assert seen.decline_code == "insufficient_funds"


@pytest.mark.parametrize(
    "answer",
    [
        details(PENDING, 25.01),
        details(PENDING, 0),
        details(PENDING, "a little"),
        details(PENDING, 1.23, settleAmount=1.22),
        details(PENDING, 1.23, requestedAmount=30.00),
        details(PENDING, 1.23, requestedAmount=1.23),
        details(PENDING, 1.23, requestedAmount="all"),
        details(PENDING, 1.23, order={"invoiceNumber": "somebody-else"}),
        details(PENDING, 1.23, order=None),
        details(PENDING, 1.23, transactionType="refundTransaction"),
        details("settlementError", 1.23),
        details("somethingNew", 1.23),
    ],
)
async def test_a_transaction_is_voided_only_if_it_is_surely_our_part(
    processor: AuthorizeNet, answer: dict[str, Any]
) -> None:
    expect(Inconclusive, await found(processor, answer))


async def test_a_part_that_a_filter_holds_is_reported_as_held(processor: AuthorizeNet) -> None:
    held = details("FDSPendingReview", 1.23)
    expect_found(HeldForReview, await found(processor, held))
