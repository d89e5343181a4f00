"""What became of one operation: asks Authorize.Net's reporting, and judges by evidence alone.

A sale, an authorization and a refund are transactions of their own and are found by their
reference, which they carry as invoice number: among the unsettled, among those held for review,
then in every batch settled since the call left. A capture and a void change their parent, so the
parent is asked. Found means that the reporting names it and its amount agrees; absent means that
every list was read to its end without it; anything less is inconclusive, to be asked again.

Reporting may lag behind by some seconds, so one "absent" soon after the call proves little: when
to believe it is the caller's to decide.
"""

from collections.abc import Callable
from functools import partial
from time import time
from typing import Final, NamedTuple

from easypay.processors.authorize_net import codes, reporting, wire
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.reporting import PAGE_SIZE, Details, Page, Unreadable
from easypay.processors.base import (
    Absent,
    Approved,
    Deadline,
    Declined,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    InquiryRequest,
    NotSent,
    Rejected,
    Unknown,
)

CLOCK_MARGIN_MS: Final = 15 * 60 * 1000
"""How far apart their clock and ours may be, with room to spare."""

_DAY_MS: Final = 86_400_000
_SPAN_MS: Final = 30 * _DAY_MS
"""Authorize.Net lists batches of at most 31 days at once."""

_MAX_PAGES: Final = 100

SETTLED: Final = frozenset({"settledSuccessfully", "refundSettledSuccessfully"})
HELD: Final = frozenset({"FDSPendingReview", "FDSAuthorizedPendingReview"})
GONE: Final = frozenset({"voided", "expired"})
FAILED: Final = frozenset({"generalError", "communicationError"})
UNSETTLED: Final = (
    frozenset({"authorizedPendingCapture", "capturedPendingSettlement", "refundPendingSettlement"})
    | HELD
)
"""What a void can still undo."""

DONE: Final = {
    "authorize": frozenset(
        {"authorizedPendingCapture", "capturedPendingSettlement", "settledSuccessfully"}
    ),
    "sale": frozenset({"capturedPendingSettlement", "settledSuccessfully"}),
    "refund": frozenset({"refundPendingSettlement", "refundSettledSuccessfully"}),
    "capture": frozenset({"capturedPendingSettlement", "settledSuccessfully"}),
}
"""The statuses in which each kind of operation has been done."""

_OTHER_TYPES: Final = {
    "authorize": ("authCaptureTransaction", "refundTransaction"),
    "sale": ("authOnlyTransaction", "refundTransaction"),
    "refund": ("authOnlyTransaction", "authCaptureTransaction", "priorAuthCaptureTransaction"),
}


async def inquire(client: HttpClient, request: InquiryRequest, deadline: Deadline) -> Finding:
    """Looks for one operation. Raises ValueError for a kind there is not, and nothing for what
    the network or the processor does."""
    inquiry = _Inquiry(client, request, deadline)
    match request.kind:
        case "authorize" | "sale" | "refund":
            return await inquiry.search()
        case "capture" | "void":
            return await inquiry.ask_parent()
        case _:
            raise ValueError(f"{request.kind!r} is not a kind of operation")


