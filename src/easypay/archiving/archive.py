"""Exports a month, verifies the files, and takes the month out of the database.

    watch the tables for changes → look what stands in the way → measure → write → read back and
    compare → write the manifest → detach, if nothing has changed → drop the tables

Until the detach the database has everything; after it the directory has. A run that was interrupted
is repeated with the same command: before the detach it starts over, afterwards it finishes.
"""

import errno
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from easypay import ids
from easypay.archiving import (
    csv_files,
    detach,
    directory,
    feed,
    manifest,
    parquet_files,
    row_changes,
)
from easypay.archiving.contents import Column, Contents, Measured, Tally, columns_of, measure
from easypay.archiving.manifest import Manifest, TableFile
from easypay.archiving.obstacles import Obstacle, find, forget_expired_keys
from easypay.archiving.session import database_identity, now
from easypay.db import archived_months, partitions
from easypay.db.archived_months import ArchivedMonth
from easypay.db.partitions import PARTITIONED, month_start, suffix_of, tables_of
from easypay.errors import EasyPayError
from easypay.failpoints import reach

Progress = Callable[[str, int, int], None]
"""Called with what is done now, and how many of how many bytes or rows are done."""

FORMATS: Final[dict[str, Any]] = {"csv": csv_files, "parquet": parquet_files}
_ROUNDS: Final = 3
"""How often the export is made again because a row has changed meanwhile."""
_EVERY: Final = 5_000
_SPARE: Final = 1.05
_PARQUET_SHARE: Final = 0.5
"""Parquet files have at most about half the bytes of the values as text."""
_OTHER_MONTHS: Final = """
    SELECT to_char(to_timestamp(('x' || substr(replace(payment_id::text, '-', ''), 1, 12))::bit(48)
               ::bigint / 1000.0) AT TIME ZONE 'UTC', 'YYYY_MM') AS month, count(*)
      FROM (SELECT payment_id FROM {operations} WHERE payment_id < $1
            UNION ALL SELECT payment_id FROM {events} WHERE payment_id < $1) AS outside
     GROUP BY 1 ORDER BY 1
"""


class CannotArchive(EasyPayError):
    """The month must stay. `obstacles` says why, if rows of it are the reason."""

    obstacles: Sequence[Obstacle] = ()

    @classmethod
    def because(cls, month: str, obstacles: Sequence[Obstacle]) -> "CannotArchive":
        """Return the refusal that names every obstacle."""
        lines = "".join(f"\n  {each.sentence()}" for each in obstacles)
        error = cls(f"{month} must stay in the database. In the way are:{lines}")
        error.obstacles = obstacles
        return error


class NotVerified(EasyPayError):
    """A file does not hold what the table holds."""


class ParquetMissing(EasyPayError):
    """The extra `parquet` is not installed."""


class Wish(NamedTuple):
    """What to archive, and where to. `label` is what merchants are told about where it is;
    `key_days` is how long an idempotency key gives its answer."""

    month: datetime
    directory: Path
    format: str
    label: str
    keep_tables: bool
    key_days: int = 30


class Done(msgspec.Struct, frozen=True):
    """A month that was archived."""

    month: str
    directory: str
    label: str
    rows: dict[str, int]
    bytes: int
    tables_kept: bool
    finished_earlier_run: bool


class Preview(msgspec.Struct, frozen=True):
    """What archiving a month would do, and what stands in the way."""

    month: str
    rows: dict[str, int]
    bytes_needed: int
    in_the_way: list[Obstacle]


def require_format(name: str) -> None:
    """Raise ParquetMissing if files of this format cannot be written or read here."""
    if name == "parquet" and not parquet_files.is_installed():
        raise ParquetMissing(
            "Parquet files need pyarrow, which is not installed. Install EasyPay with the extra "
            "`parquet` (pip install 'easypay[parquet]'), or use --format csv"
        )


