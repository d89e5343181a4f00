"""Brings an archived month back from its files.

First all files are compared with the manifest; a damaged one is named and nothing happens. Then one
transaction makes the tables, loads the files, compares what was loaded with the manifest and
attaches the month. So a run that was interrupted leaves nothing, and is repeated.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from easypay.archiving import archive, detach, directory, feed, manifest
from easypay.archiving.archive import FORMATS, Progress
from easypay.archiving.contents import columns_of, measure
from easypay.archiving.manifest import Manifest, TableFile
from easypay.db import archived_months, partitions
from easypay.db.partitions import tables_of
from easypay.errors import EasyPayError
from easypay.failpoints import reach


class CannotRestore(EasyPayError):
    """The month cannot be brought back. Nothing was changed."""


class Damaged(CannotRestore):
    """A file of the archive is not what it was."""


class Restored(msgspec.Struct, frozen=True):
    """A month that was brought back."""

    month: str
    directory: str
    rows: dict[str, int]


async def restore(connection: Any, path: Path, progress: Progress) -> Restored:
    """Bring back the month whose archive is in `path`. `connection` is prepared by
    `session.prepare`.

    Raises NotAnArchive, CannotRestore, and the errors of `make_closed_month` and the database.
    """
    made = manifest.read(path)
    month = month_of(made)
    archive.require_format(made.format)
    await _check_database(connection, made, path)
    for each in made.tables:
        _check_file(path, made, each, progress)
    reach("restore_checked")

    async def fill(tables: Mapping[str, str]) -> None:
        for each in made.tables:
            await _load(connection, tables[each.table], path, made, each, progress)
        reach("restore_loaded")
        await feed.adopt(connection, month, dict(tables))
        await connection.execute("DELETE FROM archived_months WHERE month = $1", made.month)
        await detach.drop_tables(connection, month)

    progress(f"building indexes of {made.month}", 0, 0)
    try:
        await partitions.make_closed_month(connection, month, fill)
    except asyncpg.DiskFullError as error:
        needed = directory.in_words(sum(each.bytes for each in made.tables) * 2)
        raise CannotRestore(
            f"the database's disk is too small ({error}): the month needs about {needed} there. "
            "Nothing was changed"
        ) from error
    reach("restore_attached")
    for name in tables_of(month).values():
        await connection.execute(f"VACUUM (ANALYZE) {name}")
    return Restored(
        month=made.month,
        directory=str(path),
        rows={each.table: each.contents.rows for each in made.tables},
    )


def month_of(made: Manifest) -> datetime:
    """Return the first instant of an archive's month. Raises NotAnArchive."""
    with suppress(ValueError):
        month = datetime.strptime(f"{made.month}+0000", "%Y_%m%z")
        if partitions.suffix_of(month) == made.month:
            return month
    raise manifest.NotAnArchive(f"the manifest names the month {made.month!r}, which is none")


async def _check_database(connection: Any, made: Manifest, path: Path) -> None:
    """Raise CannotRestore unless the database lacks this month and can take it."""
    present = await partitions.attached(connection)
    month = month_of(made)
    if there := sorted(set(tables_of(month).values()) & present):
        raise CannotRestore(f"the database has {made.month} already: {', '.join(there)}")
    known = await archived_months.every(connection)
    for each in known:
        if each.month == made.month and manifest.parse(each.manifest) != made:
            raise CannotRestore(
                f"{path} is not the archive that took {made.month} out of the database: that one "
                f"was made on {each.archived_at:%Y-%m-%d %H:%M} UTC (label: {each.label})"
            )
        held = manifest.parse(each.manifest).of_earlier_months.get(made.month, 0)
        if held:
            raise CannotRestore(
                f"restore {each.month} first (label: {each.label}): it holds {held} operations and "
                f"events of payments of {made.month}"
            )
    for file in made.tables:
        present_columns = set(await columns_of(connection, file.table))
        gone = [column.name for column in file.columns if column not in present_columns]
        if gone:
            raise CannotRestore(
                f"{file.table} no longer has the column {gone[0]} as the archive has it: use the "
                f"EasyPay that wrote the archive ({made.easypay})"
            )


def _check_file(path: Path, made: Manifest, each: TableFile, progress: Progress) -> None:
    """Raise Damaged unless a file is, byte for byte and value for value, what was written."""
    file = path / each.file
    if file.parent != path or each.table not in partitions.PARTITIONED:
        raise Damaged(f"the manifest names {each.file!r} for {each.table!r}, which it never does")
    progress(f"checking {each.file}", 0, 0)
    try:
        if file.stat().st_size != each.bytes:
            raise Damaged(
                f"{file} is damaged: it has {file.stat().st_size} bytes instead of {each.bytes}. "
                "Nothing was restored. Take it from another copy of the archive"
            )
        if directory.sha256(file) != each.sha256:
            raise Damaged(
                f"{file} is damaged: its SHA-256 is not the manifest's. Nothing was restored. Take "
                "it from another copy of the archive"
            )
    except OSError as error:
        raise Damaged(f"{file} cannot be read: {error.strerror}. Nothing was restored") from None


async def _load(
    connection: Any,
    table: str,
    path: Path,
    made: Manifest,
    each: TableFile,
    progress: Progress,
) -> None:
    file = path / each.file
    try:
        await FORMATS[made.format].load(
            connection,
            table,
            each.columns,
            file,
            lambda size: progress(f"loading {each.file}", size, each.bytes),
        )
    except (ValueError, asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        why = error.args[0] if error.args else error  # without the row, which the server adds
        raise Damaged(f"{file} cannot be loaded: {why}. Nothing was restored") from error
    progress(f"verifying {each.table}", 0, 0)
    found = (await measure(connection, each.table, table, each.columns)).contents
    if found != each.contents:
        raise Damaged(
            f"{file} does not hold what the manifest says: counts, sums or values differ. Nothing "
            "was restored"
        )
