"""`easypay db archive` and `easypay db restore-month`.

Exit status 0: done. 1: refused, with the reason; nothing was changed. 2: not typed right. 130:
stopped by Ctrl-C.
"""

import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    DataDir,
    Json,
    fail,
    progress_bar,
    run_async,
    to_json,
)

if TYPE_CHECKING:
    from easypay.archiving.archive import Done, Preview, Progress

_MONTH: Final = re.compile(r"(2\d{3})[-_](0[1-9]|1[0-2])")
_LONGEST_LABEL: Final = 200
_STOPPED: Final = 130


class Format(StrEnum):
    """How the rows are written."""

    CSV = "csv"
    PARQUET = "parquet"


def archive_month(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="The month, such as 2026-01.")],
    to: Annotated[Path, typer.Option("--to", help="An empty or new directory for the archive.")],
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="csv or parquet. Default: parquet if pyarrow is installed."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="What merchants who ask for an archived payment are told about where it is. "
            "Default: the month."
        ),
    ] = None,
    keep_tables: Annotated[
        bool, typer.Option("--keep-tables", help="Rename the tables and do not drop them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would happen and what is in the way.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Export a month's payments, operations and events to files, and take them out of the database.

    The files are read back and compared with the database before anything is removed. A month stays
    if anything in it may still change: open or refundable payments, open or watched operations,
    live idempotency keys. So normally it must be more than 180 days old. Afterwards its payments
    answer 410 `archived` and are in no list. Gateways may run meanwhile.

    If it is interrupted, run the same command again.

    Example: `easypay db archive 2026-01 --to /srv/archive/2026-01 --label cold-storage`
    """
    start = month_of(month)
    chosen, kept_days = _label(label, start), key_days()

    async def work(connection: Any, progress: "Progress") -> "Done | Preview":
        from easypay.archiving import archive, parquet_files

        default = Format.PARQUET if parquet_files.is_installed() else Format.CSV
        wanted = file_format or default
        wish = archive.Wish(start, to.absolute(), wanted, chosen, keep_tables, kept_days)
        if dry_run:
            return await archive.preview(connection, wish)
        return await archive.archive(connection, wish, progress)

    done = _run(data_dir, as_json, work)
    if as_json:
        print(to_json(done))  # noqa: T201
    else:
        print(_preview_text(done) if dry_run else _done_text(done))  # noqa: T201


def restore_month(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The archive's directory.")],
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Bring an archived month back into the database.

    All files are compared with their manifest first. If one is damaged, it is named and nothing
    happens. The archive stays where it is. Gateways may run meanwhile.

    Example: `easypay db restore-month /srv/archive/2026-01`
    """

    async def work(connection: Any, progress: "Progress") -> Any:
        from easypay.archiving.restore import restore

        return await restore(connection, directory.absolute(), progress)

    done = _run(data_dir, as_json, work)
    text = f"Restored {done.month}: {_rows_text(done.rows)}."
    print(to_json(done) if as_json else text)  # noqa: T201


# what was typed --------------------------------------------------------------------------------


def month_of(text: str) -> datetime:
    """Return the first instant of a month that was typed as 2026-01 or 2026_01."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise typer.BadParameter("MONTH is a year and a month, such as 2026-01")
    return datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)


def _label(given: str | None, month: datetime) -> str:
    if given is None:
        return f"{month:%Y-%m}"
    if not given.strip() or len(given) > _LONGEST_LABEL or not given.isprintable():
        raise typer.BadParameter(
            f"--label is 1 to {_LONGEST_LABEL} characters without control characters"
        )
    return given


def key_days() -> int:
    """Return how long idempotency keys give their answer: the gateway's own setting."""
    from easypay.settings import Settings

    default = Settings.model_fields["idempotency_key_days"].default
    text = os.environ.get("EASYPAY_IDEMPOTENCY_KEY_DAYS", str(default)).strip()
    if not text.isdigit() or int(text) < 1:
        fail("EASYPAY_IDEMPOTENCY_KEY_DAYS must be a number of days, at least 1")
    return int(text)


# how it runs -----------------------------------------------------------------------------------


def _run(data_dir: Path, as_json: bool, work: Callable[[Any, "Progress"], Awaitable[Any]]) -> Any:
    """Run `work(connection, progress)`. A refusal ends the program with status 1."""
    from easypay import failpoints
    from easypay.archiving.archive import CannotArchive
    from easypay.command_line.data_dir import DataDirectory

    failpoints.arm(os.environ.get("EASYPAY_FAILPOINT"))

    async def run() -> Any:
        import asyncpg

        from easypay.archiving import session

        url = DataDirectory(data_dir).database_url()
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await session.prepare(connection)
            with shown_steps(as_json) as progress:
                return await work(connection, progress)
        except CannotArchive as error:
            if as_json and error.obstacles:
                print(to_json({"in_the_way": error.obstacles}))  # noqa: T201
            raise
        finally:
            await connection.close(timeout=5)

    try:
        return run_async(run)
    except KeyboardInterrupt:
        print(  # noqa: T201
            "easypay: stopped. Nothing is lost: run the same command again to finish or start over",
            file=sys.stderr,
        )
        sys.exit(_STOPPED)


@contextmanager
def shown_steps(as_json: bool) -> Iterator["Progress"]:
    """Show step by step how far a command is: in a terminal, and nothing for scripts."""
    wanted = not as_json and sys.stderr.isatty()
    with progress_bar(wanted, "starting", "{task.completed:,.0f}", remaining=False) as renew:
        yield lambda what, done, total: renew(description=what, completed=done, total=total or None)


# what is said ----------------------------------------------------------------------------------


def _rows_text(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {table}" for table, count in rows.items())


def _done_text(done: "Done") -> str:
    from easypay.archiving.directory import in_words

    kept = "; its tables were kept, renamed" if done.tables_kept else ""
    verb = "Finished archiving" if done.finished_earlier_run else "Archived"
    return (
        f"{verb} {done.month}{kept}: {_rows_text(done.rows)}; {in_words(done.bytes)} in "
        f"{done.directory}.\nKeep this directory: it is the only copy."
    )


def _preview_text(seen: "Preview") -> str:
    from easypay.archiving.directory import in_words

    text = (
        f"{seen.month} has {_rows_text(seen.rows)}. "
        f"An archive needs about {in_words(seen.bytes_needed)}."
    )
    if not seen.in_the_way:
        return f"{text}\nNothing is in the way. Nothing was changed."
    lines = "".join(f"\n  {each.sentence()}" for each in seen.in_the_way)
    return f"{text}\nIn the way are:{lines}\nNothing was changed."
