"""Reconcile an account: read its books, compare them with our operations, write each difference.

1. The list of batches, and each batch that is new or has changed: its transactions replace what we
   have of it, are matched and judged, in one transaction. Then its payments are settled.
2. What has not settled is judged likewise, and what of ours is in neither list is asked about, one
   by one. So is every open difference that no list shows, so that it clears by itself. A run that
   has no time to ask about all of ours is a failure, and the next goes on.
3. Rows of ours that are differences by themselves: outcomes unknown for a day, late charges that
   wait for a person.

One process at a time does this for an account, under a lease in `account_books`. Each transaction
asks first whether the lease is still ours. Killed anywhere, the next run does the rest; a run that
meets nothing new writes nothing but its own times.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import failpoints, ids
from easypay.customers.erasing_payments import COPYING
from easypay.db.failures import is_passing
from easypay.merchants.directory import Directory
from easypay.merchants.vault import VaultError
from easypay.observed import observed
from easypay.payments.model import PaymentKey
from easypay.processors.base import Deadline, Processor
from easypay.processors.books import BookLine, Meaning, Unread, books_of
from easypay.reconciliation import breaks, matching, reading
from easypay.reconciliation.breaks import Asked, New, Ours
from easypay.reconciliation.matching import OLD_AFTER, Account
from easypay.reconciliation.model import BreakKind
from easypay.reconciliation.reading import ASK_S, LOOK_BACK, Reader, ToRead
from easypay.reconciliation.spool import Spool
from easypay.settlement.settling import settle

log = logging.getLogger(__name__)

LEASE_S: Final = 60.0
_RENEW_S: Final = 10.0
MOST_ASKED: Final = 200
"""Transactions that are asked about one by one and then judged together."""
MOST_WAITING: Final = 20_000
"""Transactions to be asked about in a run, for each purpose."""
ASKING_S: Final = 1800.0
"""How long a run begins to ask about more of them."""
MOST_LINES: Final = 20_000
"""Lines of batches that are judged once more in one transaction."""
_AGAIN_S: Final = 300.0
"""After a run that failed."""
_AGAIN_MOST_S: Final = 3600.0
"""What a person has to mend is tried again after twice as long each time, up to this."""
_OVERLAP: Final = timedelta(days=1)
_MARGIN: Final = timedelta(minutes=15)
"""How late a list may show what was done, and how far their clock and ours may differ."""
_RECENT: Final = OLD_AFTER + timedelta(days=1)
_OLDEST_ABSENT: Final = LOOK_BACK - 2 * _RECENT
"""What is older may be in a batch that is no more listed."""
_SLICE: Final = timedelta(days=1)
"""Of which operations are compared with the books in one statement."""

Changed = Callable[[PaymentKey], None]


def _nobody(_: PaymentKey) -> None:
    pass


class LeaseLost(Exception):
    """Another process reads this account now."""


class Unreadable(Exception):
    """The books cannot be read; says why. `refused`: a person has to change something."""

    def __init__(self, unread: Unread) -> None:
        super().__init__(unread.reason)
        self.refused = unread.refused


class Result(msgspec.Struct, kw_only=True):
    """What a run did at one account."""

    account: str
    batches: int = 0
    """Read in this run."""
    transactions: int = 0
    new_breaks: dict[str, int] = {}
    failure: str | None = None


_ACCOUNT: Final = """
    SELECT array_agg(DISTINCT merchant_id) AS merchants, min(created_at) AS known_since,
           (SELECT last_ended_at FROM account_books WHERE account = $1) AS ended_at,
           EXISTS (SELECT FROM account_books
                    WHERE account = $1 AND shared_at IS NOT NULL) AS shared,
           (SELECT db_now()) AS now
      FROM processor_logins WHERE account = $1
"""
TAKE: Final = """
    INSERT INTO account_books AS a
        (account, read_until, reader, leased_until, last_started_at)
    VALUES ($1, $2, $3, db_now() + make_interval(secs => $4), db_now())
    ON CONFLICT (account) DO UPDATE
       SET reader = excluded.reader, leased_until = excluded.leased_until,
           last_started_at = excluded.last_started_at
     WHERE a.leased_until IS NULL OR a.leased_until <= db_now()
 RETURNING true
"""
RENEW: Final = """
    UPDATE account_books SET leased_until = db_now() + make_interval(secs => $3)
     WHERE account = $1 AND reader = $2 AND leased_until > db_now()
 RETURNING true
"""
# The lease goes on being renewed meanwhile. A process that is stopped loses its transaction long
# before its lease: the database ends transactions that are idle for ten seconds. References of
# payments are copied in it: no erasure removes them meanwhile.
HOLD: Final = f"""
    SELECT pg_advisory_xact_lock({COPYING}) FROM account_books
     WHERE account = $1 AND reader = $2 AND leased_until > db_now() FOR KEY SHARE
