"""A filter holds a payment; a person decides on it by the gateway or at the processor's site."""

import pytest

from easypay.ids import new_id, reference
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Account,
    Approved,
    AuthorizeRequest,
    Declined,
    Finding,
    HeldForReview,
    Inconclusive,
    NotSent,
    Outcome,
    Rejected,
    Unknown,
)
from harness import Simulator
from recorded.player import Player
from recorded.scenarios import LOST

from .example_requests import inquiry, login_of, payment, review, soon, void
from .outcomes import expect, expect_found, shown_by
from .reports import playing

HELD = "60198282518"
REVIEW = "updateHeldTransactionRequest"


async def decided(
    processor: AuthorizeNet, account: Account, approve: bool, held: str = HELD
) -> Outcome:
    return await processor.review(review(account, held, approve), soon())


async def asked(processor: AuthorizeNet, account: Account, held: str = HELD) -> Finding:
    question = inquiry(account, "review", reference(new_id()), transaction_id=held)
    return await processor.inquire(question, soon())


@pytest.mark.parametrize(
    ("approve", "body", "expected"),
    [
        (True, "review_approved", Approved),
        (True, "review_declined", Declined),  # the issuer declined afterwards
        (True, "held", HeldForReview),
        (True, "refused_stored", Rejected),
        (True, "refused_login", NotSent),
        (True, "review_ended", Unknown),
        (True, "refunded", Approved),
        (True, "voided_before", Unknown),
        (True, LOST, Unknown),
        (False, "review_ended", Declined),
        (False, "review_approved", Declined),  # the older form of a decline
        (False, "review_declined", Declined),
        (False, "voided_before", Unknown),
        (False, "captured_before", Unknown),
        (False, "refused_stored", Rejected),
        (False, LOST, Unknown),
    ],
)
async def test_the_answer_to_a_decision_gives_the_outcome(
    processor: AuthorizeNet, approve: bool, body: str, expected: type
) -> None:
    player = Player(body)
    async with playing(player) as account:
        outcome = expect(expected, await decided(processor, account, approve))
    (request,) = player.requests
    assert request.method == REVIEW
    assert list(request.fields) == ["merchantAuthentication", "refId", "heldTransactionRequest"]
    action = "approve" if approve else "decline"
    assert request.request == {"action": action, "refTransId": HELD}
    if isinstance(outcome, Declined):
        assert outcome.transaction_id == HELD
        if body != "review_declined":
            assert (outcome.code, outcome.decline_code) == ("254", "fraud_suspected")


@pytest.mark.parametrize("approve", [True, False])
async def test_a_decision_on_another_transaction_is_not_ours(
    processor: AuthorizeNet, approve: bool
) -> None:
    async with playing(Player("review_approved")) as account:
        expect(Unknown, await decided(processor, account, approve, held="60198282519"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("details_held", HeldForReview),
        ("details_ended", Declined),
        ("details_authorized", Approved),
        ("details_settled", Approved),
        ("details_updating", Inconclusive),
        (LOST, Inconclusive),
    ],
)
async def test_the_details_of_a_held_payment_give_its_outcome(
    processor: AuthorizeNet, body: str, expected: type
) -> None:
    player = Player(body)
    player.amount = "25.00"
    async with playing(player) as account:
        finding = await asked(processor, account)
    got = expect(expected, shown_by(finding))
    if isinstance(got, Declined):
        assert (got.code, got.decline_code, got.retry) == ("254", "fraud_suspected", "never")


async def held_at(
    processor: AuthorizeNet, account: Account, wire: Simulator, action: str, capture: bool
) -> tuple[AuthorizeRequest, str]:
    settings = {"login": login_of(account), "held_above": "20.00", "held_action": action}
    await wire.post("/settings", **settings)
    request = payment(account, capture=capture)
    outcome = expect(HeldForReview, await processor.authorize(request, soon()))
    return request, outcome.transaction_id


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("action", ["hold", "authAndHold"])
@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("lost", [True, False])
async def test_a_decision_is_carried_out_and_found(
    processor: AuthorizeNet,
    account: Account,
    wire: Simulator,
    approve: bool,
    action: str,
    capture: bool,
    lost: bool,
) -> None:
    request, held = await held_at(processor, account, wire, action, capture)
    expect_found(HeldForReview, await asked(processor, account, held))
    if lost:
        await wire.fault("drop_reply", login_of(account), method=REVIEW)
    outcome = await decided(processor, account, approve, held)
    expected = Approved if approve else Declined
    assert isinstance(outcome, Unknown if lost else expected), outcome

    expect_found(expected, await asked(processor, account, held))
    if approve:  # it is also found as the original sale or authorization
        own = inquiry(account, "sale" if capture else "authorize", request.reference)
        expect_found(Approved, await processor.inquire(own, soon()))
    again = await decided(processor, account, not approve, held)
    assert isinstance(again, Rejected), "a payment that is no longer held cannot be decided again"


async def test_a_held_payment_voided_meanwhile_is_found_ended(
    processor: AuthorizeNet, account: Account, wire: Simulator
) -> None:
    _, held = await held_at(processor, account, wire, "authAndHold", True)
    expect(Approved, await processor.void(void(account, held), soon()))
    expect_found(Declined, await asked(processor, account, held))
    assert isinstance(await decided(processor, account, True, held), Rejected)
