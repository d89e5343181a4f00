"""Money is returned once, by a refund or a void, even if the payment settles meanwhile."""

from typing import Any

import pytest

from easypay.processors.authorize_net import refund_or_void
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Absent,
    Account,
    AccountRefusal,
    Approved,
    Declined,
    HeldForReview,
    Inconclusive,
    InquiryRequest,
    NotSent,
    Outcome,
    RefundRequest,
    Rejected,
    Unknown,
)
from harness import Simulator
from recorded.player import Player
from recorded.scenarios import LOST

from .example_requests import authorize_net_account, inquiry, login_of, payment, refund, soon
from .outcomes import expect, expect_found
from .reports import playing

PARENT = "60198282518"
DETAILS = "getTransactionDetailsRequest"
REFUND, VOID = "refundTransaction", "voidTransaction"
LISTS = ["nothing", "nothing", "no_batches"]
LOGIN_REFUSED = AccountRefusal(
    code="E00007", message="User authentication failed due to invalid authentication values."
)


def request(account: Account, **over: Any) -> RefundRequest:
    return refund(account, **{"parent": PARENT, "captured_minor": 25_00, **over})


async def returned(processor: AuthorizeNet, player: Player, **over: Any) -> Outcome:
    async with playing(player) as account:
        return await processor.refund_or_void(request(account, **over), soon())


@pytest.mark.parametrize("refusal", ["refused_54", "refused_50"])
async def test_a_full_refund_before_settlement_is_a_void(
    processor: AuthorizeNet, refusal: str
) -> None:
    player = Player(refusal, "details_captured", "changed")
    outcome = expect(Approved, await returned(processor, player))
    assert (outcome.voided, outcome.amount_minor) == (True, 25_00)
    assert player.asked == [REFUND, DETAILS, VOID]
    asked, _, void = player.requests
    assert asked.invoice == void.ref_id


REFUNDED = Approved, {"voided": False}
VOIDED = Approved, {"voided": True, "code": "310", "transaction_id": PARENT}
NEVER = Rejected, {"decline_code": "not_refundable", "not_settled": False}
LATER = Rejected, {"code": "54", "decline_code": None, "not_settled": True, "retry": "later"}
NOT_SENT = NotSent, {"account_refusal": LOGIN_REFUSED}
UNCLEAR: tuple[type, dict[str, Any]] = (Unknown, {})
PART = {"amount_minor": 10_00}


