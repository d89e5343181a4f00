"""The connector against the other side of the wire: the simulator, and the real sandbox where
EASYPAY_SANDBOX_LOGIN_ID and EASYPAY_SANDBOX_TRANSACTION_KEY are set."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from time import monotonic, time
from typing import Any

import pytest

from easypay.ids import new_id, reference
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    AcceptToken,
    Account,
    Address,
    Approved,
    AuthorizeRequest,
    CaptureRequest,
    Card,
    Deadline,
    Declined,
    Finding,
    Found,
    InquiryRequest,
    Outcome,
    RefundRequest,
    Rejected,
    VoidRequest,
)
from easypay.settings import SANDBOX_URL

VISA = "4111111111111111"


class Merchant:
    """One merchant account, and the calls a test makes with it."""

    def __init__(self, processor: AuthorizeNet, account: Account, patience_s: float) -> None:
        self.processor = processor
        self.account = account
        self.patience_s = patience_s

    def deadline(self) -> Deadline:
        return Deadline(monotonic() + 20)

    async def pay(self, amount_minor: int, capture: bool = True, **over: Any) -> Outcome:
        fields: dict[str, Any] = {
            "account": self.account,
            "reference": reference(new_id()),
            "amount_minor": amount_minor,
            "currency": "USD",
            "capture": capture,
            "method": Card(number=VISA, exp_month=12, exp_year=2035, cvc="900"),
            "description": "Two chairs, größer",
            "customer_reference": "c-1",
            "customer_email": "ada@example.test",
            "customer_ip": "192.0.2.1",
            "order_reference": "order-1",
            "billing_address": Address(
                first_name="Ada",
                last_name="Byron",
                line1="1 Street",
                city="Portland",
                state="OR",
                postal_code="97201",
                country="US",
            ),
        }
        request = AuthorizeRequest(**{**fields, **over})
        return await self.processor.authorize(request, self.deadline())

    async def ask(
        self, kind: str, name: str, amount_minor: int, parent: str | None = None
    ) -> Finding:
        """Asks until there is a finding that is not "absent", as reporting may lag."""
        until = monotonic() + self.patience_s
        request = InquiryRequest(
            account=self.account,
            kind=kind,
            reference=name,
            amount_minor=amount_minor,
            currency="USD",
            transaction_id=parent,
            sent_at_ms=int(time() * 1000) - 60_000,
        )
        while True:
            finding = await self.processor.inquire(request, self.deadline())
            if isinstance(finding, Found) or monotonic() > until:
                return finding
            await asyncio.sleep(1)


@pytest.fixture(params=["simulator", pytest.param("sandbox", marks=pytest.mark.sandbox)])
def target(request: pytest.FixtureRequest) -> tuple[Account, float]:
    """An account, and for how many seconds its reporting may lag."""
    if request.param == "simulator":
        return request.getfixturevalue("account"), 0
    login = os.environ.get("EASYPAY_SANDBOX_LOGIN_ID")
    key = os.environ.get("EASYPAY_SANDBOX_TRANSACTION_KEY")
    if not login or not key:
        pytest.skip("EASYPAY_SANDBOX_LOGIN_ID and EASYPAY_SANDBOX_TRANSACTION_KEY are not set")
    return Account(url=SANDBOX_URL, login_id=login, transaction_key=key), 30


@pytest.fixture
async def merchant(target: tuple[Account, float]) -> AsyncIterator[Merchant]:
    processor = AuthorizeNet()
    yield Merchant(processor, *target)
    await processor.close()


def amount() -> int:
    """One that a real account has not seen in the last minutes."""
    return random.randrange(1_00, 400_00)


async def test_a_sale_is_approved_and_found_by_its_reference(merchant: Merchant) -> None:
    name, total = reference(new_id()), amount()
    outcome = await merchant.pay(total, reference=name)
    assert isinstance(outcome, Approved), outcome
    assert (outcome.card_brand, outcome.card_last4, outcome.code) == ("visa", "1111", "1")
    assert outcome.avs_result == "Y"
    finding = await merchant.ask("sale", name, total)
    assert isinstance(finding, Found), finding
    assert isinstance(finding.outcome, Approved)
    assert finding.outcome.transaction_id == outcome.transaction_id
    assert finding.outcome.amount_minor == total


async def test_an_authorization_is_captured_in_part_then_voided(merchant: Merchant) -> None:
    held = await merchant.pay(50_00, capture=False, description=str(amount()))
    assert isinstance(held, Approved), held
    parent, name = held.transaction_id, reference(new_id())
    captured = await merchant.processor.capture(
        CaptureRequest(
            account=merchant.account,
            reference=name,
            transaction_id=parent,
            amount_minor=20_00,
            currency="USD",
        ),
        merchant.deadline(),
    )
    assert isinstance(captured, Approved), captured
    finding = await merchant.ask("capture", name, 20_00, parent)
    assert isinstance(finding, Found), finding
    assert isinstance(finding.outcome, Approved)

    name = reference(new_id())
    void = VoidRequest(account=merchant.account, reference=name, transaction_id=parent)
    assert isinstance(await merchant.processor.void(void, merchant.deadline()), Approved)
    finding = await merchant.ask("void", name, 0, parent)
    assert isinstance(finding, Found), finding
    assert isinstance(finding.outcome, Approved)


async def test_capturing_more_than_was_authorized_is_rejected(merchant: Merchant) -> None:
    held = await merchant.pay(amount(), capture=False)
    assert isinstance(held, Approved), held
    outcome = await merchant.processor.capture(
        CaptureRequest(
            account=merchant.account,
            reference=reference(new_id()),
            transaction_id=held.transaction_id,
            amount_minor=900_00,
            currency="USD",
        ),
        merchant.deadline(),
    )
    assert isinstance(outcome, Rejected), outcome
    assert outcome.code == "47"


async def test_refunding_what_has_not_settled_is_rejected(merchant: Merchant) -> None:
    total = amount()
    sale = await merchant.pay(total)
    assert isinstance(sale, Approved), sale
    outcome = await merchant.processor.refund(
        RefundRequest(
            account=merchant.account,
            reference=reference(new_id()),
            transaction_id=sale.transaction_id,
            amount_minor=total,
            currency="USD",
            card_last4="1111",
        ),
        merchant.deadline(),
    )
    assert isinstance(outcome, Rejected), outcome
    assert outcome.decline_code == "not_refundable"


async def test_a_decline(merchant: Merchant) -> None:
    outcome = await merchant.pay(amount(), billing_address=Address(postal_code="46282"))
    assert isinstance(outcome, Declined), outcome
    assert (outcome.code, outcome.decline_code) == ("2", "generic_decline")


@pytest.mark.parametrize(
    ("method", "code", "word"),
    [
        (Card(number="4111111111111112", exp_month=12, exp_year=2035), "6", "invalid_card_number"),
        (Card(number=VISA, exp_month=1, exp_year=2020), "8", "expired_card"),
        (Card(number=VISA, exp_month=12, exp_year=2035, cvc="12"), "E00003", None),
        (Card(number=VISA * 2, exp_month=12, exp_year=2035), "E00003", None),
        (
            AcceptToken(descriptor="COMMON.ACCEPT.INAPP.PAYMENT", value="no-such-nonce"),
            "E00114",
            "invalid_payment_token",
        ),
    ],
    ids=["number", "expired", "cvc", "too-long", "nonce"],
)
async def test_what_can_not_be_taken_is_rejected(
    merchant: Merchant, method: Card | AcceptToken, code: str, word: str | None
) -> None:
    outcome = await merchant.pay(amount(), method=method)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.code == code
    assert word is None or outcome.decline_code == word
    assert VISA not in repr(outcome)
    assert "'12'" not in outcome.message


async def test_wrong_credentials_are_rejected(merchant: Merchant) -> None:
    wrong = Account(url=merchant.account.url, login_id="nobody", transaction_key="nothing")
    outcome = await merchant.pay(amount(), account=wrong)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.code == "E00007"


async def test_what_was_never_sent_is_absent(merchant: Merchant) -> None:
    assert await merchant.pay(amount())
    merchant.patience_s = 0
    finding = await merchant.ask("sale", reference(new_id()), 100)
    assert type(finding).__name__ == "Absent", finding
