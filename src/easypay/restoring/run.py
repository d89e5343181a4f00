"""Bring back what the processor did after the copy from which the database was restored.

Of each account every list is read that can show it, in the order in which a transaction moves
through them: held for review, unsettled, the batches that settled since. A charge or a refund that
has a reference of ours from the lost time, and no operation here, is written as it was. A payment
that was captured or voided there and not here is brought up to date; one that is live here and in
no list is asked about. Everything is recorded by the door that all outcomes take, and adds the
usual events.

Refunds come last: what they refund may have to come back first. A run may be repeated, or cut short
anywhere. It never sends anything that moves money.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.merchants.directory import Directory
from easypay.merchants.vault import VaultError
from easypay.payments.statements import Recorder
from easypay.processors.base import (
    Deadline,
    Processors,
)
from easypay.processors.books import BookLine, Unread, books_of
from easypay.restoring import rows, story
from easypay.restoring.account import CALL_S, NotRead, OpenAccount
from easypay.restoring.story import Item, Owner
from easypay.restoring.writing import Writer

MARGIN: Final = timedelta(hours=1)
"""How much older than its newest sign a lost time is taken to be: clocks differ, and what was begun
first may be committed last."""
LONGEST: Final = timedelta(days=180)
_LIST_S: Final = 3600.0
_TELL_EVERY: Final = 20_000
_TRIES: Final = 3
"""How often a list is read if it changes meanwhile."""
_SETTLES: Final = timedelta(days=4)
"""A captured payment that is in no batch so long afterwards is not in the lists for another reason.
"""
_HOLDS: Final = timedelta(days=31)
"""An authorization is held for 30 days."""
_UNSEEN: Final = 500
"""How many payments that no list names are read at once."""
_AT_ONCE: Final = 8
"""How many transactions are asked about at the same time."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account, and whether it could be read."""

    merchants: list[str]
    current: bool
    """It takes new payments today."""
    transactions: int = 0
    failure: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found, and what it did."""

    since: datetime
    dry_run: bool
    accounts: list[Account]
    items: list[Item]
    done: bool
    """All accounts that matter were read: gateways may start."""


async def default_since(connection: Any) -> datetime:
    """Return from when on something may be lost: an hour before the newest sign in the database."""
    found = await rows.newest(connection)
    signs = [sign for sign in (found.alive_at, found.newest) if sign is not None]
    oldest = found.now - LONGEST
    return max(min(signs, default=oldest) - MARGIN, oldest)


class Restoring:
    """One run. `tell` is called with a line about each step; `assigned` names the merchant of a
    reference where several share an account."""

    def __init__(
        self,
        *,
        connection: Any,
        recorder: Recorder,
        processors: Processors,
        directory: Directory,
        since: datetime,
        dry_run: bool,
        assigned: Mapping[str, UUID],
        tell: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._processors = processors
        self._directory = directory
        self._since = since
        self._dry_run = dry_run
        self._tell = tell
        self._writer = Writer(
            connection=connection,
            recorder=recorder,
            dry_run=dry_run,
            assigned=assigned,
            tell=tell,
        )

    async def run(self) -> Report:
        """Read every account and bring back what is missing."""
        current = await self._current()
        accounts: list[Account] = []
        for digest, owners in (await rows.owners(self._connection)).items():
            account = await self._account(digest, owners, current=digest in current)
            accounts.append(account)
            named = ", ".join(account.merchants)
            what = account.failure or f"{account.transactions:,} transactions looked through"
            self._tell(f"account of {named}: {what}")
        done = not any(account.current and account.failure for account in accounts)
        return Report(
            since=self._since,
            dry_run=self._dry_run,
            accounts=accounts,
            items=self._writer.items,
            done=done,
        )

    async def _current(self) -> set[bytes]:
        """Return the accounts that take new payments. One that has taken none so far may have taken
        its first ones in the lost time, so it is noted now."""
        found = set()
        for row in await rows.current_accounts(self._connection):
            try:
                login = await self._directory.current_login(*row)
            except VaultError as error:
                raise NotRead(f"{ids.typed(ids.MERCHANT, row[0])}: {error}") from None
            if login is not None:
                found.add(login.digest)
        return found

    async def _account(self, digest: bytes, owners: list[Owner], *, current: bool) -> Account:
        merchants = sorted({ids.typed(ids.MERCHANT, owner.merchant_id) for owner in owners})
        read, failure = 0, None
        try:
            account = await self._opened(digest, owners)
            try:
                await self._read(account)
            finally:
                read = account.read
        except NotRead as error:
            failure = error.detail
        return Account(merchants=merchants, current=current, transactions=read, failure=failure)

    async def _opened(self, digest: bytes, owners: list[Owner]) -> OpenAccount:
        login = await self._directory.login_of_account(digest)
        if login is None:
            raise NotRead("its credentials cannot be opened")
        processor = self._processors[login.account.processor]
        books = books_of(processor)
        if books is None:
            raise NotRead(f"{login.account.processor} has no books that can be read")
        currencies = await books.currencies(login.account, Deadline(monotonic() + CALL_S))
        if isinstance(currencies, Unread):
            raise NotRead(currencies.reason)
        taken = frozenset[str]().union(*(owner.currencies for owner in owners))
        possible = sorted(set(currencies) & taken or currencies)
        if len(possible) != 1:
            raise NotRead(
                f"it has the currencies {', '.join(possible)}, and its lists do not say which "
                "amounts are in which"
            )
        return OpenAccount(login, owners, possible[0], processor, books)

    # reading -------------------------------------------------------------------------------------

    async def _read(self, account: OpenAccount) -> None:
        """Read all lists of an account. Raises NotRead if one cannot be read to its end."""
        to, currency, books = account.login.account, account.currency, account.books
        await rows.see_nothing(self._connection)
        deadline = Deadline(monotonic() + _LIST_S)
        await self._list(account, lambda: books.unsettled(to, currency, deadline, held=True))
        await self._list(account, lambda: books.unsettled(to, currency, deadline))
        until = clock.now() + MARGIN
        since = self._since - _SETTLES
        batches = await books.batches(to, since, until, currency, deadline)
        if isinstance(batches, Unread):
            raise NotRead(batches.reason)
        for batch in batches:
            name = batch.batch_id
            await self._list(account, lambda name=name: books.batch(to, name, currency, deadline))  # type: ignore[misc]
        for owner in account.owners:
            await self._ask_about_unseen(account, owner)
        for transaction_id in account.refunds:
            await self._writer.refund(account, transaction_id)

    async def _list(
        self, account: OpenAccount, pages: Callable[[], AsyncIterator[Sequence[BookLine] | Unread]]
    ) -> None:
        """Handle the pages of a list. If it changed while it was read, read it again: what was
        handled before is known then."""
        failure = ""
        for _ in range(_TRIES):
            async for page in pages():
                if isinstance(page, Unread):
                    failure = page.reason
                    break
                await self._page(account, page)
            else:
                return
        raise NotRead(failure)

    async def _page(self, account: OpenAccount, page: Sequence[BookLine]) -> None:
        before, account.read = account.read, account.read + len(page)
        if account.read // _TELL_EVERY > before // _TELL_EVERY:
            self._tell(f"{account.read:,} transactions looked through")
        ours = {line.reference: line for line in page if story.operation_id_of(line.reference)}
        merchants = sorted({owner.merchant_id for owner in account.owners})
        references = [reference for reference in ours if reference is not None]
        known = await rows.known(self._connection, references, merchants)
        await rows.see(self._connection, references)
        lost: list[BookLine] = []
        for reference, line in ours.items():
            assert reference is not None
            found = known.get(reference)
            if found is None and self._is_lost(reference):
                lost.append(line)
            elif found is not None:
                await self._writer.known(account, found, line)
        for start in range(0, len(lost), _AT_ONCE):
            booked = await asyncio.gather(
                *(account.transaction(line.transaction_id) for line in lost[start:][:_AT_ONCE])
            )
            findings = await asyncio.gather(*(account.finding(one) for one in booked))
            for one, finding in zip(booked, findings, strict=True):
                await self._writer.lost(account, one, finding)

    def _is_lost(self, reference: str) -> bool:
        """Whether it was made in the lost time. An older one may be in the archive, or be another
        installation's."""
        made, until = story.operation_id_of(reference), clock.now() + MARGIN
        return made is not None and story.was_begun_between(made, self._since, until)

    async def _ask_about_unseen(self, account: OpenAccount, owner: Owner) -> None:
        """Ask about payments that are live here and in no list there: what was voided leaves the
        lists."""
        after, since = ids.lowest_id_at(self._since - _HOLDS), self._since - _SETTLES
        while True:
            found = await rows.unseen(self._connection, owner, after, since, _UNSEEN)
            for start in range(0, len(found), _AT_ONCE):
                some = found[start:][:_AT_ONCE]
                lines = await asyncio.gather(*(account.line_of(each) for each in some))
                for payment, line in zip(some, lines, strict=True):
                    if line is not None:
                        await self._writer.catch_up(account, payment, line)
            if len(found) < _UNSEEN:
                return
            after = found[-1].id
