"""What every processor must satisfy. A new one adds a stand to `STANDS`.

A stand is an account of its own at a processor, and what a test does to that processor.
"""

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Protocol

import pytest
from msgspec.structs import replace

from easypay.ids import new_id, reference
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.base import (
    Absent,
    Account,
    AccountAccepted,
    AccountRefusal,
    AccountUnreachable,
    Address,
    Approved,
    CaptureRequest,
    Card,
    Declined,
    Found,
    Inconclusive,
    NotSent,
    PassRequest,
    Processor,
    RefundRequest,
    Rejected,
    Unknown,
)
from easypay.processors.integration import ClientOptions, Integration
from harness import Simulator
from second_processor.bank import SECRET, Bank, open_bank
from second_processor.client import SECOND

from .example_requests import VISA, capture, inquiry, login_of, payment, refund, soon, void
from .outcomes import expect, expect_found

NOWHERE = "http://127.0.0.1:1/"


class Stand(Protocol):
    integration: Integration
    account: Account
    declined: dict[str, Any]
    """Fields of a payment that the issuer declines."""

    async def lose_next_reply(self) -> None:
        """The next money call is executed, and its reply is lost."""

    async def settle(self) -> None:
        """From now on, captured payments can be refunded."""


class Simulated:
    integration = AUTHORIZE_NET
    declined: ClassVar = {"billing_address": Address(postal_code="46282")}

    def __init__(self, wire: Simulator, account: Account) -> None:
        self._wire = wire
        self.account = account

    async def lose_next_reply(self) -> None:
        await self._wire.fault("drop_reply", login_of(self.account))

    async def settle(self) -> None:
        await self._wire.post("/settle")


class AtBank:
    integration = SECOND
    declined: ClassVar = {"method": Card(number="4000000000000002", exp_month=12, exp_year=2035)}

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        credentials = {"shop": reference(new_id()), "secret": SECRET}
        self.account = SECOND.account("test", credentials, bank.url)

    async def lose_next_reply(self) -> None:
        self._bank.lose_next = True

    async def settle(self) -> None:
        """Nothing to do: this bank refunds at any time."""


@pytest.fixture(scope="module")
async def bank() -> AsyncIterator[Bank]:
    async with open_bank() as running:
        yield running


STANDS = {
    "authorize_net": lambda request: Simulated(*map(request.getfixturevalue, ("wire", "account"))),
    "second": lambda request: AtBank(request.getfixturevalue("bank")),
}


@pytest.fixture(params=STANDS)
def stand(request: pytest.FixtureRequest) -> Stand:
    return STANDS[request.param](request)


@pytest.fixture
async def processor(stand: Stand) -> AsyncIterator[Processor]:
    made = stand.integration.make(ClientOptions())
    yield made
    await made.close()


async def paid(processor: Processor, account: Account, **over: Any) -> Approved:
    return expect(Approved, await processor.authorize(payment(account, **over), soon()))


async def found(processor: Processor, request: CaptureRequest | RefundRequest) -> Approved:
    """Return the outcome that an inquiry finds for this operation."""
    asked = inquiry(
        request.account,
        "capture" if isinstance(request, CaptureRequest) else "refund",
        request.reference,
        amount_minor=request.amount_minor,
        transaction_id=request.transaction_id,
    )
    return expect_found(Approved, await processor.inquire(asked, soon()))


async def test_a_sale_is_approved_and_found_by_its_reference(
    processor: Processor, stand: Stand
) -> None:
    sale = await paid(processor, stand.account, reference=(name := reference(new_id())))
    assert (sale.card_brand, sale.card_last4) == ("visa", "1111")
    asked = inquiry(stand.account, "sale", name)
    for finding in (
        await processor.inquire(asked, soon()),
        await processor.inquire_transaction(asked, sale.transaction_id, soon()),
    ):
        seen = expect_found(Approved, finding)
        assert (seen.transaction_id, seen.amount_minor) == (sale.transaction_id, 25_00)


async def test_a_hold_is_captured_in_part_and_found(processor: Processor, stand: Stand) -> None:
    held = await paid(processor, stand.account, capture=False)
    request = capture(stand.account, held.transaction_id, amount_minor=20_00)
    for _ in range(2):  # the second counts as success
        expect(Approved, await processor.capture(request, soon()))
    await found(processor, request)