async def archive(connection: Any, wish: Wish, progress: Progress) -> Done:
    """Archive a month, or finish doing so. `connection` is prepared by `session.prepare`.

    Raises CannotArchive, NotVerified, the errors of `directory`, `row_changes`, `detach` and
    `feed`, and the database's. In every case nothing is lost, and the command may be repeated.
    """
    earlier = await archived_months.named(connection, suffix_of(wish.month))
    if earlier is not None:
        return await _finish(connection, wish, _of_this_directory(wish, earlier), resumed=True)
    await _check_month(connection, wish.month)
    require_format(wish.format)
    await _refuse_if(connection, wish)
    database = await database_identity(connection)
    for _ in range(_ROUNDS):
        try:
            await row_changes.watch(connection, row_changes.of_export(wish.month))
            reach("archive_watches")
            await _refuse_if(connection, wish)
            made = await _export(connection, wish, database, progress)
            await feed.wait_for_readers(connection, await feed.head(connection))
            await forget_expired_keys(connection, wish.month, key_days=wish.key_days)
            await detach.detach(connection, wish.month, made)
        except detach.Changed:
            continue
        except Exception:
            await row_changes.unwatch(connection, row_changes.of_export(wish.month))
            raise
        reach("archive_detached")
        return await _finish(connection, wish, made, resumed=False)
    await row_changes.unwatch(connection, row_changes.of_export(wish.month))
    raise CannotArchive(
        f"payments of {suffix_of(wish.month)} changed during each of {_ROUNDS} exports. Try again "
        "when they are at rest"
    )


async def preview(connection: Any, wish: Wish) -> Preview:
    """Return what `archive` would do. Changes nothing."""
    require_format(wish.format)
    await _check_month(connection, wish.month)
    measured = await _measure(connection, wish.month)
    return Preview(
        month=suffix_of(wish.month),
        rows={table: each.contents.rows for table, each in measured.items()},
        bytes_needed=_needed(measured, wish.format),
        in_the_way=await find(connection, wish.month, key_days=wish.key_days),
    )


def _of_this_directory(wish: Wish, earlier: ArchivedMonth) -> Manifest:
    """Return the manifest of an archived month whose archive is in the directory that was named."""
    made = manifest.parse(earlier.manifest)
    try:
        here = manifest.read(wish.directory)
    except manifest.NotAnArchive:
        here = None
    if here != made:
        raise CannotArchive(
            f"{earlier.month} is archived already, since {earlier.archived_at:%Y-%m-%d %H:%M} UTC "
            f"(label: {earlier.label}), and {wish.directory} does not hold that archive"
        )
    return made


async def _check_month(connection: Any, month: datetime) -> None:
    """Raise CannotArchive unless the month is over and has tables."""
    suffix = suffix_of(month)
    if month >= month_start(await now(connection)):
        raise CannotArchive(f"{suffix} is not over yet: only months that are over can be archived")
    present = await partitions.attached(connection)
    missing = [name for name in tables_of(month).values() if name not in present]
    if missing:
        months = sorted(
            name.removeprefix("payments_") for name in present if name.startswith("payments_2")
        )
        raise CannotArchive(
            f"the database has no tables of {suffix}. It has {', '.join(months) or 'no months'}"
        )


async def _refuse_if(connection: Any, wish: Wish) -> None:
    if found := await find(connection, wish.month, key_days=wish.key_days):
        raise CannotArchive.because(suffix_of(wish.month), found)


async def _measure(connection: Any, month: datetime) -> dict[str, Measured]:
    found = {}
    for parent, table in tables_of(month).items():
        columns = await columns_of(connection, table)
        found[parent] = await measure(connection, parent, table, columns)
    return found


def _needed(measured: dict[str, Measured], file_format: str) -> int:
    share = _PARQUET_SHARE if file_format == "parquet" else 1.0
    return int(sum(each.text_bytes for each in measured.values()) * share * _SPARE)


