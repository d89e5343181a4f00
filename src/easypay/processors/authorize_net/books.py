"""Authorize.Net's books: its batches, their transactions, and what has not settled.

Every call here only reads, so one that was lost is asked again. A list is read to its end or it is
`Unread`. The lists are in the order of ids, so that what is new comes at the end; a transaction
that leaves the unsettled list moves the rest one place up, so the list is read again then.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final, TypeVar

from easypay import ids
from easypay.processors.authorize_net import book_messages as messages
from easypay.processors.authorize_net import message_codes, reporting
from easypay.processors.authorize_net.book_messages import Heard
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.reporting import PAGE_SIZE, Unreadable
from easypay.processors.base import Account, Deadline
from easypay.processors.books import (
    LONGEST_SPAN,
    BookedTransaction,
    BookLine,
    SettledBatch,
    Unread,
)

CALL_S: Final = 20.0
TRIES: Final = 3
"""Of one question, if no usable answer came."""
PAUSE_S: Final = 0.2
MAX_PAGES: Final = 20_000
"""Of one list: twenty million transactions."""
_SPAN: Final = LONGEST_SPAN - timedelta(minutes=1)
"""Times are sent to the second, so that a span may grow by one."""
_SECOND: Final = timedelta(seconds=1)

Read = TypeVar("Read")


class AuthorizeNetBooks:
    """The calls of `Books`, over the connections of the processor's client."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def currencies(self, account: Account, deadline: Deadline) -> Sequence[str] | Unread:
        read = await self._ask(
            account, partial(messages.merchant, account), messages.read_currencies, deadline
        )
        return _unread(read) if isinstance(read, Unreadable) else read

    async def batches(
        self, account: Account, since: datetime, until: datetime, currency: str, deadline: Deadline
    ) -> Sequence[SettledBatch] | Unread:
        found: dict[str, SettledBatch] = {}
        while since < until:
            end = min(since + _SPAN, until)
            question = partial(messages.batches, account, since=since, until=end + _SECOND)
            reader = partial(messages.read_batches, currency=currency)
            read = await self._ask(account, question, reader, deadline)
            if isinstance(read, Unreadable):
                return _unread(read)
            found.update((batch.batch_id, batch) for batch in read)
            since = end
        return sorted(found.values(), key=lambda batch: (batch.settled_at, batch.batch_id))

    def batch(
        self, account: Account, batch_id: str, currency: str, deadline: Deadline
    ) -> AsyncIterator[Sequence[BookLine] | Unread]:
        question = partial(messages.batch, account, batch_id=batch_id)
        return self._pages(account, question, currency, deadline)

    def unsettled(
        self, account: Account, currency: str, deadline: Deadline, *, held: bool = False
    ) -> AsyncIterator[Sequence[BookLine] | Unread]:
        question = partial(messages.unsettled, account, held=held)
        return self._pages(account, question, currency, deadline)

    async def transaction(
        self, account: Account, transaction_id: str, currency: str, deadline: Deadline
    ) -> BookedTransaction | Unread:
        question = partial(reporting.transaction_details, account, transaction_id=transaction_id)
        reader = partial(
            messages.read_transaction, transaction_id=transaction_id, currency=currency
        )
        read = await self._ask(account, question, reader, deadline)
        return _unread(read) if isinstance(read, Unreadable) else read

    async def _pages(
        self, account: Account, question: Callable[..., bytes], currency: str, deadline: Deadline
    ) -> AsyncIterator[Sequence[BookLine] | Unread]:
        """Yield a list page by page. Whoever reads it drops what it has if the last is Unread."""
        reader = partial(messages.read_lines, currency=currency)
        seen = total = 0
        for number in range(1, MAX_PAGES + 1):
            page = await self._ask(account, partial(question, page=number), reader, deadline)
            if isinstance(page, Unreadable):
                if page.code != reporting.NO_SUCH_PAGE or number == 1 or seen < total:
                    yield _unread(page)
                return
            if page.total is not None and page.total < total:
                yield Unread(reason="the list shrank while it was read")
                return
            seen, total = seen + page.shown, max(total, page.total or 0)
            if page.lines:
                yield page.lines
            if page.shown < PAGE_SIZE:
                if seen < total:
                    yield Unread(reason="the list is not whole")
                return
        yield Unread(reason=f"the list has more than {MAX_PAGES} pages")

    async def _ask(
        self,
        account: Account,
        question: Callable[[str], bytes],
        read: Callable[[Heard, str], Read | Unreadable],
        deadline: Deadline,
    ) -> Read | Unreadable:
        """Ask until there is an answer, at most TRIES times: nothing but reading happens there."""
        found: Read | Unreadable = Unreadable("not asked")
        for number in range(TRIES):
            if number:
                await asyncio.sleep(PAUSE_S)
            reference = ids.reference(ids.new_id())
            limit = Deadline(min(deadline.at, monotonic() + CALL_S))
            reply = await self._client.post(account.url, question(reference), limit)
            found = read(reply, reference)
            if not isinstance(found, Unreadable) or found.code is not None:
                break
        return found


def _unread(failure: Unreadable) -> Unread:
    return Unread(
        reason=failure.reason,
        refused=failure.code in message_codes.ACCOUNT_REFUSED,
        absent=failure.code == reporting.NOT_FOUND,
    )