class _Inquiry:
    """The questions of one inquiry, all under one deadline."""

    def __init__(self, client: HttpClient, request: InquiryRequest, deadline: Deadline) -> None:
        self.client = client
        self.request = request
        self.deadline = deadline

    async def ask(self, question: bytes) -> Reply | NotSent | Unknown:
        return await self.client.post(self.request.account.url, question, self.deadline)

    async def ask_parent(self) -> Finding:
        """A capture or a void has been done when its parent says so."""
        if self.request.transaction_id is None:
            return Inconclusive(reason="the operation names no parent to ask")
        details = await self.details(self.request.transaction_id)
        if isinstance(details, Unreadable):
            return Inconclusive(reason=f"details of the parent: {details.reason}")
        judge = judge_capture if self.request.kind == "capture" else judge_void
        return judge(self.request, details)

    async def search(self) -> Finding:
        """Every place it could be, in the order in which a transaction moves through them, so
        that one on its way cannot slip by."""
        account, reference = self.request.account, self.request.reference
        oldest_ms = self.request.sent_at_ms - CLOCK_MARGIN_MS
        places: list[Place] = [
            Place(
                "held for review",
                lambda page: reporting.unsettled_list(account, reference, page, "pendingApproval"),
                oldest_ms,
            ),
            Place(
                "unsettled",
                lambda page: reporting.unsettled_list(account, reference, page),
                oldest_ms,
            ),
        ]
        searched: list[str] = []
        for place in places:
            finding = await self.search_in(place)
            if not isinstance(finding, Absent):
                return finding
            searched.append(finding.searched)
        batch_ids = await self.batches()
        if isinstance(batch_ids, Inconclusive):
            return batch_ids
        searched.append(f"{len(batch_ids)} batches settled since the call")
        for batch_id in batch_ids:
            finding = await self.search_in(
                Place(
                    f"batch {batch_id}",
                    partial(reporting.batch_transactions, account, reference, batch_id),
                    None,
                )
            )
            if not isinstance(finding, Absent):
                return finding
            searched.append(finding.searched)
        return Absent(searched="; ".join(searched))

    async def search_in(self, place: "Place") -> Finding:
        """One list, read to its end."""
        matches = await self.scan(place)
        if isinstance(matches, Inconclusive):
            return matches
        if not matches:
            return Absent(searched=place.name)
        if len(matches) > 1:
            named = ", ".join(sorted(matches))
            return Inconclusive(reason=f"several transactions carry this reference: {named}")
        details = await self.details(matches.pop())
        if isinstance(details, Unreadable):
            return Inconclusive(reason=f"found ({place.name}), but details: {details.reason}")
        return judge_own(self.request, details)

    async def scan(self, place: "Place") -> set[str] | Inconclusive:
        """The transactions of a list that carry the reference."""
        matches: set[str] = set()
        lines, first_total = 0, 0
        for number in range(1, _MAX_PAGES + 1):
            page = reporting.read_page(
                await self.ask(place.question(number)), self.request.reference
            )
            if isinstance(page, Unreadable):
                return Inconclusive(reason=f"{place.name}: {page.reason}")
            matches.update(
                item.transaction_id
                for item in page.items
                if item.invoice_number == self.request.reference
            )
            lines += page.lines
            first_total = first_total or page.total or 0
            if page.total is not None and first_total > PAGE_SIZE and page.total < first_total:
                # What a batch takes away moves the rest forward, past the page we ask for next.
                return Inconclusive(reason=f"{place.name}: the list shrank while it was read")
            if page.lines < PAGE_SIZE:
                if page.total is not None and page.total > lines:
                    return Inconclusive(reason=f"{place.name}: the list is not whole")
                return matches
            if place.ends_before(page):
                return matches
        return Inconclusive(reason=f"{place.name}: more than {_MAX_PAGES} pages")

    async def batches(self) -> list[str] | Inconclusive:
        """Every batch settled since the call left. Without dates it is their clock that counts
        the last 24 hours, which ours need not agree with."""
        now_ms = int(time() * 1000)
        start_ms = self.request.sent_at_ms - CLOCK_MARGIN_MS
        spans: list[tuple[int, int] | None] = [None]
        while start_ms < now_ms - _DAY_MS + 2 * CLOCK_MARGIN_MS:
            end_ms = min(start_ms + _SPAN_MS, now_ms)
            spans.append((start_ms, end_ms))
            start_ms = end_ms
        batch_ids: dict[str, None] = {}
        for span_ms in spans:
            question = reporting.batch_list(self.request.account, self.request.reference, span_ms)
            found = reporting.read_batch_ids(await self.ask(question), self.request.reference)
            if isinstance(found, Unreadable):
                return Inconclusive(reason=f"settled batches: {found.reason}")
            batch_ids.update(dict.fromkeys(found))
        return list(batch_ids)

    async def details(self, transaction_id: str) -> Details | Unreadable:
        reference = self.request.reference
        question = reporting.transaction_details(self.request.account, reference, transaction_id)
        return reporting.read_details(await self.ask(question), reference, transaction_id)


class Place(NamedTuple):
    """A list to look in, page by page. `oldest_ms`: nothing submitted earlier can be ours."""

    name: str
    question: Callable[[int], bytes]
    oldest_ms: int | None

    def ends_before(self, page: Page) -> bool:
        """All that follows is too old, provided that the page is newest first as was asked."""
        if self.oldest_ms is None or page.first_ms is None or page.last_ms is None:
            return False
        return page.first_ms >= page.last_ms and page.last_ms < self.oldest_ms


# What the evidence proves: pure.


