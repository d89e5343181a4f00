"""Parquet files, with the types that analysis tools expect. Needs the extra `parquet` (pyarrow).

Ids, JSON and transaction numbers are text; times are microseconds in UTC; bytes are bytes.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from easypay.archiving.contents import Column, Row
from easypay.archiving.csv_files import names_of
from easypay.archiving.directory import create

SUFFIX: Final = ".parquet"
_BATCH: Final = 5_000
"""Rows. A batch is what is held in memory."""
_NATIVE: Final = {
    "bigint": "int64",
    "integer": "int32",
    "smallint": "int16",
    "boolean": "bool_",
    "bytea": "binary",
}
"""Types that keep their kind, apart from times; every other is written as text."""
_TIME: Final = "timestamp with time zone"


def is_installed() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


async def write(
    connection: Any,
    table: str,
    columns: Sequence[Column],
    path: Path,
    wrote: Callable[[int], None],
) -> None:
    """Write all rows of a table, with one snapshot for as long as that takes.

    `wrote` is called with how many bytes were written so far. Raises OSError.
    """
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(each.name, _type(pyarrow, each)) for each in columns])
    shown = ", ".join(
        f'"{each.name}"{"" if each.type in (*_NATIVE, _TIME) else "::text"}' for each in columns
    )
    with create(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as out:

        def add(rows: list[Any]) -> None:
            values = list(zip(*rows, strict=True))
            arrays = [
                pyarrow.array(each, type=field.type)
                for each, field in zip(values, schema, strict=True)
            ]
            out.write_batch(pyarrow.RecordBatch.from_arrays(arrays, schema=schema))
            wrote(file.tell())

        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(f"SELECT {shown} FROM {table}")
            while rows := await cursor.fetch(_BATCH):
                add(rows)


def read(path: Path, columns: Sequence[Column]) -> Iterator[Row]:
    """Yield the rows of a file, as PostgreSQL writes values as text.

    Raises ValueError if it is not such a file, and OSError.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        if file.schema_arrow.names != names_of(columns):
            raise ValueError("it does not have the columns of the manifest")
        as_text = [_AS_TEXT.get(each.type) for each in columns]
        for batch in file.iter_batches(batch_size=_BATCH):
            values = [
                each.to_pylist()
                if text is None
                else [None if v is None else text(v) for v in each.to_pylist()]
                for each, text in zip(batch.columns, as_text, strict=True)
            ]
            yield from zip(*values, strict=True)


async def load(
    connection: Any,
    table: str,
    columns: Sequence[Column],
    path: Path,
    loaded: Callable[[int], None],
) -> None:
    """Copy a file into a table. `loaded` is called with an estimate of the bytes read so far."""
    from pyarrow import parquet

    rows = max(1, parquet.read_metadata(path).num_rows)
    size = path.stat().st_size  # noqa: ASYNC240 - the command does nothing else

    async def lines() -> AsyncIterator[bytes]:
        lot: list[str] = []
        for number, row in enumerate(read(path, columns), 1):
            lot.append(",".join("" if each is None else _quoted(each) for each in row))
            if len(lot) == _BATCH or number == rows:
                yield ("\n".join(lot) + "\n").encode()
                lot.clear()
                loaded(size * number // rows)

    await connection.copy_to_table(table, source=lines(), columns=names_of(columns), format="csv")


def _type(pyarrow: Any, column: Column) -> Any:
    if column.type == _TIME:
        return pyarrow.timestamp("us", tz="UTC")
    return getattr(pyarrow, _NATIVE.get(column.type, "string"))()


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _time(value: datetime) -> str:
    """Return a time as PostgreSQL writes it: no zeros at the end of the fraction."""
    moment = value.astimezone(UTC)
    fraction = f".{moment.microsecond:06}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}+00"


_AS_TEXT: Final[dict[str, Callable[[Any], str]]] = {
    "bigint": str,
    "integer": str,
    "smallint": str,
    "boolean": lambda value: "true" if value else "false",
    "bytea": lambda value: "\\x" + value.hex(),
    _TIME: _time,
}
