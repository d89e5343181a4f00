"""Inquiries after a lost reply. The simulator's truth table is the judge; a server that plays odd
reports, which the simulator never gives, shows what the connector must not believe."""

from collections.abc import Callable
from functools import partial
from time import time
from typing import Any

import msgspec
import pytest

from easypay.ids import new_id, reference
from easypay.processors.authorize_net import account_lists
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Absent,
    Account,
    Approved,
    Card,
    Declined,
    Finding,
    HeldForReview,
    Inconclusive,
    Outcome,
    Rejected,
    Unknown,
)
from harness import Simulator

from .example_requests import capture, inquiry, login_of, payment, refund, soon, void
from .outcomes import expect, expect_found, shown_by
from .reports import NONE, OK, line, reporting

CARD = Card(number="4111111111111111", exp_month=12, exp_year=2035, cvc="900")


class Shop:
    """Every kind of operation on one account, each with a new reference."""

    def __init__(self, processor: AuthorizeNet, account: Account, wire: Simulator) -> None:
        self.processor = processor
        self.account = account
        self.wire = wire

    async def pay(self, kind: str, name: str, amount_minor: int = 25_00) -> Outcome:
        request = payment(
            self.account,
            reference=name,
            amount_minor=amount_minor,
            capture=kind == "sale",
            method=CARD,
        )
        return await self.processor.authorize(request, soon())

    async def paid(self, kind: str, amount_minor: int = 25_00) -> str:
        outcome = expect(Approved, await self.pay(kind, reference(new_id()), amount_minor))
        return outcome.transaction_id

    async def settled_sale(self) -> str:
        parent = await self.paid("sale")
        await self.wire.post("/settle")
        return parent

    async def follow_up(self, kind: str, name: str, parent: str, amount: int = 25_00) -> Outcome:
        if kind == "void":
            return await self.processor.void(void(self.account, parent, reference=name), soon())
        over = {"reference": name, "amount_minor": amount}
        if kind == "capture":
            return await self.processor.capture(capture(self.account, parent, **over), soon())
        return await self.processor.refund(refund(self.account, parent, **over), soon())

    async def ask(
        self,
        kind: str,
        name: str,
        parent: str | None = None,
        amount_minor: int = 25_00,
        ago_s: float = 0,
    ) -> Finding:
        request = inquiry(
            self.account,
            kind,
            name,
            amount_minor=amount_minor,
            transaction_id=parent,
            sent_at_ms=int((time() - ago_s) * 1000),
        )
        return await self.processor.inquire(request, soon())


@pytest.fixture
def till(processor: AuthorizeNet, account: Account, wire: Simulator) -> Shop:
    return Shop(processor, account, wire)


def approved(finding: Finding) -> Approved:
    return expect_found(Approved, finding)


DONE_BUT_NOT_TOLD = ["drop_reply", "error_after", "truncate", "garbage"]
NOT_DONE = ["reset_before", "error_before", "busy"]


@pytest.mark.parametrize("fault", DONE_BUT_NOT_TOLD)
@pytest.mark.parametrize("kind", ["sale", "authorize"])
async def test_a_payment_whose_reply_is_lost_is_found_and_was_taken_once(
    till: Shop, fault: str, kind: str
) -> None:
    await till.wire.fault(fault, login_of(till.account))
    name = reference(new_id())
    assert isinstance(await till.pay(kind, name), Unknown)
    rows = await till.wire.truth(login=login_of(till.account))
    assert [(row["invoice_number"], row["amount"]) for row in rows] == [(name, "25.00")]
    outcome = approved(await till.ask(kind, name))
    assert outcome.transaction_id == rows[0]["trans_id"]
    assert outcome.amount_minor == 25_00
    assert (outcome.card_brand, outcome.card_last4) == ("visa", "1111")
    assert outcome.auth_code is not None


@pytest.mark.parametrize("fault", NOT_DONE)
@pytest.mark.parametrize("kind", ["sale", "authorize"])
async def test_a_payment_that_never_happened_is_absent(till: Shop, fault: str, kind: str) -> None:
    await till.wire.fault(fault, login_of(till.account))
    name = reference(new_id())
    assert isinstance(await till.pay(kind, name), Unknown)
    assert await till.wire.truth(login=login_of(till.account)) == []
    finding = expect(Absent, await till.ask(kind, name))
    assert "unsettled" in finding.searched