def judge_own(request: InquiryRequest, details: Details) -> Finding:
    """A sale, an authorization or a refund, by the transaction that carries its reference."""
    evidence = _evidence(details)
    if details.invoice_number not in (None, request.reference):
        return Inconclusive(reason=f"the details carry another invoice number: {evidence}")
    if details.type in _OTHER_TYPES[request.kind]:
        return Inconclusive(reason=f"not a transaction of this kind: {evidence}")
    if request.kind == "refund" and details.parent_id not in (None, request.transaction_id):
        return Inconclusive(reason=f"a refund of another transaction: {evidence}")
    if details.status in DONE[request.kind]:
        amount = details.auth_amount if request.kind == "authorize" else details.settle_amount
        return _approved_if_agreed(request, details, amount)
    if details.status in HELD:
        return Found(
            outcome=HeldForReview(
                transaction_id=details.transaction_id,
                auth_code=details.auth_code,
                avs_result=details.avs_result,
                cvv_result=details.cvv_result,
                code=details.reason_code,
                message=details.reason_text,
                card_brand=details.card_brand,
                card_last4=details.card_last4,
            ),
            evidence=evidence,
        )
    if details.status == "declined" or (
        details.status in FAILED
        and codes.verdict(details.response_code or "", details.reason_code) == "declined"
    ):
        return Found(
            outcome=Declined(
                decline_code=codes.decline_code(details.reason_code),
                code=details.reason_code or "declined",
                message=details.reason_text or "",
                transaction_id=details.transaction_id,
                avs_result=details.avs_result,
                cvv_result=details.cvv_result,
                card_brand=details.card_brand,
                card_last4=details.card_last4,
            ),
            evidence=evidence,
        )
    if details.status in GONE:
        return _rejected(details, "no money moves")
    if (
        details.status in FAILED
        and codes.verdict(details.response_code or "", details.reason_code) == "rejected"
    ):
        return Found(
            outcome=Rejected(
                code=details.reason_code or details.status,
                message=details.reason_text or "",
                decline_code=codes.decline_code(details.reason_code, "3"),
            ),
            evidence=evidence,
        )
    return Inconclusive(reason=f"this status settles nothing: {evidence}")


def judge_capture(request: InquiryRequest, details: Details) -> Finding:
    """A capture, by its authorization."""
    if details.status in DONE["capture"]:
        return _approved_if_agreed(request, details, details.settle_amount)
    if details.status == "authorizedPendingCapture":
        return Absent(searched=_evidence(details))
    if details.status in GONE or details.status == "declined":
        return _rejected(details, "it cannot be captured")
    return Inconclusive(reason=f"this status settles nothing: {_evidence(details)}")


def judge_void(request: InquiryRequest, details: Details) -> Finding:
    """A void, by the transaction it was to undo."""
    if details.status == "voided":
        return Found(
            outcome=Approved(transaction_id=details.transaction_id), evidence=_evidence(details)
        )
    if details.status in UNSETTLED:
        return Absent(searched=_evidence(details))
    if details.status in SETTLED or details.status in ("expired", "declined"):
        return _rejected(details, "it cannot be voided")
    return Inconclusive(reason=f"this status settles nothing: {_evidence(details)}")


def _approved_if_agreed(request: InquiryRequest, details: Details, amount: object) -> Finding:
    evidence = _evidence(details)
    amount_minor = wire.amount_minor(amount, request.currency)
    if amount_minor is not None and request.kind == "refund":
        amount_minor = abs(amount_minor)  # some reports show money that goes back as negative
    if amount_minor != request.amount_minor:
        return Inconclusive(reason=f"another amount than was asked: {evidence}")
    return Found(
        outcome=Approved(
            transaction_id=details.transaction_id,
            amount_minor=amount_minor,
            auth_code=details.auth_code,
            avs_result=details.avs_result,
            cvv_result=details.cvv_result,
            code=details.reason_code,
            message=details.reason_text,
            network_transaction_id=details.network_transaction_id,
            card_brand=details.card_brand,
            card_last4=details.card_last4,
        ),
        evidence=evidence,
    )


def _rejected(details: Details, consequence: str) -> Found:
    return Found(
        outcome=Rejected(
            code=details.status, message=f"The transaction is {details.status}: {consequence}."
        ),
        evidence=_evidence(details),
    )


def _evidence(details: Details) -> str:
    return (
        f"getTransactionDetails {details.transaction_id}: {details.status}, type {details.type}, "
        f"response {details.response_code}/{details.reason_code}, "
        f"authAmount {str(details.auth_amount)[:20]}, "
        f"settleAmount {str(details.settle_amount)[:20]}, invoice {details.invoice_number}"
    )