"""
END: Final = """
    UPDATE account_books
       SET leased_until = NULL, reader = NULL, last_failure = $3::text,
           last_ended_at = CASE WHEN $3::text IS NULL THEN db_now() ELSE last_ended_at END,
           read_until = greatest(read_until, $4),
           refusals = CASE WHEN $5 THEN refusals + 1 ELSE 0 END
     WHERE account = $1 AND reader = $2
"""
_DUE: Final = """
    SELECT l.account
      FROM (SELECT account, min(created_at) AS since FROM processor_logins GROUP BY account) l
      LEFT JOIN account_books a ON a.account = l.account
     WHERE (a.leased_until IS NULL OR a.leased_until <= db_now())
       AND a.retired_at IS NULL
       AND (a.leased_until <= db_now()
            OR a.last_failure IS NOT NULL
               AND a.last_started_at <= db_now() - make_interval(secs => least(
                   $1::float8, $2::float8 * 2 ^ greatest(0, least(a.refusals, 9) - 1), $3::float8))
            OR coalesce(a.last_started_at, l.since) <= db_now() - make_interval(secs => $1::float8)
            OR a.wanted_at <= db_now() AND a.last_started_at < a.wanted_at)
     ORDER BY a.last_started_at NULLS FIRST, l.account
"""


async def due(pool: Any, every_s: float) -> list[bytes]:
    """Return the accounts to reconcile now, those that waited longest first."""
    return [row[0] for row in await pool.fetch(_DUE, every_s, _AGAIN_S, _AGAIN_MOST_S)]


class Reconciliation:
    """Reconciles accounts. One per process. `changed` is told of every payment that it settles."""

    def __init__(
        self,
        *,
        pool: Any,
        processors: Mapping[str, Processor],
        directory: Directory,
        changed: Changed = _nobody,
    ) -> None:
        self._pool = pool
        self._processors = processors
        self._directory = directory
        self._changed = changed

    @observed("reconciling an account")
    async def run(
        self, key: bytes, *, span: tuple[datetime, datetime] | None = None
    ) -> Result | None:
        """Reconcile one account; None if another process does it now. `span`: only the batches
        that settled in it are listed. What the books or the network do is the result's failure."""
        result = Result(account=key.hex())
        reader_id = ids.new_id()
        row = await self._pool.fetchrow(_ACCOUNT, key)
        if row["merchants"] is None:
            raise LookupError("no merchant has this account")
        account = Account(key, row["merchants"], row["known_since"] - _MARGIN, shared=row["shared"])
        now: datetime = row["now"]
        since, until = span or (max(now - LOOK_BACK, account.known_since - _OVERLAP), now)
        taken = await self._pool.fetchval(TAKE, key, since, reader_id, LEASE_S)
        if taken is None:
            return None
        renewing = asyncio.create_task(self._renew(key, reader_id))
        one = _Run(self._pool, account, reader_id, now, row["ended_at"], result, self._changed)
        read_until: datetime | None = None
        refused = False
        try:
            reached = await one.reconcile(await self._reader(account), since, until)
            read_until = None if span else reached
        except Unreadable as error:
            result.failure = str(error)
            refused = error.refused
            if refused:
                log.error(
                    "the books of account %s cannot be read: %s; set it again with `easypay "
                    "merchant account`, or if nobody uses it any more, end this with `easypay "
                    "processor books --retire %s` and a reason",
                    *(key.hex()[:12], error, key.hex()[:12]),
                )
        except LeaseLost:
            result.failure = "another process reads this account"
        except VaultError as error:
            refused = True
            result.failure = f"the account cannot be opened: {error}"
        except BaseException as error:
            refused = isinstance(error, Exception) and not is_passing(error)
            result.failure = f"failed: {type(error).__name__}"
            raise
        finally:
            renewing.cancel()
            await self._pool.execute(END, key, reader_id, result.failure, read_until, refused)
        result.new_breaks = {kind: count for kind, count in one.new.items() if count}
        if result.new_breaks:
            found = ", ".join(f"{count} {kind}" for kind, count in result.new_breaks.items())
            log.warning("account %s: new differences: %s", key.hex()[:12], found)
        return result

    async def _reader(self, account: Account) -> Reader:
        login = await self._directory.login_of_account(account.key)
        if login is None:
            raise Unreadable(Unread(reason="no login of this account can be opened", refused=True))
        books = books_of(self._processors[login.account.processor])
        if books is None:
            raise Unreadable(Unread(reason=f"{login.account.processor} has no books to read"))
        currencies = await books.currencies(login.account, Deadline(monotonic() + ASK_S))
        if isinstance(currencies, Unread):
            raise Unreadable(currencies)
        currency = currencies[0] if len(currencies) == 1 else ""
        await self._pool.execute(
            "UPDATE account_books SET currency = $2"
            " WHERE account = $1 AND currency IS DISTINCT FROM $2",
            account.key,
            currency or None,
        )
        return Reader(books, login.account, currency, account.shared)

    async def _renew(self, key: bytes, reader_id: UUID) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                if await self._pool.fetchval(RENEW, key, reader_id, LEASE_S) is None:
                    return
            except Exception as error:
                log.warning(
                    "a lease was not renewed: %s: %s",
                    *(type(error).__name__, error),
                    exc_info=not is_passing(error),
                )