@pytest.mark.parametrize("fault", DONE_BUT_NOT_TOLD)
@pytest.mark.parametrize("kind", ["capture", "void", "refund"])
async def test_a_follow_up_whose_reply_is_lost_is_found(till: Shop, fault: str, kind: str) -> None:
    parent = await till.settled_sale() if kind == "refund" else await till.paid("authorize")
    name = reference(new_id())
    await till.wire.fault(fault, login_of(till.account))
    assert isinstance(await till.follow_up(kind, name, parent, 10_00), Unknown)
    outcome = approved(await till.ask(kind, name, parent, 10_00))
    assert (outcome.transaction_id == parent) == (kind != "refund")
    assert outcome.amount_minor == (None if kind == "void" else 10_00)
    assert len(await till.wire.truth(login=login_of(till.account))) == 2


@pytest.mark.parametrize("fault", NOT_DONE)
@pytest.mark.parametrize("kind", ["capture", "void", "refund"])
async def test_a_follow_up_that_never_happened_is_absent(till: Shop, fault: str, kind: str) -> None:
    parent = await till.settled_sale() if kind == "refund" else await till.paid("authorize")
    name = reference(new_id())
    await till.wire.fault(fault, login_of(till.account))
    assert isinstance(await till.follow_up(kind, name, parent), Unknown)
    assert isinstance(await till.ask(kind, name, parent), Absent)


async def test_a_sale_that_settled_meanwhile_is_found_in_its_batch(till: Shop) -> None:
    await till.paid("sale")
    await till.wire.fault("drop_reply", login_of(till.account))
    name = reference(new_id())
    assert isinstance(await till.pay("sale", name), Unknown)
    await till.wire.post("/settle")
    assert approved(await till.ask("sale", name)).amount_minor == 25_00
    # For an older call, batches are listed by date, in spans the processor allows.
    assert approved(await till.ask("sale", name, ago_s=75 * 86_400)).amount_minor == 25_00


async def test_a_refund_that_settled_meanwhile_is_found_in_its_batch(till: Shop) -> None:
    parent = await till.settled_sale()
    await till.wire.fault("drop_reply", login_of(till.account))
    name = reference(new_id())
    assert isinstance(await till.follow_up("refund", name, parent, 5_00), Unknown)
    await till.wire.post("/settle")
    assert approved(await till.ask("refund", name, parent, 5_00)).amount_minor == 5_00


async def test_a_payment_held_for_review_is_found_held(till: Shop) -> None:
    login = login_of(till.account)
    await till.wire.post("/settings", login=login, held_above="20.00")
    name = reference(new_id())
    outcome = expect(HeldForReview, await till.pay("sale", name))
    seen = expect_found(HeldForReview, await till.ask("sale", name))
    assert seen.transaction_id == outcome.transaction_id


async def test_a_capture_of_a_voided_payment_is_found_rejected(till: Shop) -> None:
    parent = await till.paid("authorize")
    await till.follow_up("void", reference(new_id()), parent)
    seen = expect_found(Rejected, await till.ask("capture", reference(new_id()), parent))
    assert seen.code == "voided"


async def test_a_void_of_a_settled_payment_is_found_rejected(till: Shop) -> None:
    parent = await till.settled_sale()
    outcome = expect(Rejected, await till.follow_up("void", reference(new_id()), parent))
    assert outcome.decline_code == "not_voidable"
    expect_found(Rejected, await till.ask("void", reference(new_id()), parent))


@pytest.mark.parametrize(("kind", "code"), [("void", "310"), ("capture", "311")])
async def test_an_operation_done_before_counts_as_done_and_is_not_repeated(
    till: Shop, kind: str, code: str
) -> None:
    parent = await till.paid("authorize")
    assert isinstance(await till.follow_up(kind, reference(new_id()), parent), Approved)
    again = expect(Approved, await till.follow_up(kind, reference(new_id()), parent))
    assert (again.transaction_id, again.code) == (parent, code)
    assert again.amount_minor == (25_00 if kind == "capture" else None)
    rows = await till.wire.truth(login=login_of(till.account))
    assert [row["type"] for row in rows].count(rows[-1]["type"]) == 1


