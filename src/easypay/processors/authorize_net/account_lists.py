"""A pass: read each list of an account once, for all operations that are open on it.

A sale, an authorization or a refund carries its reference as invoice number. The lists are read in
the order in which a transaction moves through them: held for review, unsettled, the list of
batches, the batches. Each is started after the previous one ended, so a transaction that settles
meanwhile is met later in the pass. (A list of batches read before the unsettled list would hide
it.)

- Found: a list names it and its details agree. They are requested while reading continues.
- Absent: every list was read to its end without it. The caller decides when to believe that.
- Inconclusive: anything less. A list that was not read completely proves nothing absent; what was
  met before is still found.

A list is read newest first, back to the oldest wanted call. A batch is read only for calls that
could be in it and that no earlier pass has looked for there (`searched`).

Which batches may be remembered depends on their state. `settledSuccessfully` is closed.
`settlementError` holds what failed to settle and may be submitted again, so every pass reads it.
`pendingSettlement`, or an unreadable state, may still take in transactions that have left the
unsettled list: it is read, but no call that could be in it is absent.

A full refund (`captured_minor`) that is not found as a refund is done if its payment is voided.
That is safe: while a full refund is open, nothing is left for another refund, and no capture or
void is begun, so no other void of ours can be mistaken for it. If somebody voided the payment by
hand at the processor, the full amount was returned all the same.
"""

import asyncio
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from functools import partial
from sys import maxsize
from time import monotonic, time
from typing import Final, Literal, NamedTuple

from easypay.processors.authorize_net import reporting
from easypay.processors.authorize_net.http_client import LEAST_TIME_S, HttpClient
from easypay.processors.authorize_net.reporting import PAGE_SIZE, Batch, Page, Unreadable
from easypay.processors.authorize_net.transaction_inquiry import Transactions
from easypay.processors.base import (
    Absent,
    Account,
    Deadline,
    Finding,
    Found,
    Inconclusive,
    InquiryRequest,
    OnFound,
    Passed,
    PassRequest,
)

CLOCK_MARGIN_MS: Final = 15 * 60 * 1000
"""How far their clock and ours may differ, with a margin."""

MAX_PAGES: Final = 20_000
"""Of one list: twenty million transactions. A longer list is not read correctly."""

DETAILS_AT_ONCE: Final = 16
MAX_LISTED: Final = 200

_HOUR_MS: Final = 3_600_000
_SPAN_MS: Final = 30 * 24 * _HOUR_MS
"""Authorize.Net lists the batches of at most 31 days per request."""
_RECENT_MS: Final = 6 * _HOUR_MS
"""Calls younger than this are surely within "the last 24 hours", by either clock."""

_NOT_SETTLED: Final[tuple[tuple[str, Literal["pendingApproval"] | None], ...]] = (
    ("held for review", "pendingApproval"),
    ("unsettled", None),
)
_KINDS: Final = frozenset({"authorize", "sale", "refund"})

# Our reference: 100 bits of a UUIDv7 in Crockford's base 32. Version and variant distinguish it
# from another program's number of 20 digits, which would sort as newer than all of ours.
_REFERENCE: Final = re.compile(
    r"[0-9A-HJKMNP-TV-Z]{9}[159DHNSX][R-TV-Z][0-9A-HJKMNP-TV-Z]"
    r"[13579BDFHKNQSVXZ][0-9A-F][0-9A-HJKMNP-TV-Z]{6}"
)


async def look(
    client: HttpClient,
    request: PassRequest,
    deadline: Deadline,
    *,
    on_found: OnFound | None = None,
) -> Passed:
    """Find all wanted operations. `on_found` is awaited with each reference and its `Found` as soon
    as it is known; an exception from it ends the pass and is raised here.

    Raises ValueError for a kind that is in no list or a repeated reference, and nothing for what
    the network or the processor does.
    """
    _check(request)
    if not request.wanted:
        return Passed(findings={}, listed=[], batches=frozenset(), pages=0)
    try:
        async with asyncio.TaskGroup() as group:
            run = _Pass(client, request, deadline, group, on_found)
            await run.read()
    except ExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return run.passed()


