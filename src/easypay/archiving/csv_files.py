"""CSV files, written and loaded by PostgreSQL itself, and read back here.

A null is an empty field, and an empty text is `""`. Python's own reader cannot tell the two apart,
so this module has one.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from easypay.archiving.contents import Column, Row
from easypay.archiving.directory import create

SUFFIX: Final = ".csv"
_CHUNK: Final = 1 << 20
_FIELD: Final = re.compile(rb'(?:(")([^"]*(?:""[^"]*)*)"|([^,]*)),')


def names_of(columns: Sequence[Column]) -> list[str]:
    """Return the names of columns."""
    return [column.name for column in columns]


async def write(
    connection: Any,
    table: str,
    columns: Sequence[Column],
    path: Path,
    wrote: Callable[[int], None],
) -> None:
    """Write all rows of a table, one stream, with one snapshot for as long as that takes.

    `wrote` is called with how many bytes were written so far. Raises OSError; the connection is
    then closed, because the driver can wait for ever for the end of a copy that it has cancelled.
    """
    # As text a truth value is `true`; COPY would write `t`.
    shown = ", ".join(
        f'"{each.name}"{"::text" if each.type == "boolean" else ""}' for each in columns
    )
    with create(path) as file:

        async def keep(data: bytes) -> None:
            file.write(data)
            wrote(file.tell())

        try:
            await connection.copy_from_query(
                f"SELECT {shown} FROM {table}", output=keep, format="csv", header=True
            )
        except OSError:
            connection.terminate()
            raise


def read(path: Path, columns: Sequence[Column]) -> Iterator[Row]:
    """Yield the rows of a file. Raises ValueError if it is not such a file, and OSError."""
    with path.open("rb") as file:
        records = _records(file)
        head = next(records, b"")
        if head != ",".join(names_of(columns)).encode():
            raise ValueError("its first line does not name the columns of the manifest")
        for record in records:
            row = _row(record)
            if len(row) != len(columns):
                raise ValueError(f"a row has {len(row)} values instead of {len(columns)}")
            yield row


async def load(
    connection: Any,
    table: str,
    columns: Sequence[Column],
    path: Path,
    loaded: Callable[[int], None],
) -> None:
    """Copy a file into a table. `loaded` is called with how many bytes were read so far."""

    async def chunks() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                loaded(file.tell())
                yield data

    await connection.copy_to_table(
        table, source=chunks(), columns=names_of(columns), format="csv", header=True
    )


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the records: a line break inside quotes belongs to a value."""
    parts: list[bytes] = []
    quotes = 0
    for line in file:
        parts.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield b"".join(parts).removesuffix(b"\n")
            parts.clear()
            quotes = 0
    if parts:
        raise ValueError("it ends in the middle of a value")


def _row(record: bytes) -> list[str | None]:
    if b'"' not in record:
        return [field.decode() if field else None for field in record.split(b",")]
    return [
        quoted.replace(b'""', b'"').decode() if mark else plain.decode() if plain else None
        for mark, quoted, plain in _FIELD.findall(record + b",")
    ]