async def test_a_capture_done_before_for_another_amount_is_unknown(till: Shop) -> None:
    parent = await till.paid("authorize")
    assert isinstance(await till.follow_up("capture", reference(new_id()), parent, 9_00), Approved)
    again = expect(Unknown, await till.follow_up("capture", reference(new_id()), parent, 10_00))
    assert again.code == "311"


async def test_a_capture_of_another_amount_is_not_ours(till: Shop) -> None:
    parent = await till.paid("authorize")
    await till.follow_up("capture", reference(new_id()), parent, 10_00)
    finding = expect(Absent, await till.ask("capture", reference(new_id()), parent, 20_00))
    assert "captured for another amount" in finding.searched


async def test_a_repeat_is_refused_as_a_duplicate_and_finds_the_original(till: Shop) -> None:
    name = reference(new_id())
    first = expect(Approved, await till.pay("sale", name))
    again = expect(Unknown, await till.pay("sale", name))
    assert again.reason.startswith("duplicate")
    assert approved(await till.ask("sale", name)).transaction_id == first.transaction_id
    assert len(await till.wire.truth(login=login_of(till.account))) == 1


async def test_an_inquiry_that_cannot_be_made_is_inconclusive(till: Shop) -> None:
    name = reference(new_id())
    wrong = msgspec.structs.replace(
        till.account, credentials={**till.account.credentials, "transaction_key": "wrong"}
    )
    nowhere = msgspec.structs.replace(till.account, url="http://127.0.0.1:1/")
    for kind, parent in (("sale", None), ("capture", "60001"), ("void", "60001"), ("void", None)):
        for till.account in (wrong, nowhere):
            assert isinstance(await till.ask(kind, name, parent), Inconclusive)


@pytest.mark.parametrize("fault", [*DONE_BUT_NOT_TOLD, *NOT_DONE])
async def test_a_lookup_that_fails_is_inconclusive_and_never_absent(till: Shop, fault: str) -> None:
    name = reference(new_id())
    await till.pay("sale", name)
    for method in ("getUnsettledTransactionListRequest", "getTransactionDetailsRequest"):
        await till.wire.fault(fault, login_of(till.account), method=method)
        assert isinstance(await till.ask("sale", name), Inconclusive)
    await till.wire.fault(fault, login_of(till.account), method="getSettledBatchListRequest")
    assert isinstance(await till.ask("sale", reference(new_id())), Inconclusive)
    assert approved(await till.ask("sale", name)).amount_minor == 25_00


# Reports that the simulator never gives.

NAME = "01J8Z0000000000000AB"
AUTH_ONLY = {"transactionType": "authOnlyTransaction"}
REFUND = {"transactionType": "refundTransaction"}


def report(status: str, **fields: object) -> dict[str, Any]:
    found = {
        "transId": "60001",
        "transactionType": "authCaptureTransaction",
        "transactionStatus": status,
        "responseCode": 1,
        "responseReasonCode": 1,
        "order": {"invoiceNumber": NAME},
        "authAmount": 25.00,
        "settleAmount": 25.00,
    }
    return {"transaction": {**found, **fields}, "messages": OK}


async def find(
    processor: AuthorizeNet,
    unsettled: Callable[[int], object],
    details: object = None,
    kind: str = "sale",
    parent: str | None = None,
) -> Finding:
    def answer(method: str, fields: dict[str, Any]) -> object:
        if method == "getTransactionDetailsRequest":
            return details
        if method == "getUnsettledTransactionListRequest" and "status" not in fields:
            return unsettled(fields["paging"]["offset"])
        return {"messages": NONE}

    async with reporting(answer) as account:
        question = inquiry(account, kind, NAME, transaction_id=parent)
        return await processor.inquire(question, soon())