async def test_a_capture_above_the_hold_is_rejected(processor: Processor, stand: Stand) -> None:
    held = await paid(processor, stand.account, capture=False)
    request = capture(stand.account, held.transaction_id, amount_minor=900_00)
    expect(Rejected, await processor.capture(request, soon()))


async def test_a_hold_is_voided_and_a_second_void_counts_as_success(
    processor: Processor, stand: Stand
) -> None:
    held = await paid(processor, stand.account, capture=False)
    for _ in range(2):
        request = void(stand.account, held.transaction_id)
        outcome = expect(Approved, await processor.void(request, soon()))
        assert outcome.transaction_id == held.transaction_id


async def test_a_settled_sale_is_refunded_in_part_and_found(
    processor: Processor, stand: Stand
) -> None:
    sale = await paid(processor, stand.account)
    await stand.settle()
    request = refund(stand.account, sale.transaction_id, amount_minor=10_00, captured_minor=25_00)
    outcome = expect(Approved, await processor.refund_or_void(request, soon()))
    assert not outcome.voided
    assert (await found(processor, request)).transaction_id == outcome.transaction_id


async def test_a_full_refund_before_settlement_is_done(processor: Processor, stand: Stand) -> None:
    sale = await paid(processor, stand.account)
    request = refund(stand.account, sale.transaction_id, captured_minor=25_00)
    expect(Approved, await processor.refund_or_void(request, soon()))


async def test_an_issuers_no_is_a_decline_and_a_bad_card_is_rejected(
    processor: Processor, stand: Stand
) -> None:
    expect(Declined, await processor.authorize(payment(stand.account, **stand.declined), soon()))
    expired = Card(number=VISA, exp_month=1, exp_year=2020)
    outcome = await processor.authorize(payment(stand.account, method=expired), soon())
    assert VISA not in repr(expect(Rejected, outcome))


async def test_a_lost_reply_is_unknown_and_found_once(processor: Processor, stand: Stand) -> None:
    name = reference(new_id())
    await stand.lose_next_reply()
    expect(Unknown, await processor.authorize(payment(stand.account, reference=name), soon()))
    finding = await processor.inquire(inquiry(stand.account, "sale", name), soon())
    expect_found(Approved, finding)


async def test_a_refused_connection_is_not_sent_and_proves_nothing_absent(
    processor: Processor, stand: Stand
) -> None:
    nowhere = replace(stand.account, url=NOWHERE)
    outcome = expect(NotSent, await processor.authorize(payment(nowhere), soon()))
    assert outcome.account_refusal is None
    asked = inquiry(nowhere, "sale", reference(new_id()))
    expect(Inconclusive, await processor.inquire(asked, soon()))
    passed = await processor.look(PassRequest(account=nowhere, wanted=[asked]), soon())
    expect(Inconclusive, passed.findings[asked.reference])
    expect(AccountUnreachable, await processor.check_account(nowhere, soon()))


async def test_a_refused_account_is_not_sent_and_the_credentials_are_blamed(
    processor: Processor, stand: Stand
) -> None:
    *_, secret = stand.account.credentials
    wrong = replace(stand.account, credentials={**stand.account.credentials, secret: "wrong"})
    outcome = expect(NotSent, await processor.authorize(payment(wrong), soon()))
    assert outcome.account_refusal is not None
    expect(AccountRefusal, await processor.check_account(wrong, soon()))
    expect(AccountAccepted, await processor.check_account(stand.account, soon()))
    assert "wrong" not in repr(wrong)


async def test_a_pass_finds_executed_operations_and_reports_others_absent(
    processor: Processor, stand: Stand
) -> None:
    done, never, witness = (reference(new_id()) for _ in range(3))
    for name in (done, witness):
        await paid(processor, stand.account, reference=name)
    reported: list[str] = []

    async def on_found(name: str, _: Found) -> None:
        reported.append(name)

    wanted = [inquiry(stand.account, "sale", name) for name in (done, never)]
    request = PassRequest(account=stand.account, wanted=wanted)
    passed = await processor.look(request, soon(), on_found=on_found)
    assert isinstance(passed.findings[done], Found), passed
    assert isinstance(passed.findings[never], Absent), passed
    assert reported == [done]
    assert witness in passed.listed
