"""Rows in PostgreSQL's binary COPY format: the quickest way to write millions of them.

A field is its length in four bytes and its value; a row is its number of fields and the fields.
Each function returns a whole field. `copy` sends rows that `row` has made.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
"""What a whole file of rows begins and ends with."""
NULL: Final = b"\xff\xff\xff\xff"
TRUE: Final = b"\x00\x00\x00\x01\x01"
FALSE: Final = b"\x00\x00\x00\x01\x00"
_UUID: Final = b"\x00\x00\x00\x10"
_JSONB_VERSION: Final = b"\x01"
_2000_US: Final = 946_684_800_000_000
"""PostgreSQL counts microseconds from the year 2000."""

_length = struct.Struct(">i").pack
_int2 = struct.Struct(">ih").pack
_int4 = struct.Struct(">ii").pack
_int8 = struct.Struct(">iq").pack
_count = struct.Struct(">h").pack


def text(value: str | None) -> bytes:
    """Return a text field."""
    return NULL if value is None else octets(value.encode())


def octets(value: bytes | None) -> bytes:
    """Return a bytea field."""
    return NULL if value is None else _length(len(value)) + value


def uuid(value: bytes | None) -> bytes:
    """Return a uuid field from its 16 bytes."""
    return NULL if value is None else _UUID + value


def jsonb(value: bytes | None) -> bytes:
    """Return a jsonb field from JSON text."""
    return NULL if value is None else octets(_JSONB_VERSION + value)


def smallint(value: int | None) -> bytes:
    return NULL if value is None else _int2(2, value)


def integer(value: int | None) -> bytes:
    return NULL if value is None else _int4(4, value)


def bigint(value: int) -> bytes:
    return _int8(8, value)


def moment(unix_us: int | None) -> bytes:
    """Return a timestamptz field from microseconds since 1970."""
    return NULL if unix_us is None else _int8(8, unix_us - _2000_US)


def row_start(columns: Sequence[str]) -> bytes:
    """Return what every row of these columns begins with."""
    return _count(len(columns))


async def copy(
    connection: Any,
    table: str,
    columns: Sequence[str],
    rows: Sequence[bytes],
    *,
    freeze: bool = False,
) -> None:
    """Write rows with one COPY. `freeze`: the table was made in this transaction.

    Has no time limit of its own. Raises the database's errors.
    """
    if rows:
        await connection.copy_to_table(
            table,
            source=memoryview(b"".join((HEADER, *rows, TRAILER))),  # bytes would be a path
            columns=columns,
            format="binary",
            freeze=freeze or None,
        )
