"""Read an account's books into rows: a batch that is new or has changed, and what is unsettled.

Batches settle once, but a return or a chargeback changes one that is months old: its statistics say
so. The list of all batches of LOOK_BACK is asked for in each run, for it takes a few questions.

Lines are read while no connection is held (`spool`), and written in one transaction, so that a
process killed anywhere leaves a batch as it was or as it is.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from easypay.processors.base import Account as ProcessorAccount
from easypay.processors.base import Deadline
from easypay.processors.books import (
    MOVED,
    BookedTransaction,
    BookLine,
    Books,
    SettledBatch,
    Unread,
)
from easypay.reconciliation.spool import Spool

log = logging.getLogger(__name__)

LOOK_BACK: Final = timedelta(days=180)
"""In which a payment can be returned, charged back or refunded."""
LIST_S: Final = 120.0
BATCH_S: Final = 1800.0
"""A list of a million transactions takes a thousand questions."""
ASK_S: Final = 20.0
ASKED_AT_ONCE: Final = 8
UNSETTLED_TRIES: Final = 3
"""A list that shrinks while it is read is read again."""


class Reader(NamedTuple):
    """The books of one account. `currency`: '' if the account has several. `shared`: other programs
    use it, too."""

    books: Books
    account: ProcessorAccount
    currency: str
    shared: bool = False

    async def batches(self, since: datetime, until: datetime) -> Sequence[SettledBatch] | Unread:
        deadline = Deadline(monotonic() + LIST_S)
        return await self.books.batches(self.account, since, until, self.currency, deadline)

    async def batch(self, batch_id: str, settled_at: datetime, spool: Spool) -> Unread | None:
        """Read a batch into the spool, with the details of what its list does not tell."""
        deadline = Deadline(monotonic() + BATCH_S)
        pages = self.books.batch(self.account, batch_id, self.currency, deadline)
        return await self._fill(pages, spool, batch_id, settled_at)

    async def unsettled(self, newest: datetime) -> Spool | Unread:
        """Return what has not settled."""
        failure: Unread | None = None
        for _ in range(UNSETTLED_TRIES):
            spool = Spool(newest)
            deadline = Deadline(monotonic() + BATCH_S)
            pages = self.books.unsettled(self.account, self.currency, deadline)
            failure = await self._fill(pages, spool, None, None)
            if failure is None:
                return spool
            spool.close()
            if failure.refused:
                break
        assert failure is not None
        return failure

    async def ask(
        self,
        transaction_ids: Iterable[str],
        spool: Spool,
        batch_id: str | None = None,
        settled_at: datetime | None = None,
    ) -> dict[str, BookLine | Unread]:
        """Ask about transactions one by one, and add what is found to the spool. Returns each, or
        why it is not told."""
        room = asyncio.Semaphore(ASKED_AT_ONCE)
        said: dict[str, BookLine | Unread] = {}

        async def one(transaction_id: str) -> None:
            original: BookedTransaction | Unread | None = None
            returned = None
            async with room:
                found = await self._transaction(transaction_id)
                if not isinstance(found, Unread):
                    returned = _returned_by(found)
                    if parent := returned or self._refunded_by(found, spool):
                        original = await self._transaction(parent)
            if isinstance(found, Unread):
                said[transaction_id] = found
            elif isinstance(original, Unread) and not original.absent:
                said[transaction_id] = original
            else:
                said[transaction_id] = found.line
                if not isinstance(original, BookedTransaction):
                    spool.add_asked(found, batch_id, settled_at)
                elif returned:
                    spool.add_returned(original, found)
                else:
                    others = not spool.is_ours(original.line)
                    spool.add_asked(found, batch_id, settled_at, others=others)

        await asyncio.gather(*map(one, dict.fromkeys(transaction_ids)))
        return said

    def _refunded_by(self, found: BookedTransaction, spool: Spool) -> str | None:
        """Return the charge that a refund gives back, if that says whose the refund is."""
        asks = self.shared and found.asked == "refund" and not spool.is_ours(found.line)
        return found.parent_id if asks else None

    async def _transaction(self, transaction_id: str) -> BookedTransaction | Unread:
        return await self.books.transaction(
            self.account, transaction_id, self.currency, Deadline(monotonic() + ASK_S)
        )

    async def _fill(
        self,
        pages: AsyncIterator[Sequence[BookLine] | Unread],
        spool: Spool,
        batch_id: str | None,
        settled_at: datetime | None,
    ) -> Unread | None:
        async for page in pages:
            if isinstance(page, Unread):
                return page
            untold = {
                line.transaction_id
                for line in page
                if line.meaning in MOVED
                and (
                    line.kind is None
                    or line.meaning == "returned"
                    or (self.shared and line.kind == "refund" and not spool.is_ours(line))
                )
            }
            spool.add(
                (line for line in page if line.transaction_id not in untold), batch_id, settled_at
            )
            if untold:
                said = await self.ask(untold, spool, batch_id, settled_at)
                failed = next((each for each in said.values() if isinstance(each, Unread)), None)
                if failed is not None:
                    return failed
        return None


def _returned_by(found: BookedTransaction) -> str | None:
    """Return the transaction that a bank's return with an id of its own returns. None: it is none,
    or it is itself what was returned, a refund too."""
    own = found.line.meaning != "returned" or found.asked == "refund"
    return None if own or found.parent_id == found.line.transaction_id else found.parent_id


# rows ------------------------------------------------------------------------------------------

# A batch that is new or differs is to be read; `read_at` says whether it was.
_LISTED: Final = """
    INSERT INTO settled_batches AS s (account, batch_id, settled_at, state, method, statistics)
    SELECT $1, u.batch_id, u.settled_at, u.state, u.method, u.statistics
      FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::jsonb[])
               AS u(batch_id, settled_at, state, method, statistics)
    ON CONFLICT (account, batch_id) DO UPDATE
       SET settled_at = excluded.settled_at, state = excluded.state, method = excluded.method,
           statistics = excluded.statistics, read_at = NULL
     WHERE (s.settled_at, s.state, s.method, s.statistics)
           IS DISTINCT FROM (excluded.settled_at, excluded.state, excluded.method,
                             excluded.statistics)
