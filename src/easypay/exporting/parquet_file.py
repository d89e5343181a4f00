"""An export as a Parquet file. Needs the extra `parquet` (pyarrow).

PostgreSQL writes the rows as CSV, and pyarrow reads that: no row becomes an object of Python. Ids
are text, amounts whole numbers, times milliseconds in UTC. A text stays as it is: nobody runs the
formulas of a Parquet file. The file's own end has the number of rows; a file that was cut has none.
"""

import asyncio
import io
from typing import Any, BinaryIO, Final

from easypay.exporting.columns import COLUMNS, NAMES, Kind

_GROUP_BYTES: Final = 4 << 20
"""Bytes of CSV that become one row group: about 13,000 rows. So much is held in memory."""


class ParquetFile:
    """Takes the CSV of an export, whole lines at a time, and writes a file."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow
        from pyarrow import parquet

        self._schema = pyarrow.schema(
            [(column.name, _type(pyarrow, column.kind)) for column in COLUMNS]
        )
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._held = bytearray()

    async def take(self, data: bytes) -> None:
        """Take whole lines. Another thread writes them, so that the caller's loop goes on."""
        self._held += data
        if len(self._held) >= _GROUP_BYTES:
            await asyncio.to_thread(self._write)

    async def end(self, rows: int) -> None:
        """Write what is left, and the file's end."""

        def finish() -> None:
            self._write()
            self._writer.add_key_value_metadata({"easypay.rows": str(rows)})
            self._writer.close()

        await asyncio.to_thread(finish)

    def _write(self) -> None:
        if not self._held:
            return
        from pyarrow import csv

        data, self._held = bytes(self._held), bytearray()
        table = csv.read_csv(
            io.BytesIO(data),
            read_options=csv.ReadOptions(column_names=NAMES, use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=self._schema,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,  # an empty text is not a null
            ),
        )
        self._writer.write_table(table)


def _type(pyarrow: Any, kind: Kind) -> Any:
    match kind:
        case Kind.NUMBER:
            return pyarrow.int64()
        case Kind.TIME:
            return pyarrow.timestamp("ms", tz="UTC")
        case Kind.ID | Kind.WORD | Kind.TEXT | Kind.OBJECT:
            return pyarrow.string()
