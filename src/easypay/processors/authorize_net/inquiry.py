"""What became of one operation: asks Authorize.Net's reporting; `findings` judges.

A sale, an authorization and a refund are transactions of their own and are found by their
reference, which they carry as invoice number: among the unsettled, among those held for review,
then in every batch settled since the call left. A capture and a void change their parent, so the
parent is asked, and so is a transaction under review. Found means that the reporting names it and
its amount agrees; absent means that every list was read to its end without it; anything less is
inconclusive, to be asked again.

A refund that may have been made as a void (`captured_minor`) and is not found as a refund is done
when its payment is voided. That is safe to believe: while a refund of the whole is open nothing is
left for another refund, and no capture or void is begun, so nobody else's void can be taken for
this one; and were it voided by hand, at the processor, the whole would be back just the same.

Reporting may lag behind by some seconds, so one "absent" soon after the call proves little: when
to believe it is the caller's to decide.
"""

import functools
from collections.abc import Callable
from time import time
from typing import Final, NamedTuple

from easypay.processors.authorize_net import findings, messages, partial, replies, reporting
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.findings import ApprovedInPart
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.reporting import PAGE_SIZE, Details, Page, Unreadable
from easypay.processors.base import (
    Absent,
    Deadline,
    Finding,
    Found,
    Inconclusive,
    InquiryRequest,
    NotSent,
    Unknown,
    VoidRequest,
)

CLOCK_MARGIN_MS: Final = 15 * 60 * 1000
"""How far apart their clock and ours may be, with room to spare."""

_DAY_MS: Final = 86_400_000
_SPAN_MS: Final = 30 * _DAY_MS
"""Authorize.Net lists batches of at most 31 days at once."""

_MAX_PAGES: Final = 100


async def inquire(client: HttpClient, request: InquiryRequest, deadline: Deadline) -> Finding:
    """Looks for one operation. Raises ValueError for a kind there is not, and nothing for what
    the network or the processor does."""
    inquiry = _Inquiry(client, request, deadline)
    match request.kind:
        case "authorize" | "sale":
            return await inquiry.search()
        case "refund":
            return await inquiry.search_refund()
        case "capture" | "void" | "review":
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
        """A capture, a void or a review has been done when the transaction it changes says so."""
        details = await self.parent()
        if isinstance(details, Inconclusive):
            return details
        return findings.judge(self.request, details)

    async def search_refund(self) -> Finding:
        """A refund, or the void that was made in its place."""
        finding = await self.search()
        whole = self.request.captured_minor == self.request.amount_minor
        if not isinstance(finding, Absent) or not whole:
            return finding
        details = await self.parent()
        if isinstance(details, Inconclusive):
            return details
        return findings.judge_voided_payment(self.request, details, finding)

    async def parent(self) -> Details | Inconclusive:
        if self.request.transaction_id is None:
            return Inconclusive(reason="the operation names no parent to ask")
        details = await self.details(self.request.transaction_id)
        if isinstance(details, Unreadable):
            return Inconclusive(reason=f"details of the parent: {details.reason}")
        return details

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
                    functools.partial(reporting.batch_transactions, account, reference, batch_id),
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
        finding = findings.judge_own(self.request, details)
        if isinstance(finding, ApprovedInPart):
            return await self.give_back(finding)
        return finding

    async def give_back(self, part: ApprovedInPart) -> Finding:
        """Voids what was approved of a payment that wants the whole or nothing."""
        void = VoidRequest(
            account=self.request.account,
            reference=self.request.reference,
            transaction_id=part.approved.transaction_id,
        )
        voided = replies.outcome(
            await self.ask(messages.void(void)),
            void.reference,
            kind="void",
            parent=void.transaction_id,
        )
        outcome = partial.given_back(part.approved, voided, self.request.currency)
        if isinstance(outcome, Unknown):
            return Inconclusive(reason=outcome.reason)
        return Found(outcome=outcome, evidence=f"{part.evidence}; voided")

    async def scan(self, place: "Place") -> set[str] | Inconclusive:
        """The transactions of a list that carry the reference."""
        matches: set[str] = set()
        lines, first_total = 0, 0
        for number in range(1, _MAX_PAGES + 1):
            page = reporting.read_page(
                await self.ask(place.question(number)), self.request.reference
            )
            if isinstance(page, Unreadable):
                if page.code == reporting.NO_SUCH_PAGE and number > 1 and lines >= first_total:
                    return matches  # the page before was full, and the last
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