"""
_TO_READ: Final = """
    SELECT batch_id, settled_at, statistics::text FROM settled_batches
     WHERE account = $1 AND read_at IS NULL AND batch_id = ANY($2::text[])
     ORDER BY settled_at, batch_id
"""
# The row of the account is locked: who says that it is shared, or not, comes before or after this.
_READ: Final = """
    UPDATE settled_batches
       SET read_at = CASE WHEN $3 AND $5 = coalesce((
                   SELECT shared_at IS NOT NULL FROM account_books WHERE account = $1 FOR SHARE
               ), false) THEN db_now() END,
           transactions = (
               SELECT count(*) FROM settled_transactions WHERE account = $1 AND batch_id = $2)
     WHERE account = $1 AND batch_id = $2 AND statistics = $4::jsonb
"""


class ToRead(NamedTuple):
    """A batch whose transactions are to be read. `statistics` is what its list said."""

    batch_id: str
    settled_at: datetime
    statistics: str

    @property
    def moved(self) -> int:
        """How many charges and refunds it should have."""
        return sum(one["charges"] + one["refunds"] for one in msgspec.json.decode(self.statistics))


async def listed(connection: Any, account: bytes, batches: Sequence[SettledBatch]) -> None:
    """Keep the list of batches; what is new or has changed is to be read."""
    await connection.execute(
        _LISTED,
        account,
        [batch.batch_id for batch in batches],
        [batch.settled_at for batch in batches],
        [batch.state for batch in batches],
        [batch.method for batch in batches],
        [msgspec.json.encode(batch.statistics).decode() for batch in batches],
    )


async def to_read(connection: Any, account: bytes, batches: Sequence[SettledBatch]) -> list[ToRead]:
    """Return which of these batches are to be read, oldest first. One that is not closed waits."""
    closed = [batch.batch_id for batch in batches if batch.closed]
    return [ToRead(*row) for row in await connection.fetch(_TO_READ, account, closed)]


async def has_read(
    connection: Any, account: bytes, batch: ToRead, *, whole: bool, shared: bool
) -> None:
    """Mark a batch as read, unless its statistics have changed meanwhile or its list is not whole:
    then it is read once more. So it is if somebody has said since it was read that the account is
    `shared`, or is not: then its refunds were not asked about, or for nothing."""
    await connection.execute(_READ, account, batch.batch_id, whole, batch.statistics, shared)