async def closed_batches(
    client: HttpClient, account: Account, since_ms: int, now_ms: int, deadline: Deadline
) -> frozenset[str] | None:
    """Return the ids of the batches closed since a call at `since_ms` (Unix milliseconds); None if
    they cannot be read."""
    transactions = Transactions(client, account, deadline)
    batches = await _batches(transactions, "batches", since_ms - CLOCK_MARGIN_MS, now_ms)
    if isinstance(batches, Unreadable):
        return None
    return frozenset(batch.batch_id for batch in batches if batch.closed)


async def _batches(
    transactions: Transactions, reference: str, start_ms: int, now_ms: int
) -> list[Batch] | Unreadable:
    """Return each batch settled since a time, newest first. The request without dates covers the
    last 24 hours by their clock, which may differ from ours."""
    spans: list[tuple[int, int] | None] = [None]
    while start_ms < now_ms - _RECENT_MS:
        end_ms = min(start_ms + _SPAN_MS, now_ms)
        spans.append((start_ms, end_ms))
        start_ms = end_ms
    found: dict[str, Batch] = {}
    for span_ms in spans:
        question = reporting.batch_list(transactions.account, reference, span_ms)
        batches = reporting.read_batches(await transactions.ask(question), reference)
        if isinstance(batches, Unreadable):
            return Unreadable(f"settled batches: {batches.reason}")
        found.update((batch.batch_id, batch) for batch in batches)
    return sorted(found.values(), key=_settled_ms, reverse=True)


def _check(request: PassRequest) -> None:
    if strange := {one.kind for one in request.wanted} - _KINDS:
        raise ValueError(f"{sorted(strange)} are in no list")
    if len({one.reference for one in request.wanted}) < len(request.wanted):
        raise ValueError("a reference is wanted twice")


class Place(NamedTuple):
    """A list to read page by page. `oldest_ms`: no older transaction is wanted."""

    name: str
    question: Callable[..., bytes]
    oldest_ms: int

    def ends_before(self, page: Page) -> bool:
        """Whether all later pages are too old; only if the page is newest first, as requested."""
        if page.first_ms is None or page.last_ms is None:
            return False
        return page.first_ms >= page.last_ms and page.last_ms < self.oldest_ms


class Whole(NamedTuple):
    """A list that was read as far back as needed."""

    pages: int
    lines: int


class Match(NamedTuple):
    """A transaction that carries a reference, and the list that names it."""

    transaction_id: str
    where: str


