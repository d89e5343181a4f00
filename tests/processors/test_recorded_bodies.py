"""What each recorded answer proves about each kind of operation, by the client alone: the lines of
the table that leave the outcome open. tests/recorded plays all of them to a whole gateway."""

from collections.abc import Awaitable, Callable

import pytest

from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import Account, HeldForReview, Outcome, Unknown
from recorded.expected_outcomes import KINDS, LINES
from recorded.player import Player

from .example_requests import capture, payment, refund, soon, void
from .reports import playing

PARENT = "60198282518"
HELD = ("held", "held_252")
CALLS: dict[str, Callable[[AuthorizeNet, Account], Awaitable[Outcome]]] = {
    "sale": lambda client, account: client.authorize(payment(account), soon()),
    "authorize": lambda client, account: client.authorize(payment(account, capture=False), soon()),
    "capture": lambda client, account: client.capture(capture(account, PARENT), soon()),
    "void": lambda client, account: client.void(void(account, PARENT), soon()),
    "refund": lambda client, account: client.refund(refund(account, PARENT), soon()),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_that_proves_nothing_leaves_the_outcome_unknown(
    processor: AuthorizeNet, kind: str
) -> None:
    open_lines = [line for line in LINES if line.kind == kind and line.proves == "unknown"]
    assert len(open_lines) > 20
    for line in open_lines:
        player = Player(line.body)
        async with playing(player, whole=False) as account:
            outcome = await CALLS[kind](processor, account)
        # Only a new payment can be held: of any other operation `decide` takes it for unknown.
        assert isinstance(outcome, HeldForReview if line.body in HELD else Unknown), (line, outcome)
