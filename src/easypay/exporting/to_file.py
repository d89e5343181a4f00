"""An export into a file: under another name until it is whole, so that no half file looks whole."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from easypay.errors import EasyPayError
from easypay.exporting.parquet_file import ParquetFile
from easypay.exporting.run import Progress, Sink
from easypay.exporting.statement import Format

PARTIAL: Final = ".partial"


class CannotWrite(EasyPayError):
    """The file or pipe does not take the export."""


async def into_file(
    path: Path, format: Format, export: Callable[[Sink], Awaitable[Progress]]
) -> Progress:
    """Let `export` write to `path`. The file has that name only once all of it is on the disk.

    Until then its name ends in `.partial`; if anything stops the export, it is removed. A file that
    had the name before is replaced. Raises CannotWrite, and what `export` raises.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with _writing(path):
            file = partial.open("wb")
        with file:
            done = await into(file, format, export)
            with _writing(path):
                file.flush()
                os.fsync(file.fileno())
        if format is not Format.PARQUET and partial.stat().st_size != done.bytes:
            raise CannotWrite(f"{partial} has not the {done.bytes} bytes that were written")
        with _writing(path):
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return done


async def into(
    file: BinaryIO, format: Format, export: Callable[[Sink], Awaitable[Progress]]
) -> Progress:
    """Let `export` write to an open file or pipe. Raises CannotWrite."""
    if format is Format.PARQUET:
        rows = ParquetFile(file)
        done = await export(rows.take)
        await rows.end(done.rows)
        return done

    async def take(data: bytes) -> None:
        with _writing(file.name):
            file.write(data)

    done = await export(take)
    with _writing(file.name):
        file.flush()
    return done


@contextmanager
def _writing(name: object) -> Iterator[None]:
    """Say that it was the file that failed, not the database."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"cannot write to {name}: {error.strerror or error}. The export is not whole"
        ) from error
