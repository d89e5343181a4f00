"""Lines of the processor's books on their way into a transaction: in memory, or in a file that has
no name if they are many. So no connection waits while the network is read.

A line goes into the temporary table `book_lines`, which ends with the transaction.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.db import binary_copy as field
from easypay.processors.books import BookedTransaction, BookLine

IN_MEMORY_BYTES: Final = 32 * 1024 * 1024
"""Some 200,000 lines."""

TABLE: Final = """
    CREATE TEMPORARY TABLE book_lines (
        n bigint NOT NULL, transaction_id text NOT NULL, status text NOT NULL,
        meaning text NOT NULL, kind text, reference text, low uuid, high uuid,
        amount_minor bigint NOT NULL, currency text NOT NULL, card_brand text, last4 text,
        submitted_at timestamptz, batch_id text, settled_at timestamptz, fresh boolean NOT NULL,
        others boolean NOT NULL, change_code text, change_message text, changed_at timestamptz
    ) ON COMMIT DROP
"""
COLUMNS: Final = (
    "n",
    "transaction_id",
    "status",
    "meaning",
    "kind",
    "reference",
    "low",
    "high",
    "amount_minor",
    "currency",
    "card_brand",
    "last4",
    "submitted_at",
    "batch_id",
    "settled_at",
    "fresh",
    "others",
    "change_code",
    "change_message",
    "changed_at",
)
_START: Final = field.row_start(COLUMNS)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Spool:
    """Lines, each once. `newest`: no operation of ours began later. Close it."""

    def __init__(self, newest: datetime) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed by close
        self._file.write(field.HEADER)
        self._newest = newest
        self.lines = 0
        self.oldest_id: UUID | None = None
        self.newest_id: UUID | None = None

    def add(
        self, lines: Iterable[BookLine], batch_id: str | None, settled_at: datetime | None
    ) -> None:
        """Add lines of a list."""
        for line in lines:
            self._add(line, batch_id, settled_at, b"", fresh=False)

    def add_asked(
        self,
        found: BookedTransaction,
        batch_id: str | None = None,
        settled_at: datetime | None = None,
        *,
        others: bool = False,
    ) -> None:
        """Add a transaction that was asked about by itself: it is as it is now. Its batch is the
        one whose list shows it, if that is known. `others`: it is a refund of what another program
        charged."""
        self._add(
            found.line,
            batch_id or found.batch_id,
            settled_at or found.settled_at,
            _change(found),
            others=others,
        )

    def add_returned(self, original: BookedTransaction, by: BookedTransaction) -> None:
        """Add a transaction that another one has returned. It keeps its own status, which may say
        nothing of it, and its batch."""
        self._add(
            original.line._replace(meaning=by.line.meaning),
            original.batch_id,
            original.settled_at,
            _change(by) or field.NULL + field.NULL + _moment(by.line.submitted_at),
        )

    def is_ours(self, line: BookLine) -> bool:
        """Whether a line has a reference of our form."""
        return ids.own_reference_bounds(line.reference or "", self._newest) is not None

    def _add(
        self,
        line: BookLine,
        batch_id: str | None,
        settled_at: datetime | None,
        changed: bytes,
        *,
        fresh: bool = True,
        others: bool = False,
    ) -> None:
        bounds = ids.own_reference_bounds(line.reference or "", self._newest)
        low = high = None
        if bounds is not None:
            low, high = bounds
            self.oldest_id = low if self.oldest_id is None else min(self.oldest_id, low)
            self.newest_id = high if self.newest_id is None else max(self.newest_id, high)
        self._file.write(
            b"".join(
                (
                    _START,
                    field.bigint(self.lines),
                    field.text(line.transaction_id),
                    field.text(line.status),
                    field.text(line.meaning),
                    field.text(line.kind),
                    field.text(line.reference),
                    field.uuid(None if low is None else low.bytes),
                    field.uuid(None if high is None else high.bytes),
                    field.bigint(line.amount_minor),
                    field.text(line.currency),
                    field.text(line.card_brand),
                    field.text(line.last4),
                    _moment(line.submitted_at),
                    field.text(batch_id),
                    _moment(settled_at),
                    field.TRUE if fresh else field.FALSE,
                    field.TRUE if others else field.FALSE,
                    changed or 3 * field.NULL,
                )
            )
        )
        self.lines += 1

    async def load(self, connection: Any) -> None:
        """Make the table in this transaction and fill it. It can be done again in another."""
        await connection.execute(TABLE)
        at_end = self._file.tell()
        self._file.write(field.TRAILER)
        self._file.seek(0)
        await connection.copy_to_table(
            "book_lines", source=self._file, columns=COLUMNS, format="binary"
        )
        self._file.seek(at_end)
        self._file.truncate()
        await connection.execute("ANALYZE book_lines (n, transaction_id)")

    def close(self) -> None:
        self._file.close()


def _change(found: BookedTransaction) -> bytes:
    """Return the bank's code and words and its time; nothing if they are not told."""
    if not found.returned_items:
        return b""
    item = found.returned_items[-1]
    return field.text(item.code) + field.text(item.message) + _moment(item.at)


def _moment(value: datetime | None) -> bytes:
    if value is None:
        return field.moment(None)
    delta = value - _EPOCH
    return field.moment((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds)