async def _export(connection: Any, wish: Wish, database: str, progress: Progress) -> Manifest:
    """Write the files, compare them with the tables, and write the manifest."""
    suffix = suffix_of(wish.month)
    low, high = ids.lowest_id_at(wish.month), ids.lowest_id_at(month_start(wish.month, 1))
    migrations = [
        row[0] for row in await connection.fetch("SELECT name FROM migrations ORDER BY name")
    ]
    progress(f"measuring {suffix}", 0, 0)
    measured = await _measure(connection, wish.month)
    needed = _needed(measured, wish.format)
    directory.check_space(wish.directory, needed)
    directory.begin(wish.directory, suffix, database)
    reach("archive_begun")
    files = []
    try:
        for table in PARTITIONED:
            files.append(
                await _export_table(connection, wish, table, measured[table].contents, progress)
            )
            reach(f"archive_wrote_{table}")
        of_earlier = await connection.fetch(_OTHER_MONTHS.format(**tables_of(wish.month)), low)
        made = Manifest(
            version=manifest.VERSION,
            month=suffix,
            low=str(low),
            high=str(high),
            format=wish.format,
            easypay=version("easypay"),
            migrations=migrations,
            database=database,
            label=wish.label,
            made_at=await now(connection),
            of_earlier_months=dict(map(tuple, of_earlier)),
            tables=files,
        )
        directory.write_manifest(wish.directory, made)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        directory.discard(wish.directory)
        raise directory.too_small(
            wish.directory, needed, directory.free_bytes(wish.directory)
        ) from error
    reach("archive_manifest")
    return made


async def _export_table(
    connection: Any, wish: Wish, parent: str, expected: Contents, progress: Progress
) -> TableFile:
    table = tables_of(wish.month)[parent]
    files = FORMATS[wish.format]
    columns = await columns_of(connection, table)
    path = wish.directory / f"{parent}{files.SUFFIX}"
    await files.write(
        connection, table, columns, path, lambda size: progress(f"writing {path.name}", size, 0)
    )
    directory.flush(path)
    hashed = directory.sha256(path)
    found = read_back(path, wish.format, parent, columns, expected.rows, progress)
    if found != expected:
        if await row_changes.happened(connection, row_changes.of_export(wish.month)):
            raise detach.Changed
        raise NotVerified(
            f"{path} does not hold what {table} holds: {_difference(expected, found)}. Nothing was "
            "taken out of the database. Check the disk, and run the command again"
        )
    return TableFile(
        table=parent,
        file=path.name,
        bytes=path.stat().st_size,
        sha256=hashed,
        columns=columns,
        contents=found,
    )


def read_back(
    path: Path,
    file_format: str,
    parent: str,
    columns: Sequence[Column],
    rows: int,
    progress: Progress,
) -> Contents:
    """Return what a file holds. Raises NotVerified if it cannot be read. `rows` are expected."""
    tally = Tally(parent, columns)
    try:
        for row in FORMATS[file_format].read(path, columns):
            tally.add(row)
            if tally.rows % _EVERY == 0:
                progress(f"verifying {path.name}", tally.rows, rows)
    except ValueError as error:
        raise NotVerified(f"{path} is damaged: {error}") from error
    return tally.contents()


def _difference(expected: Contents, found: Contents) -> str:
    if expected.rows != found.rows:
        return f"{found.rows} rows instead of {expected.rows}"
    if expected.groups != found.groups:
        return "sums differ"
    return "values differ"


async def _finish(connection: Any, wish: Wish, made: Manifest, *, resumed: bool) -> Done:
    """Do what is left once the month has left the database."""
    directory.finish(wish.directory)
    reach("archive_finished")
    await feed.forget_search_rows(connection, wish.month)
    reach("archive_forgot")
    if not wish.keep_tables:
        await detach.drop_tables(connection, wish.month)
    return Done(
        month=made.month,
        directory=str(wish.directory),
        label=made.label,
        rows={each.table: each.contents.rows for each in made.tables},
        bytes=sum(each.bytes for each in made.tables),
        tables_kept=wish.keep_tables,
        finished_earlier_run=resumed,
    )
