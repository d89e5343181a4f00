"""Reads an uploaded file to its end: checks each line and writes those that can be run.

The file comes in pieces and leaves in pieces. While PostgreSQL writes one part of the lines, the
next part is checked, and no more than these two are in memory, however long the file is. Nothing
that has a card number in it reaches the database.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.batches import lines as line_forms
from easypay.batches.file_lines import Reader, Unreadable, reader_of
from easypay.batches.lines import EarlierLine, Line, PaymentLine, PaymentLines
from easypay.batches.model import Batch
from easypay.batches.store import Whole
from easypay.db import binary_copy
from easypay.errors import FieldError
from easypay.merchants.vault import Box

MOST_WRONG: Final = 10_000
"""A file with more wrong lines is not read on: it is probably not the right one."""
_PART_BYTES: Final = 512 * 1024
_COLUMNS: Final = (
    *("merchant_id", "batch_id", "line", "state", "operation", "reference", "request", "sealed"),
    *("payment_id", "of_line", "after_line", "outcome", "detail", "amount_minor", "currency"),
)
_json: Final = msgspec.json.Encoder()
_SLICE: Final = 16 * 1024
_LINES_OF_A_TURN: Final = 100
"""Bytes and lines that are read before others have their turn: about two milliseconds."""

Check = Callable[[bytes, int, PaymentLines], "Checked | list[FieldError]"]
"""Given a line's JSON, its number and the lines before it that make payments, returns the line, or
what is wrong with it."""


class Checked(msgspec.Struct, frozen=True, gc=False):
    """A line that can be run, and its canonical form."""

    line: Line
    form: bytes


class WrongField(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with a line, as it is kept: a JSON pointer, a code and a sentence."""

    field: str
    code: str
    message: str


class TooLong(Exception):
    """The file has more bytes than a batch may have."""