def ours(page: int) -> object:
    return {"transactions": [line(60_001, NAME)], "totalNumInResultSet": 1, "messages": OK}


@pytest.mark.parametrize(
    ("kind", "details", "expected"),
    [
        ("sale", report("capturedPendingSettlement"), Approved),
        ("sale", report("settledSuccessfully"), Approved),
        ("sale", report("settledSuccessfully", settleAmount="25.00"), Approved),
        ("sale", report("authorizedPendingCapture"), Inconclusive),
        ("sale", report("capturedPendingSettlement", settleAmount=24.99), Inconclusive),
        ("sale", report("capturedPendingSettlement", settleAmount=None), Inconclusive),
        ("sale", report("capturedPendingSettlement", settleAmount=1e99), Inconclusive),
        ("sale", report("capturedPendingSettlement", order={"invoiceNumber": "x"}), Inconclusive),
        ("sale", report("capturedPendingSettlement", transId="60002"), Inconclusive),
        ("sale", report("capturedPendingSettlement", **REFUND), Inconclusive),
        ("sale", report("FDSPendingReview"), HeldForReview),
        ("sale", report("FDSAuthorizedPendingReview"), HeldForReview),
        ("sale", report("declined", responseCode=2, responseReasonCode=317), Declined),
        ("sale", report("voided"), Rejected),
        ("sale", report("expired"), Rejected),
        ("sale", report("generalError", responseCode=3, responseReasonCode=6), Rejected),
        ("sale", report("generalError", responseCode=3, responseReasonCode=19), Inconclusive),
        ("sale", report("communicationError", responseCode=2, responseReasonCode=2), Declined),
        ("sale", report("communicationError"), Inconclusive),
        ("sale", report("updatingSettlement"), Inconclusive),
        ("sale", report("settlementError"), Inconclusive),
        ("sale", report("somethingNew"), Inconclusive),
        ("sale", {"messages": OK}, Inconclusive),
        ("sale", [], Inconclusive),
        ("sale", None, Inconclusive),
        ("authorize", report("authorizedPendingCapture", **AUTH_ONLY), Approved),
        ("authorize", report("capturedPendingSettlement", **AUTH_ONLY), Approved),
        ("authorize", report("authorizedPendingCapture"), Inconclusive),
        ("refund", report("refundPendingSettlement", **REFUND, settleAmount=-25), Approved),
        ("refund", report("refundPendingSettlement", **REFUND, refTransId="7"), Inconclusive),
        ("refund", report("settledSuccessfully"), Inconclusive),
        # The parent's status decides the finding of a capture or void.
        ("capture", report("capturedPendingSettlement"), Approved),
        ("capture", report("settledSuccessfully"), Approved),
        ("capture", report("authorizedPendingCapture"), Absent),
        ("capture", report("voided"), Rejected),
        ("capture", report("expired"), Rejected),
        ("capture", report("FDSAuthorizedPendingReview"), Inconclusive),
        ("capture", report("settlementError"), Inconclusive),
        ("void", report("voided"), Approved),
        ("void", report("authorizedPendingCapture"), Absent),
        ("void", report("capturedPendingSettlement"), Absent),
        ("void", report("refundPendingSettlement"), Absent),
        ("void", report("FDSPendingReview"), Absent),
        ("void", report("settledSuccessfully"), Rejected),
        ("void", report("expired"), Rejected),
        ("void", report("updatingSettlement"), Inconclusive),
        ("void", report("couldNotVoid"), Inconclusive),
    ],
)
async def test_a_finding_needs_proof_in_the_details(
    processor: AuthorizeNet, kind: str, details: object, expected: type
) -> None:
    parent = {"refund": "60000", "capture": "60001", "void": "60001"}.get(kind)
    expect(expected, shown_by(await find(processor, ours, details, kind, parent)))


def crowd(page: int, pages: int, total: int | None = None, **last: Any) -> object:
    """Return full pages of others' transactions; the last page ends with ours."""
    lines = [line(page * 1000 + number, **last) for number in range(1000)]
    if page == pages:
        lines = [*lines[:10], line(60_001, NAME)]
    return {
        "transactions": lines,
        "totalNumInResultSet": total or len(lines),
        "messages": OK,
    }


