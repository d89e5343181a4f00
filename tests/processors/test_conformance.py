"""The connector against the simulator, against recorded bodies of Authorize.Net, and against the
real sandbox if EASYPAY_SANDBOX_LOGIN_ID and EASYPAY_SANDBOX_TRANSACTION_KEY are set.

`@plays` names the recorded bodies, in the order of the answers.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic, time
from typing import Any

import msgspec
import pytest

from easypay.ids import new_id, reference
from easypay.payment_details import PaymentDetails
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    AcceptToken,
    Account,
    Address,
    Approved,
    BankAccount,
    Card,
    Deadline,
    Declined,
    Finding,
    Found,
    HeldForReview,
    NotSent,
    Outcome,
    RefundRequest,
    Rejected,
    StoredCredential,
    StoredMethod,
)
from easypay.settings import SANDBOX_URL
from harness import Simulator
from recorded.player import Player

from .example_requests import (
    VISA,
    authorize_net_account,
    capture,
    inquiry,
    login_of,
    payment,
    refund,
    review,
    void,
)
from .outcomes import Kind, expect, expect_found
from .reports import playing

LISTS = ("nothing", "nothing", "no_batches")
"""Recorded lists that do not contain the reference."""


class Merchant:
    """One merchant account, and the calls a test makes with it."""

    def __init__(
        self,
        processor: AuthorizeNet,
        account: Account,
        *,
        sandbox: bool = False,
        wire: Simulator | None = None,
    ) -> None:
        self.processor = processor
        self.account = account
        self.sandbox = sandbox
        self.patience_s = 30 if sandbox else 0
        """How long reporting may lag."""
        self.wire = wire

    def deadline(self) -> Deadline:
        return Deadline(monotonic() + 20)

    async def settle(self) -> None:
        """Settle everything captured. Skips on the sandbox, which settles once a day."""
        if self.sandbox:
            pytest.skip("the sandbox settles once a day")
        if self.wire is not None:
            await self.wire.post("/settle")

    async def hold_above(self, amount: str) -> None:
        """From now on, hold payments above this amount."""
        if self.sandbox:
            pytest.skip("the sandbox's filters are set by hand")
        if self.wire is not None:
            rule = {"login": login_of(self.account), "held_above": amount}
            await self.wire.post("/settings", **rule)

    async def pay(self, amount_minor: int, capture: bool = True, **over: Any) -> Outcome:
        fields: dict[str, Any] = {
            "account": self.account,
            "amount_minor": amount_minor,
            "capture": capture,
            "method": Card(number=VISA, exp_month=12, exp_year=2035, cvc="900"),
            "details": PaymentDetails("order-1", "c-1", "Two chairs, größer"),
            "customer_email": "ada@example.test",
            "customer_ip": "192.0.2.1",
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
        request = payment(**{**fields, **over})
        return await self.processor.authorize(request, self.deadline())

    async def stored(self) -> StoredMethod:
        """Store a new customer's card at the processor."""
        if self.wire is None and not self.sandbox:
            return StoredMethod(customer_profile_id="900000001", payment_profile_id="910000001")
        card = {"cardNumber": VISA, "expirationDate": "2035-12"}
        body = {
            "createCustomerProfileRequest": {
                "merchantAuthentication": {
                    "name": self.account.credentials["login_id"],
                    "transactionKey": self.account.credentials["transaction_key"],
                },
                "profile": {
                    "merchantCustomerId": reference(new_id()),
                    "paymentProfiles": {"payment": {"creditCard": card}},
                },
                "validationMode": "none",
            }
        }
        client = HttpClient()
        url, data = self.account.url, json.dumps(body).encode()
        reply = await client.post(url, data, self.deadline())
        await client.close()
        assert isinstance(reply, Reply)
        made = json.loads(reply.body.decode("utf-8-sig"))
        return StoredMethod(
            customer_profile_id=made["customerProfileId"],
            payment_profile_id=made["customerPaymentProfileIdList"][0],
        )

    async def capture(self, held: Approved, amount_minor: int, **over: Any) -> Outcome:
        parent = held.transaction_id
        request = capture(self.account, parent, amount_minor=amount_minor, **over)
        return await self.processor.capture(request, self.deadline())

    async def void(self, held: Approved, **over: Any) -> Outcome:
        request = void(self.account, held.transaction_id, **over)
        return await self.processor.void(request, self.deadline())

    def refund(self, sale: Approved, amount_minor: int, **over: Any) -> RefundRequest:
        fields = {"amount_minor": amount_minor, "card_last4": sale.card_last4, **over}
        return refund(self.account, sale.transaction_id, **fields)

    async def refund_or_void(self, request: RefundRequest) -> Outcome:
        return await self.processor.refund_or_void(request, self.deadline())

    async def find(self, kind: type[Kind], request: RefundRequest) -> Kind:
        """Return the outcome that an inquiry finds for this refund."""
        about = request.reference, request.amount_minor, request.transaction_id
        return expect_found(kind, await self.ask("refund", *about, request.captured_minor))

    async def ask(
        self,
        kind: str,
        name: str,
        amount_minor: int,
        parent: str | None = None,
        captured_minor: int | None = None,
    ) -> Finding:
        """Inquire until the finding is not "absent", because reporting may lag."""
        until = monotonic() + self.patience_s
        request = inquiry(
            self.account,
            kind,
            name,
            amount_minor=amount_minor,
            transaction_id=parent,
            sent_at_ms=int(time() * 1000) - 60_000,
            captured_minor=captured_minor,
        )
        while True:
            finding = await self.processor.inquire(request, self.deadline())
            if isinstance(finding, Found) or monotonic() > until:
                return finding
            await asyncio.sleep(1)