class Staging:
    """The reading of one file. Use it once."""

    def __init__(
        self, pool: Any, batch: Batch, check: Check, box: Box, *, most_bytes: int, most_lines: int
    ) -> None:
        self._pool = pool
        self._batch = batch
        self._check = check
        self._box = box
        self._most_bytes = most_bytes
        self._most_lines = most_lines
        self._reader: Reader | None = reader_of(batch.format)
        self._payments = PaymentLines()
        self._digest = sha256()
        self._bytes = self._lines = self._wrong = self._blank = self._last_line = 0
        self._reason: str | None = None
        self._rows: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Task[None] | None = None
        self._start = (
            binary_copy.row_start(_COLUMNS)
            + binary_copy.uuid(batch.merchant_id.bytes)
            + binary_copy.uuid(batch.id.bytes)
        )

    async def read(self, pieces: AsyncIterator[bytes]) -> Whole:
        """Read the file, and write its lines. Raises TooLong, what `pieces` raises, and what the
        database raises; then the caller removes what was written."""
        try:
            async for piece in pieces:
                self._bytes += len(piece)
                if self._bytes > self._most_bytes:
                    raise TooLong
                self._digest.update(piece)
                for at in range(0, len(piece), _SLICE):
                    await self._take(piece[at : at + _SLICE])
                    await asyncio.sleep(0)  # payments have their turn
            await self._take(None)
            await self._write()
            await self._written()
        finally:
            if self._writing is not None:
                self._writing.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await self._writing
        return self._whole()

    def _whole(self) -> Whole:
        reason = self._reason
        if reason is None and self._wrong and self._batch.on_error == "refuse":
            reason = (
                f"{self._wrong} {'line is' if self._wrong == 1 else 'lines are'} wrong. Correct "
                "the file and upload it again, or upload it with on_error=skip."
            )
        if reason is None and not self._lines:
            reason = "The file has no line that can be run."
        return Whole(
            digest=self._digest.digest(),
            bytes=self._bytes,
            lines=self._lines if reason is None else 0,
            wrong=self._wrong,
            last_line=self._last_line if reason is None else 0,
            reason=reason,
        )

    async def _take(self, piece: bytes | None) -> None:
        """Check the lines that end in a piece; None is the end of the file."""
        reader = self._reader
        if reader is None:
            return  # what is left is only counted and hashed
        try:
            found = reader.end() if piece is None else reader.feed(piece)
            for turn, (number, line) in enumerate(found, 1):
                self._one(number, line)
                if turn % _LINES_OF_A_TURN == 0:
                    await asyncio.sleep(0)
        except Unreadable as stop:
            self._add_wrong(stop.number, [stop.error])
            self._stop(f"The file cannot be read from line {stop.number} on. {stop.error.detail}")
        if self._size >= _PART_BYTES:
            await self._write()

    def _one(self, number: int, line: bytes | FieldError | None) -> None:
        if self._reader is None:
            return
        if line is None:
            self._blank += 1
            if self._blank > self._most_lines:
                self._stop(f"The file has more than {self._most_lines:,} blank lines. Remove them.")
            return
        if self._lines + self._wrong >= self._most_lines:
            self._stop(f"The file has more than {self._most_lines:,} lines. Split it.")
            return
        checked = (
            [line] if isinstance(line, FieldError) else self._check(line, number, self._payments)
        )
        if isinstance(checked, list):
            self._add_wrong(number, checked)
            return
        if isinstance(checked.line, PaymentLine):
            self._payments.add(number)
        self._lines += 1
        self._last_line = number
        if not self._wrong or self._batch.on_error == "skip":
            self._add(self._row(number, checked))

    def _add_wrong(self, number: int, errors: list[FieldError]) -> None:
        self._wrong += 1
        kept = [WrongField(each.pointer, each.code, each.detail) for each in errors]
        self._add(self._wrong_row(number, _json.encode(kept)))
        if self._wrong >= MOST_WRONG:
            self._stop(
                f"{MOST_WRONG:,} lines are wrong, and the rest was not read: is it the right file?"
            )

    def _stop(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._reader = None

    def _add(self, row: bytes) -> None:
        self._rows.append(row)
        self._size += len(row)

    def _row(self, number: int, checked: Checked) -> bytes:
        line, form = checked.line, checked.form
        sealed: bytes | None = None
        if line_forms.holds_token(line):
            sealed = line_forms.seal(self._box, form, self._batch.id, number)
        payment_id: UUID | None = None
        of_line: int | None = None
        if not isinstance(line, PaymentLine):
            if isinstance(line.payment, EarlierLine):
                of_line = line.payment.line
            else:
                payment_id = ids.parse(ids.PAYMENT, line.payment)
        amount = line_forms.amount_of(line)
        return b"".join(
            (
                self._start,
                binary_copy.integer(number),
                _WAITING,
                binary_copy.text(line_forms.operation_of(line)),
                binary_copy.text(line.line_reference),
                binary_copy.octets(form if sealed is None else None),
                binary_copy.octets(sealed),
                binary_copy.uuid(None if payment_id is None else payment_id.bytes),
                binary_copy.integer(of_line),
                binary_copy.integer(of_line),
                _NULLS_2,
                binary_copy.NULL if amount is None else binary_copy.bigint(amount),
                binary_copy.text(line.currency if isinstance(line, PaymentLine) else None),
            )
        )

    def _wrong_row(self, number: int, errors: bytes) -> bytes:
        null = binary_copy.NULL
        return b"".join(
            (
                self._start,
                binary_copy.integer(number),
                binary_copy.text("skipped"),
                binary_copy.text(""),
                null * 6,
                binary_copy.text("wrong"),
                binary_copy.octets(errors),
                null * 2,
            )
        )

    async def _write(self) -> None:
        """Begin to write what was checked, once the part before it is written."""
        await self._written()
        rows, self._rows, self._size = self._rows, [], 0
        if rows:
            self._writing = asyncio.create_task(self._copy(rows))

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _copy(self, rows: list[bytes]) -> None:
        async with self._pool.acquire() as connection:
            await binary_copy.copy(connection, "batch_lines", _COLUMNS, rows)


_WAITING: Final = binary_copy.text("waiting")
_NULLS_2: Final = binary_copy.NULL * 2