class _Run:
    """One run at one account."""

    def __init__(
        self,
        pool: Any,
        account: Account,
        reader_id: UUID,
        now: datetime,
        ended_at: datetime | None,
        result: Result,
        changed: Changed,
    ) -> None:
        self._pool = pool
        self._account = account
        self._reader_id = reader_id
        self._now = now
        self._ended_at = ended_at
        self._result = result
        self._changed = changed
        self._failure: Unreadable | None = None
        self.new = New()

    async def reconcile(self, reader: Reader, since: datetime, until: datetime) -> datetime:
        """Do all of it. Returns the time before which every batch was read.

        A batch that cannot be read stands in the way of no other: it is the failure at the end.
        """
        read_until = await self._read_batches(reader, since, until)
        await self._compare_unsettled(reader)
        await self._settled()
        if self._failure is not None:
            raise self._failure
        return read_until

    # batches

    async def _read_batches(self, reader: Reader, since: datetime, until: datetime) -> datetime:
        batches = await reader.batches(since, until)
        if isinstance(batches, Unread):
            raise Unreadable(batches)
        async with self._transaction() as connection:
            await reading.listed(connection, self._account.key, batches)
            waiting = await reading.to_read(connection, self._account.key, batches)
        failpoints.reach("reconcile_listed")
        for batch in waiting:
            try:
                await self._read_batch(reader, batch)
            except Unreadable as error:
                if error.refused:
                    raise
                self._failure = error
        unread = [batch.settled_at for batch in batches if not batch.closed]
        return min([*unread, until])

    async def _read_batch(self, reader: Reader, batch: ToRead) -> None:
        spool = Spool(self._now + timedelta(days=1))
        try:
            failure = await reader.batch(batch.batch_id, batch.settled_at, spool)
            if failure is not None:
                reason = f"batch {batch.batch_id}: {failure.reason}"
                raise Unreadable(Unread(reason=reason, refused=failure.refused))
            async with self._transaction() as connection:
                failpoints.reach("reconcile_batch_begun")
                account = self._account
                await matching.match(connection, spool, account, self._now)
                whole = spool.lines >= batch.moved
                await matching.keep(connection, spool, account, batch.batch_id, whole=whole)
                failpoints.reach("reconcile_batch_kept")
                await breaks.note(connection, account, self.new)
                await reading.has_read(
                    connection, account.key, batch, whole=whole, shared=account.shared
                )
                failpoints.reach("reconcile_batch_noted")
            if not whole:
                log.warning(
                    "account %s: the list of batch %s has %d of %d transactions; it is read again",
                    *(account.key.hex()[:12], batch.batch_id, spool.lines, batch.moved),
                )
        finally:
            spool.close()
        failpoints.reach("reconcile_batch_read")
        self._result.batches += 1
        self._result.transactions += spool.lines
        await self._settled()

    async def _settled(self) -> None:
        await settle(self._pool, self._account.key, changed=self._changed)

    # what has not settled, and what is in no list

    async def _compare_unsettled(self, reader: Reader) -> None:
        began_at: datetime = await self._pool.fetchval("SELECT db_now()")
        unsettled = await reader.unsettled(self._now + timedelta(days=1))
        if isinstance(unsettled, Unread):
            raise Unreadable(unsettled)
        account = self._account
        try:
            async with self._transaction() as connection:
                await matching.match(connection, unsettled, account, began_at)
                await breaks.note(connection, account, self.new)
                absent = await self._absent(connection, began_at)
                ours = await breaks.open_ours(connection, account, MOST_WAITING)
                lines = await breaks.open_lines(connection, account, MOST_WAITING)
        finally:
            unsettled.close()
        failpoints.reach("reconcile_judged")
        self._result.transactions += unsettled.lines
        await self._judge_settled(began_at)
        await self._ask_all(reader, absent, [*ours, *lines], began_at)
        async with self._transaction() as connection:
            await breaks.note_ours(connection, account, self.new)

    async def _absent(self, connection: Any, began_at: datetime) -> list[Ours]:
        """Return what of ours is in no list, from before the last run that came to its end: what
        was three days old while nobody could read the books is judged now."""
        account, high = self._account, began_at - _MARGIN
        start = min(high, self._ended_at or account.known_since) - _RECENT
        start = max(start, account.known_since, high - _OLDEST_ABSENT)
        found: dict[UUID, Ours] = {}
        for look, end in (
            (breaks.not_in_the_books, high),
            (breaks.ended_late, began_at - OLD_AFTER),
        ):
            low, last = ids.lowest_id_at(start), ids.lowest_id_at(end)
            while low < last and len(found) < MOST_WAITING:
                until = min(last, ids.lowest_id_at(ids.moment_of(low) + _SLICE))
                some, low = await look(connection, account, (low, until), high)
                found.update((each.operation_id, each) for each in some)
            if low < last:
                self._fails(f"{len(found)} operations are in no list, and more may be")
        return list(found.values())

    async def _judge_settled(self, began_at: datetime) -> None:
        """Judge lines of batches once more: a difference is open, or ours was."""
        after = "", ""
        while True:
            spool = Spool(self._now + timedelta(days=1))
            try:
                async with self._transaction() as connection:
                    lines = await breaks.open_settled(connection, self._account, after, MOST_LINES)
                    for each in lines:
                        spool.add([each.line], each.batch_id, each.settled_at)
                    if lines:
                        await self._judge(connection, spool, began_at)
            finally:
                spool.close()
            if len(lines) < MOST_LINES:
                return
            after = lines[-1].batch_id, lines[-1].line.transaction_id

    async def _ask_all(
        self,
        reader: Reader,
        absent: Sequence[Ours],
        known: Sequence[Ours | str],
        began_at: datetime,
    ) -> None:
        """Ask about one transaction after the other. `known` have a difference already: they are
        asked about last, and some of them in the next run if there is no time."""
        until = monotonic() + ASKING_S
        waiting: list[Ours | str] = [*absent, *known]
        for n in range(0, len(waiting), MOST_ASKED):
            if n and monotonic() >= until:
                if n < len(absent):
                    self._fails(f"{len(absent) - n} operations that are in no list wait")
                return
            await self._ask(reader, waiting[n : n + MOST_ASKED], began_at)

    async def _ask(self, reader: Reader, waiting: Sequence[Ours | str], began_at: datetime) -> None:
        ours = [each for each in waiting if isinstance(each, Ours)]
        lines = [each for each in waiting if isinstance(each, str)]
        asked = Spool(self._now + timedelta(days=1))
        try:
            named = [one.transaction_id for one in ours if one.transaction_id]
            said = await reader.ask([*lines, *named], asked)
            async with self._transaction() as connection:
                failpoints.reach("reconcile_asked")
                await self._judge(connection, asked, began_at)
                answers = _judged(ours, said)
                await breaks.note_asked(connection, self._account, answers, self.new)
        finally:
            asked.close()

    async def _judge(self, connection: Any, spool: Spool, began_at: datetime) -> None:
        await matching.match(connection, spool, self._account, began_at)
        await matching.explain(connection, self._account)
        await breaks.note(connection, self._account, self.new)

    def _fails(self, reason: str) -> None:
        """Let the run be a failure at its end: it goes on, and is done again soon."""
        self._failure = self._failure or Unreadable(Unread(reason=reason))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        """A transaction in which the lease is ours. Raises LeaseLost."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchrow(HOLD, self._account.key, self._reader_id) is None:
                raise LeaseLost
            yield connection


_GONE_MEANS: Final[Mapping[Meaning, BreakKind]] = {
    "voided": BreakKind.UNEXPLAINED_VOID,
    "expired": BreakKind.MISSING_AT_PROCESSOR,
    "declined": BreakKind.MISSING_AT_PROCESSOR,
}


def _judged(absent: Sequence[Ours], said: Mapping[str, BookLine | Unread]) -> list[Asked]:
    """Return what the processor's answers say. One that could not be read says nothing, nor does a
    status that nobody knows. That a hold expired is no difference: `authorization_expiry` learns
    it, and no money has moved."""
    found: list[Asked] = []
    for ours in absent:
        answer = said.get(ours.transaction_id or "")
        if answer is None or (isinstance(answer, Unread) and answer.absent):
            found.append(Asked(ours, BreakKind.MISSING_AT_PROCESSOR, "absent"))
        elif not isinstance(answer, Unread) and answer.meaning not in ("unclear", "held"):
            over = ours.holds and answer.meaning == "expired"
            kind = None if over else _GONE_MEANS.get(answer.meaning)
            found.append(Asked(ours, kind, answer.status))
    return found