Test = Callable[..., Awaitable[None]]


def plays(*names: str) -> Callable[[Test], Test]:
    """Name the recorded bodies to play. `{}` stands for the id of the test's parameter."""

    def mark(test: Test) -> Test:
        test.__dict__["bodies"] = names
        return test

    return mark


SIDES = ["simulator", "recorded", pytest.param("sandbox", marks=pytest.mark.sandbox)]


@pytest.fixture(params=SIDES)
def target(request: pytest.FixtureRequest) -> Account | Player:
    """The account of a live processor, or a player of recorded bodies."""
    if request.param == "simulator":
        account = request.getfixturevalue("account")
        assert isinstance(account, Account)
        return account
    if request.param == "recorded":
        variant = request.node.callspec.id.removeprefix("recorded-")
        return Player(*(name.format(variant) for name in request.function.bodies))
    login = os.environ.get("EASYPAY_SANDBOX_LOGIN_ID")
    key = os.environ.get("EASYPAY_SANDBOX_TRANSACTION_KEY")
    if not login or not key:
        pytest.skip("EASYPAY_SANDBOX_LOGIN_ID and EASYPAY_SANDBOX_TRANSACTION_KEY are not set")
    return authorize_net_account(SANDBOX_URL, login, key)


@pytest.fixture
async def merchant(
    processor: AuthorizeNet, target: Account | Player, wire: Simulator
) -> AsyncIterator[Merchant]:
    if isinstance(target, Player):
        async with playing(target) as account:
            yield Merchant(processor, account)
    elif target.url == SANDBOX_URL:
        yield Merchant(processor, target, sandbox=True)
    else:
        yield Merchant(processor, target, wire=wire)


def amount() -> int:
    """An amount that the sandbox account has not seen in the last minutes."""
    return random.randrange(1_00, 400_00)


@plays("approved", "nothing", "listed", "details_captured")
async def test_a_sale_is_approved_and_found_by_its_reference(merchant: Merchant) -> None:
    name, total = reference(new_id()), amount()
    outcome = expect(Approved, await merchant.pay(total, reference=name))
    assert (outcome.card_brand, outcome.card_last4, outcome.code) == ("visa", "1111", "1")
    assert outcome.avs_result == "Y"
    seen = expect_found(Approved, await merchant.ask("sale", name, total))
    assert seen.transaction_id == outcome.transaction_id
    assert seen.amount_minor == total


@plays("approved", "changed", "details_captured", "changed", "details_voided")
async def test_an_authorization_is_captured_in_part_then_voided(merchant: Merchant) -> None:
    own = PaymentDetails(description=str(amount()))
    held = expect(Approved, await merchant.pay(50_00, capture=False, details=own))
    parent, name = held.transaction_id, reference(new_id())
    expect(Approved, await merchant.capture(held, 20_00, reference=name))
    expect_found(Approved, await merchant.ask("capture", name, 20_00, parent))
    name = reference(new_id())
    expect(Approved, await merchant.void(held, reference=name))
    expect_found(Approved, await merchant.ask("void", name, 0, parent))