async def test_a_transaction_on_a_later_page_is_found(processor: AuthorizeNet) -> None:
    for total in (None, 2011):  # the total may count the page or the whole list
        pages = partial(crowd, pages=3, total=total)
        finding = await find(processor, pages, report("settledSuccessfully"))
        assert approved(finding).transaction_id == "60001"


async def test_reading_stops_at_transactions_that_are_too_old(processor: AuthorizeNet) -> None:
    pages: list[int] = []

    def old(page: int) -> object:
        pages.append(page)
        return crowd(page, 3, at="2020-01-01T00:00:00Z")

    assert isinstance(await find(processor, old), Absent)
    assert pages == [1]


async def test_a_list_that_is_not_newest_first_is_read_to_its_end(processor: AuthorizeNet) -> None:
    def oldest_first(page: int) -> object:
        answer: Any = crowd(page, 2)
        if page == 1:
            answer["transactions"][0]["submitTimeUTC"] = "2019-01-01T00:00:00Z"
            answer["transactions"][-1]["submitTimeUTC"] = "2020-01-01T00:00:00Z"
        return answer

    finding = await find(processor, oldest_first, report("settledSuccessfully"))
    assert approved(finding).transaction_id == "60001"


def behind_the_last(page: int, pages: int, total: int | None = None) -> object:
    """Return full pages of others' transactions, and no page after them."""
    if page <= pages:
        return crowd(page, pages=9, total=total)
    message = {"code": "E00094", "text": "Paging Offset exceeds the maximum allowed value."}
    return {"messages": {"resultCode": "Error", "message": [message]}}


async def test_a_full_page_may_be_the_last(processor: AuthorizeNet) -> None:
    for total in (None, 2000):  # the total may count the page or the whole list
        pages = partial(behind_the_last, pages=2, total=total)
        assert isinstance(await find(processor, pages), Absent)


@pytest.mark.parametrize(
    "unsettled",
    [
        lambda page: behind_the_last(page, 0),
        lambda page: behind_the_last(page, 1, total=2500),
        lambda page: {"messages": OK},
        lambda page: {"transactions": {}, "messages": OK},
        lambda page: {"transactions": [None], "messages": OK},
        lambda page: {"transactions": [{"invoiceNumber": "x"}], "messages": OK},
        lambda page: {"transactions": [line(1)], "totalNumInResultSet": 2, "messages": OK},
        lambda page: {"transactions": [line(1)], "refId": "another", "messages": OK},
        lambda page: {"transactions": [line(1)]},
        lambda page: {"transactions": [line(1)], "messages": {"resultCode": "Error"}},
        lambda page: crowd(page, 9, total=2500 - 100 * page),
        lambda page: crowd(page, 99_999),
    ],
    ids=[
        "no first page",
        "fewer pages than there were",
        "no list",
        "no list but an object",
        "nothing for a line",
        "a line without an id",
        "half a list",
        "of another",
        "no verdict",
        "an error",
        "shrinking",
        "endless",
    ],
)
async def test_half_a_list_proves_no_absence(
    processor: AuthorizeNet, unsettled: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_lists, "MAX_PAGES", 20)
    expect(Inconclusive, await find(processor, unsettled, report("settledSuccessfully")))


async def test_two_transactions_with_one_reference_prove_neither(processor: AuthorizeNet) -> None:
    def both(page: int) -> object:
        return {"transactions": [line(60_001, NAME), line(60_002, NAME)], "messages": OK}

    finding = expect(Inconclusive, await find(processor, both, report("settledSuccessfully")))
    assert "60001, 60002" in finding.reason


async def test_a_reference_cut_or_in_another_case_is_not_ours(processor: AuthorizeNet) -> None:
    def near(page: int) -> object:
        names = (NAME.lower(), NAME[:-1], f" {NAME}", "", NAME + "X")
        return {
            "transactions": [line(number, name) for number, name in enumerate(names, 1)],
            "messages": OK,
        }

    assert isinstance(await find(processor, near, report("settledSuccessfully")), Absent)