@pytest.mark.parametrize(
    ("over", "bodies", "expected"),
    [
        ({}, ["refunded"], REFUNDED),
        ({}, ["refused_54", "details_settled"], NEVER),
        ({}, ["refused_54", "details_voided"], VOIDED),
        (PART, ["refused_54", "details_captured"], LATER),
        (PART, ["refused_54", "details_voided"], NEVER),
        ({"captured_minor": None}, ["refused_54", "details_captured"], LATER),
        ({}, ["refused_54", "details_updating"], LATER),
        ({}, [LOST], UNCLEAR),
        ({}, ["refused_54", LOST], UNCLEAR),
        ({}, ["refused_login"], NOT_SENT),
        ({}, ["refused_54", "nothing"], UNCLEAR),
        ({}, ["refused_54", "details_captured", LOST], UNCLEAR),
        ({}, ["refused_54", "details_captured", "declined"], UNCLEAR),
        ({}, ["refused_54", "details_captured", "voided_before"], VOIDED),
        # The earlier answers say that nothing moved.
        ({}, ["refused_54", "details_captured", "refused_login"], NOT_SENT),
        ({}, ["refused_54", "details_captured", "refused_327", "refunded"], REFUNDED),
        ({}, ["refused_54", "details_captured", "refused_327", "refused_54"], LATER),
        ({}, ["refused_54", "details_captured", "refused_327", LOST], UNCLEAR),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
async def test_each_answer_decides_whether_another_request_is_sent(
    processor: AuthorizeNet,
    over: dict[str, Any],
    bodies: list[str],
    expected: tuple[type, dict[str, Any]],
) -> None:
    player = Player(*bodies)
    outcome = await returned(processor, player, **over)
    assert player.asked == [REFUND, DETAILS, VOID, REFUND][: len(bodies)]
    kind, fields = expected
    assert isinstance(outcome, kind), outcome
    assert {name: getattr(outcome, name) for name in fields} == fields


async def test_after_an_unclear_void_the_inquiry_finds_it(processor: AuthorizeNet) -> None:
    player = Player("refused_54", "details_captured", LOST, *LISTS, "details_voided")
    async with playing(player) as account:
        asked = request(account)
        assert isinstance(await processor.refund_or_void(asked, soon()), Unknown)
        finding = await processor.inquire(about(asked), soon())
    seen = expect_found(Approved, finding)
    assert (seen.voided, seen.amount_minor) == (True, 25_00)


@pytest.mark.parametrize(
    ("captured_minor", "details", "expected"),
    [
        (25_00, ["details_captured"], Absent),
        (25_00, ["details_settled"], Absent),
        (25_00, ["details_updating"], Absent),
        (25_00, ["details_refund"], Inconclusive),
        (25_00, [LOST], Inconclusive),
        (30_00, [], Absent),
        (None, [], Absent),
    ],
)
async def test_a_missing_refund_counts_as_a_void_only_if_the_payment_is_voided(
    processor: AuthorizeNet, captured_minor: int | None, details: list[str], expected: type
) -> None:
    async with playing(Player(*LISTS, *details)) as account:
        asked = about(request(account, captured_minor=captured_minor))
        assert isinstance(await processor.inquire(asked, soon()), expected)


def about(refund: RefundRequest) -> InquiryRequest:
    return inquiry(
        refund.account,
        "refund",
        refund.reference,
        amount_minor=refund.amount_minor,
        transaction_id=refund.transaction_id,
        captured_minor=refund.captured_minor,
    )


async def test_a_refund_whose_void_is_not_sent_is_not_sent(processor: AuthorizeNet) -> None:
    """Every earlier answer was a definite no, so the whole refund may be sent again."""
    nothing = NotSent(reason="refused")
    assert refund_or_void.after_void(request(_nowhere()), nothing) == nothing


@pytest.mark.parametrize(
    "answer",
    [
        Declined(decline_code="generic_decline", code="2", message=""),
        HeldForReview(transaction_id=PARENT),
        Unknown(reason="reset"),
    ],
)
def test_an_answer_that_no_void_can_have_is_unknown(answer: Outcome) -> None:
    assert isinstance(refund_or_void.after_void(request(_nowhere()), answer), Unknown)


@pytest.mark.parametrize(
    ("method", "code", "expected"),
    [
        ("card", "54", True),
        ("card", "50", True),
        ("card", "16", False),
        ("card", "55", False),
        ("card", "E00007", False),
        ("bank_account", "16", True),
        ("bank_account", "54", True),
    ],
)
def test_which_refusals_may_mean_not_settled(method: str, code: str, expected: bool) -> None:
    refusal = Rejected(code=code, message="")
    asked = request(_nowhere(), method_type=method)
    assert refund_or_void.may_be_unsettled(asked, refusal) is expected
    for other in (Unknown(reason="", code=code), Approved(transaction_id="1", code=code)):
        assert not refund_or_void.may_be_unsettled(asked, other)


def _nowhere() -> Account:
    return authorize_net_account("http://127.0.0.1:1/", "a", "b")


# The simulator records what was returned, and how often.


class Till:
    """A sale on an account of its own, and the simulator's records of it."""

    def __init__(self, processor: AuthorizeNet, account: Account, wire: Simulator) -> None:
        self.processor = processor
        self.account = account
        self.wire = wire

    async def sale(self) -> str:
        outcome = expect(Approved, await self.processor.authorize(payment(self.account), soon()))
        return outcome.transaction_id

    async def moves(self) -> list[str]:
        """Return the transactions after the sale."""
        return [row["type"] for row in (await self.wire.truth(login=login_of(self.account)))[1:]]


@pytest.fixture
def till(processor: AuthorizeNet, account: Account, wire: Simulator) -> Till:
    return Till(processor, account, wire)


async def test_a_full_refund_is_a_void_before_settlement_and_a_refund_after(till: Till) -> None:
    first = request(till.account, parent=await till.sale())
    outcome = expect(Approved, await till.processor.refund_or_void(first, soon()))
    assert outcome.voided
    assert await till.moves() == [VOID]

    await till.wire.post("/reset", login=login_of(till.account))
    second = request(till.account, parent=await till.sale())
    await till.wire.post("/settle")
    outcome = expect(Approved, await till.processor.refund_or_void(second, soon()))
    assert not outcome.voided
    assert await till.moves() == [REFUND]


async def test_a_partial_refund_before_settlement_is_rejected_and_moves_nothing(till: Till) -> None:
    asked = request(till.account, parent=await till.sale(), amount_minor=10_00)
    outcome = expect(Rejected, await till.processor.refund_or_void(asked, soon()))
    assert outcome.not_settled
    assert await till.moves() == []


@pytest.mark.parametrize("fault", ["drop_reply", "error_after", "truncate", "reset_before"])
@pytest.mark.parametrize("step", [REFUND, DETAILS, VOID])
async def test_a_lost_reply_at_any_step_returns_the_money_at_most_once(
    till: Till, fault: str, step: str
) -> None:
    asked = request(till.account, parent=await till.sale())
    where = {"method": step} if step == DETAILS else {"transaction_type": step}
    await till.wire.fault(fault, login_of(till.account), **where)
    assert isinstance(await till.processor.refund_or_void(asked, soon()), Unknown)
    done = await till.moves()
    assert done == ([VOID] if step == VOID and fault != "reset_before" else [])
    finding = await till.processor.inquire(about(asked), soon())
    if done:
        assert expect_found(Approved, finding).voided
    else:
        assert isinstance(finding, Absent)
    again = expect(Approved, await till.processor.refund_or_void(asked, soon()))
    assert again.voided
    assert await till.moves() == [VOID]