@plays("approved", "refused_47")
async def test_capturing_more_than_was_authorized_is_rejected(merchant: Merchant) -> None:
    held = expect(Approved, await merchant.pay(amount(), capture=False))
    assert expect(Rejected, await merchant.capture(held, 900_00)).code == "47"


@plays("approved", "refused_54")
async def test_a_refund_before_settlement_is_rejected(merchant: Merchant) -> None:
    total = amount()
    request = merchant.refund(expect(Approved, await merchant.pay(total)), total)
    outcome = await merchant.processor.refund(request, merchant.deadline())
    assert expect(Rejected, outcome).decline_code == "not_refundable"


@plays("declined")
async def test_an_issuers_decline_is_a_decline(merchant: Merchant) -> None:
    nobody = Address(postal_code="46282")
    outcome = expect(Declined, await merchant.pay(amount(), billing_address=nobody))
    assert (outcome.code, outcome.decline_code) == ("2", "generic_decline")


USED_NONCE = "eyJ0b2tlbiI6IjAiLCJ2IjoiMS4xIn0="


@pytest.mark.parametrize(
    ("method", "code", "word"),
    [
        (Card(number="4111111111111112", exp_month=12, exp_year=2035), "6", "invalid_card_number"),
        (Card(number=VISA, exp_month=1, exp_year=2020), "8", "expired_card"),
        (Card(number=VISA, exp_month=12, exp_year=2035, cvc="12"), "E00003", None),
        (Card(number=VISA * 2, exp_month=12, exp_year=2035), "E00003", None),
        (
            AcceptToken(descriptor="COMMON.ACCEPT.INAPP.PAYMENT", value=USED_NONCE),
            "E00114",
            "invalid_payment_token",
        ),
    ],
    ids=["6", "8", "cvc", "too-long", "nonce"],
)
@plays("refused_{}")
async def test_a_payment_method_that_cannot_be_charged_is_rejected(
    merchant: Merchant, method: Card | AcceptToken, code: str, word: str | None
) -> None:
    outcome = expect(Rejected, await merchant.pay(amount(), method=method))
    assert outcome.code == code
    assert word is None or outcome.decline_code == word
    assert VISA not in repr(outcome)
    assert "'12'" not in outcome.message


@plays("refused_login")
async def test_an_operation_with_wrong_credentials_counts_as_never_sent(merchant: Merchant) -> None:
    wrong = authorize_net_account(merchant.account.url, "nobody", "nothing")
    outcome = expect(NotSent, await merchant.pay(amount(), account=wrong))
    assert outcome.account_refusal is not None
    assert outcome.account_refusal.code == "E00007"


@plays("approved", "nothing", "nothing", "no_batches")
async def test_an_operation_that_was_never_sent_is_absent(merchant: Merchant) -> None:
    assert await merchant.pay(amount())
    merchant.patience_s = 0
    finding = await merchant.ask("sale", reference(new_id()), 100)
    assert type(finding).__name__ == "Absent", finding


BANK = BankAccount(
    account_type="checking",
    routing_number="121042882",
    account_number="123456789",
    name_on_account="Ada Byron",
)


@plays("approved_bank", "nothing", "listed", "details_bank")
async def test_a_bank_account_is_debited_and_found(merchant: Merchant) -> None:
    name, total = reference(new_id()), random.randrange(1_00, 99_00)
    outcome = expect(Approved, await merchant.pay(total, reference=name, method=BANK))
    assert (outcome.card_brand, outcome.card_last4) == ("echeck", "6789")
    assert outcome.avs == "not_applicable"
    seen = expect_found(Approved, await merchant.ask("sale", name, total))
    assert seen.card_last4 == "6789"


@plays("refused_9")
async def test_an_unknown_routing_number_is_rejected(merchant: Merchant) -> None:
    nowhere = msgspec.structs.replace(BANK, routing_number="121042883")
    outcome = expect(Rejected, await merchant.pay(amount(), method=nowhere))
    assert (outcome.code, outcome.decline_code) == ("9", "invalid_bank_account")


@plays("approved_bank", "refunded")
async def test_a_bank_account_is_refunded(merchant: Merchant) -> None:
    sale = expect(Approved, await merchant.pay(20_00, method=BANK))
    await merchant.settle()
    request = merchant.refund(sale, 5_00, captured_minor=20_00, method_type="bank_account")
    assert not expect(Approved, await merchant.refund_or_void(request)).voided


