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
    VoidRequest,
)
from easypay.processors.integration import ClientOptions, Integration
from harness import Simulator
from second_processor.bank import SECRET, Bank, open_bank
from second_processor.client import SECOND

from .example_requests import VISA, inquiry, login_of, payment, soon

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


def capture(account: Account, held: Approved, amount_minor: int) -> CaptureRequest:
    return CaptureRequest(
        account=account,
        reference=reference(new_id()),
        transaction_id=held.transaction_id,
        amount_minor=amount_minor,
        currency="USD",
    )


def void(account: Account, of: Approved) -> VoidRequest:
    name = reference(new_id())
    return VoidRequest(account=account, reference=name, transaction_id=of.transaction_id)


def refund(account: Account, sale: Approved, amount_minor: int) -> RefundRequest:
    return RefundRequest(
        account=account,
        reference=reference(new_id()),
        transaction_id=sale.transaction_id,
        amount_minor=amount_minor,
        currency="USD",
        card_last4="1111",
        captured_minor=25_00,
    )


async def paid(processor: Processor, account: Account, **over: Any) -> Approved:
    outcome = await processor.authorize(payment(account, **over), soon())
    assert isinstance(outcome, Approved), outcome
    return outcome


async def test_a_sale_is_approved_and_found_by_its_reference(
    processor: Processor, stand: Stand
) -> None:
    name = reference(new_id())
    sale = await paid(processor, stand.account, reference=name)
    assert (sale.card_brand, sale.card_last4) == ("visa", "1111")
    for finding in (
        await processor.inquire(inquiry(stand.account, "sale", name), soon()),
        await processor.inquire_transaction(
            inquiry(stand.account, "sale", name), sale.transaction_id, soon()
        ),
    ):
        assert isinstance(finding, Found), finding
        assert isinstance(finding.outcome, Approved)
        assert finding.outcome.transaction_id == sale.transaction_id
        assert finding.outcome.amount_minor == 25_00


async def test_a_hold_is_captured_in_part_and_found(processor: Processor, stand: Stand) -> None:
    held = await paid(processor, stand.account, capture=False)
    request = capture(stand.account, held, 20_00)
    for _ in range(2):  # the second counts as success
        assert isinstance(await processor.capture(request, soon()), Approved)
    asked = inquiry(
        stand.account,
        "capture",
        request.reference,
        amount_minor=20_00,
        transaction_id=held.transaction_id,
    )
    finding = await processor.inquire(asked, soon())
    assert isinstance(finding, Found), finding
    assert isinstance(finding.outcome, Approved)


async def test_a_capture_above_the_hold_is_rejected(processor: Processor, stand: Stand) -> None:
    held = await paid(processor, stand.account, capture=False)
    outcome = await processor.capture(capture(stand.account, held, 900_00), soon())
    assert isinstance(outcome, Rejected), outcome


async def test_a_hold_is_voided_and_a_second_void_counts_as_success(
    processor: Processor, stand: Stand
) -> None:
    held = await paid(processor, stand.account, capture=False)
    for _ in range(2):
        request = void(stand.account, held)
        outcome = await processor.void(request, soon())
        assert isinstance(outcome, Approved), outcome
        assert outcome.transaction_id == held.transaction_id


async def test_a_settled_sale_is_refunded_in_part_and_found(
    processor: Processor, stand: Stand
) -> None:
    sale = await paid(processor, stand.account)
    await stand.settle()
    request = refund(stand.account, sale, 10_00)
    outcome = await processor.refund_or_void(request, soon())
    assert isinstance(outcome, Approved), outcome
    assert not outcome.voided
    asked = inquiry(
        stand.account,
        "refund",
        request.reference,
        amount_minor=10_00,
        transaction_id=sale.transaction_id,
    )
    finding = await processor.inquire(asked, soon())
    assert isinstance(finding, Found), finding
    assert finding.outcome.transaction_id == outcome.transaction_id


async def test_a_full_refund_before_settlement_is_done(processor: Processor, stand: Stand) -> None:
    sale = await paid(processor, stand.account)
    outcome = await processor.refund_or_void(refund(stand.account, sale, 25_00), soon())
    assert isinstance(outcome, Approved), outcome


async def test_an_issuers_no_is_a_decline_and_a_bad_card_is_rejected(
    processor: Processor, stand: Stand
) -> None:
    declined = await processor.authorize(payment(stand.account, **stand.declined), soon())
    assert isinstance(declined, Declined), declined
    expired = Card(number=VISA, exp_month=1, exp_year=2020)
    refused = await processor.authorize(payment(stand.account, method=expired), soon())
    assert isinstance(refused, Rejected), refused
    assert VISA not in repr(refused)


async def test_a_lost_reply_is_unknown_and_found_once(processor: Processor, stand: Stand) -> None:
    name = reference(new_id())
    await stand.lose_next_reply()
    outcome = await processor.authorize(payment(stand.account, reference=name), soon())
    assert isinstance(outcome, Unknown), outcome
    finding = await processor.inquire(inquiry(stand.account, "sale", name), soon())
    assert isinstance(finding, Found), finding
    assert isinstance(finding.outcome, Approved)


async def test_a_refused_connection_is_not_sent_and_proves_nothing_absent(
    processor: Processor, stand: Stand
) -> None:
    nowhere = replace(stand.account, url=NOWHERE)
    outcome = await processor.authorize(payment(nowhere), soon())
    assert isinstance(outcome, NotSent), outcome
    assert outcome.account_refusal is None
    asked = inquiry(nowhere, "sale", reference(new_id()))
    assert isinstance(await processor.inquire(asked, soon()), Inconclusive)
    passed = await processor.look(PassRequest(account=nowhere, wanted=[asked]), soon())
    assert isinstance(passed.findings[asked.reference], Inconclusive)
    assert isinstance(await processor.check_account(nowhere, soon()), AccountUnreachable)


async def test_a_refused_account_is_not_sent_and_the_credentials_are_blamed(
    processor: Processor, stand: Stand
) -> None:
    *_, secret = stand.account.credentials
    wrong = replace(stand.account, credentials={**stand.account.credentials, secret: "wrong"})
    outcome = await processor.authorize(payment(wrong), soon())
    assert isinstance(outcome, NotSent), outcome
    assert outcome.account_refusal is not None
    assert isinstance(await processor.check_account(wrong, soon()), AccountRefusal)
    assert isinstance(await processor.check_account(stand.account, soon()), AccountAccepted)
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