class _Pass:
    """The state of one pass: what was met, where, and what it proves."""

    def __init__(
        self,
        client: HttpClient,
        request: PassRequest,
        deadline: Deadline,
        group: asyncio.TaskGroup,
        on_found: OnFound | None,
    ) -> None:
        self.transactions = Transactions(client, request.account, deadline)
        self.account = request.account
        self.now_ms = int(time() * 1000) if request.now_ms is None else request.now_ms
        self.oldest_first = sorted(request.wanted, key=_earliest_ms)
        self.wanted = {one.reference: one for one in self.oldest_first}
        self.searched = request.searched
        self.reference = self.oldest_first[0].reference
        self.oldest_ms = _earliest_ms(self.oldest_first[0])
        self.deadline = deadline
        self.group = group
        self.on_found = on_found
        self.met: dict[str, str] = {}
        """Reference -> the transaction that carries it."""
        self.repeated: dict[str, set[str]] = {}
        """Reference -> its transactions, if several carry it."""
        self.questions: deque[tuple[InquiryRequest, Match | Absent]] = deque()
        self.workers = 0
        self.findings: dict[str, Finding] = {}
        self.listed: set[str] = set()
        self.oldest_listed = ""
        self.batches_read: set[str] = set()
        self.pages = 0

    async def read(self) -> None:
        """Read one list after another until nothing is open. Tasks of the group request the details
        of what the lists name; they may still run when this returns."""
        read: list[str] = []
        for name, status in _NOT_SETTLED:
            question = partial(
                reporting.unsettled_list, self.account, self.reference, status=status
            )
            whole = await self.read_list(Place(name, question, self.oldest_ms))
            if isinstance(whole, Unreadable):
                return self.give_up(whole)
            read.append(name if whole.pages == 1 else f"{name} ({whole.pages} pages)")
            if self.all_met():
                return None
        batches = await _batches(self.transactions, self.reference, self.oldest_ms, self.now_ms)
        if isinstance(batches, Unreadable):
            return self.give_up(batches)
        for batch in batches:
            failure = await self.read_batch(batch)
            if failure is not None:
                return self.give_up(failure)
            if self.all_met():
                return None
        return await self.end(", ".join(read), batches)

    async def read_list(self, place: Place) -> Whole | Unreadable:
        """Read a list back to the oldest wanted call, or return why it proves nothing."""
        lines = total = 0
        for number in range(1, MAX_PAGES + 1):
            page = reporting.read_page(
                await self.transactions.ask(place.question(page=number)), self.reference
            )
            if isinstance(page, Unreadable):
                if page.code == reporting.NO_SUCH_PAGE and number > 1 and lines >= total:
                    return Whole(number - 1, lines)  # the previous page was full, and the last
                return Unreadable(f"{place.name}: {page.reason}")
            self.pages += 1
            self.note_page(page, place.name)
            lines += page.lines
            if page.total is not None and total > PAGE_SIZE and page.total < total:
                # Transactions that move into a batch shift the rest past the next page. Compare
                # with the largest total so far: a list may grow first, and shrink then.
                return Unreadable(f"{place.name}: the list shrank while it was read")
            total = max(total, page.total or 0)
            if page.lines < PAGE_SIZE:
                if page.total is not None and page.total > lines:
                    return Unreadable(f"{place.name}: the list is not whole")
                return Whole(number, lines)
            if place.ends_before(page):
                return Whole(number, lines)
        return Unreadable(f"{place.name}: more than {MAX_PAGES} pages")

    async def read_batch(self, batch: Batch) -> Unreadable | None:
        """Read a batch for the calls that could be in it, unless earlier passes read it for all."""
        oldest_ms, skipped = self.oldest_to_look_for(batch)
        if oldest_ms is None:
            if skipped:
                self.batches_read.add(batch.batch_id)
            await asyncio.sleep(0)  # many skipped batches must not block the event loop
            return None
        name = f"batch {batch.batch_id}"
        question = partial(
            reporting.batch_transactions, self.account, self.reference, batch.batch_id
        )
        whole = await self.read_list(Place(name, question, oldest_ms))
        if isinstance(whole, Unreadable):
            return whole
        # An empty batch is one whose transactions are not reported yet.
        if batch.closed and whole.lines:
            self.batches_read.add(batch.batch_id)
        return None

    def oldest_to_look_for(self, batch: Batch) -> tuple[int | None, bool]:
        """Return how far back to read the batch, or None to skip it; and whether an earlier pass
        read it for a call that could be in it."""
        settled_ms, skipped = _settled_ms(batch), False
        for one in self.oldest_first:
            if _earliest_ms(one) > settled_ms:
                break
            if one.reference in self.met:
                continue
            if not batch.closed or batch.batch_id not in self.searched.get(one.reference, ()):
                return _earliest_ms(one), skipped
            skipped = True
        return None, skipped

    def open(self) -> list[InquiryRequest]:
        """Return the operations that no list has named so far."""
        return [one for name, one in self.wanted.items() if name not in self.met]

    def all_met(self) -> bool:
        return len(self.met) == len(self.wanted)

    def note_page(self, page: Page, where: str) -> None:
        """Note what a page names, and request the details of what is wanted."""
        fresh: list[str] = []
        for transaction_id, name in page.items:
            if name is None:
                continue
            if name not in self.wanted:
                if name > self.oldest_listed and _REFERENCE.fullmatch(name):
                    self.listed.add(name)
            elif (known := self.met.get(name)) is None:
                self.met[name] = transaction_id
                fresh.append(name)
            elif known != transaction_id:
                self.repeated.setdefault(name, {known}).add(transaction_id)
        if len(self.listed) > 2 * MAX_LISTED:
            newest = self.newest_listed()
            self.listed, self.oldest_listed = set(newest), newest[-1]
        for name in fresh:
            if name not in self.repeated:
                self.enqueue(self.wanted[name], Match(self.met[name], where))

    def newest_listed(self) -> list[str]:
        """Return the newest references: they sort by when their operations began."""
        return sorted(self.listed, reverse=True)[:MAX_LISTED]

    # Details, requested while the lists are read.

    def enqueue(self, one: InquiryRequest, known: Match | Absent) -> None:
        self.questions.append((one, known))
        if self.workers < DETAILS_AT_ONCE:
            self.workers += 1
            self.group.create_task(self.work())

    async def work(self) -> None:
        while self.questions:
            one, known = self.questions.popleft()
            if self.deadline.left(monotonic()) < LEAST_TIME_S:
                self.findings[one.reference] = _NO_TIME
                continue
            if isinstance(known, Absent):
                finding = await self.transactions.voided_instead(one, known)
            else:
                finding = await self.transactions.own(one, known.transaction_id, known.where)
            self.findings[one.reference] = finding
            if (
                self.on_found is not None
                and isinstance(finding, Found)
                and one.reference not in self.repeated
            ):
                await self.on_found(one.reference, finding)
        self.workers -= 1

    # The end of a pass.

    def give_up(self, failure: Unreadable) -> None:
        nothing_proven = Inconclusive(reason=failure.reason)
        self.findings.update((one.reference, nothing_proven) for one in self.open())

    async def end(self, read: str, batches: list[Batch]) -> None:
        """Every list was read to its end: what is still open is absent."""
        times_ms = sorted(map(_settled_ms, batches))
        settling = max((one for one in batches if one.settling), key=_settled_ms, default=None)
        absences: dict[int, Absent] = {}
        for number, one in enumerate(self.open()):
            if number % PAGE_SIZE == 0:
                await asyncio.sleep(0)
            if settling is not None and _earliest_ms(one) <= _settled_ms(settling):
                why = f"batch {settling.batch_id} is not closed: {settling.state}"
                self.findings[one.reference] = Inconclusive(reason=why)
                continue
            since = len(times_ms) - bisect_left(times_ms, _earliest_ms(one))
            absent = absences.get(since)
            if absent is None:
                batches_word = "batch" if since == 1 else "batches"
                text = f"{read}, {since} {batches_word} settled since the call"
                absent = absences[since] = Absent(searched=text)
            if one.kind == "refund" and one.captured_minor == one.amount_minor:
                self.enqueue(one, absent)
            else:
                self.findings[one.reference] = absent

    def passed(self) -> Passed:
        """Return the result, once every task of the group has ended."""
        for name, transaction_ids in self.repeated.items():
            named = ", ".join(sorted(transaction_ids))
            self.findings[name] = Inconclusive(
                reason=f"several transactions carry this reference: {named}"
            )
        assert self.findings.keys() == self.wanted.keys()
        return Passed(
            findings=self.findings,
            listed=self.newest_listed(),
            batches=frozenset(self.batches_read),
            pages=self.pages,
        )


_NO_TIME: Final = Inconclusive(reason="no time was left to request its details")


def _earliest_ms(one: InquiryRequest) -> int:
    """Return the earliest time that their clock can have shown when the call left."""
    return one.sent_at_ms - CLOCK_MARGIN_MS


def _settled_ms(batch: Batch) -> int:
    """Return when it settled. Without a readable time, any call could be in it."""
    return maxsize if batch.settled_ms is None else batch.settled_ms