@plays("approved_stored", "refunded", "nothing", "listed_refund", "details_refund")
async def test_a_stored_method_is_charged_and_refunded(merchant: Merchant) -> None:
    stored, total = await merchant.stored(), amount()
    sale = expect(Approved, await merchant.pay(total, method=stored))
    assert (sale.card_brand, sale.card_last4) == ("visa", "1111")
    await merchant.settle()
    ids = {name: getattr(stored, name) for name in ("customer_profile_id", "payment_profile_id")}
    request = merchant.refund(sale, total, **ids)
    expect(Approved, await merchant.processor.refund(request, merchant.deadline()))
    await merchant.find(Approved, request)


@plays("refused_stored")
async def test_an_unknown_stored_method_is_rejected(merchant: Merchant) -> None:
    stored = StoredMethod(customer_profile_id="1", payment_profile_id="2")
    outcome = expect(Rejected, await merchant.pay(amount(), method=stored))
    assert (outcome.code, outcome.decline_code) == ("E00040", "stored_method_not_found")


@plays("approved", "approved")
async def test_a_card_on_file_is_charged_again_by_the_networks_id(merchant: Merchant) -> None:
    total = amount()
    first = StoredCredential(initiator="customer", first=True, recurring=False)
    kept = expect(Approved, await merchant.pay(total, stored_credential=first))
    assert kept.network_transaction_id
    again = StoredCredential(
        initiator="merchant",
        first=False,
        recurring=True,
        network_transaction_id=kept.network_transaction_id,
        original_amount_minor=total,
        reason="resubmission",
    )
    expect(Approved, await merchant.pay(total, stored_credential=again))


@plays("approved", "refused_54", "details_captured", "changed", *LISTS, "details_voided")
async def test_a_full_refund_before_settlement_is_done_and_found(merchant: Merchant) -> None:
    total = amount()
    sale = expect(Approved, await merchant.pay(total))
    request = merchant.refund(sale, total, captured_minor=total)
    outcome = expect(Approved, await merchant.refund_or_void(request))
    assert (outcome.voided, outcome.transaction_id) == (True, sale.transaction_id)
    assert (await merchant.find(Approved, request)).voided


@plays("approved", "refunded", "nothing", "listed_refund", "details_refund")
async def test_a_full_refund_after_settlement_is_done_and_found(merchant: Merchant) -> None:
    total = amount()
    sale = expect(Approved, await merchant.pay(total))
    await merchant.settle()
    request = merchant.refund(sale, total, captured_minor=total)
    outcome = expect(Approved, await merchant.refund_or_void(request))
    assert not outcome.voided
    assert outcome.transaction_id != sale.transaction_id
    assert not (await merchant.find(Approved, request)).voided


@plays("approved", "refused_54", "details_captured")
async def test_a_partial_refund_before_settlement_is_rejected(merchant: Merchant) -> None:
    total = amount()
    sale = expect(Approved, await merchant.pay(total))
    request = merchant.refund(sale, total - 1, captured_minor=total)
    outcome = expect(Rejected, await merchant.refund_or_void(request))
    assert (outcome.code, outcome.not_settled) == ("54", True)


@plays("approved", "changed", "voided_before")
async def test_a_second_void_counts_as_success(merchant: Merchant) -> None:
    held = expect(Approved, await merchant.pay(amount(), capture=False))
    for code in ("1", "310"):
        outcome = expect(Approved, await merchant.void(held))
        assert (outcome.code, outcome.transaction_id) == (code, held.transaction_id)


@plays("approved", "changed", "captured_before", "details_captured")
async def test_a_second_capture_of_the_same_amount_counts_as_success(merchant: Merchant) -> None:
    total = amount()
    held = expect(Approved, await merchant.pay(total, capture=False))
    for code in ("1", "311"):
        assert expect(Approved, await merchant.capture(held, total)).code == code


@plays("held", "details_held", "review_{}", "details_{}")
@pytest.mark.parametrize("approve", [True, False], ids=["approved", "ended"])
async def test_a_held_payment_can_be_decided(merchant: Merchant, approve: bool) -> None:
    await merchant.hold_above("20.00")
    held = expect(HeldForReview, await merchant.pay(25_00)).transaction_id
    finding = await merchant.ask("review", reference(new_id()), 25_00, held)
    expect_found(HeldForReview, finding)
    request = review(merchant.account, held, approve)
    expected = Approved if approve else Declined
    expect(expected, await merchant.processor.review(request, merchant.deadline()))
    expect_found(expected, await merchant.ask("review", request.reference, 25_00, held))
