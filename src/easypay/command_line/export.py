"""`easypay export`: payments as CSV, JSON lines or Parquet, straight from the database.

Exit status 0: the file is whole. 1: refused or failed, with the reason; there is no file. 2: not
typed right. 130: stopped by Ctrl-C; there is no file.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    DataDir,
    Json,
    counted,
    fail,
    progress_bar,
    run_async,
    to_json,
)
from easypay.exporting.statement import Format

if TYPE_CHECKING:
    from easypay.exporting.run import Progress, Sink, Watcher
    from easypay.exporting.statement import Wish

_STOPPED: Final = 130
_STANDARD_OUTPUT: Final = "-"
_FILTERS: Final = "Only payments that fit"


def _filter(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel=_FILTERS)


def export(
    context: typer.Context,
    merchant: Annotated[str, typer.Option(help="Whose payments: `mer_…`.")],
    to: Annotated[str, typer.Option("--to", help="The file; - is standard output.")],
    mode: Annotated[str, typer.Option(help="test or live.")] = "live",
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="csv, jsonl or parquet. Default: as the file's name ends."),
    ] = None,
    created_from: Annotated[
        str | None, _filter("Created at or after this time, such as 2026-11-01T00:00:00Z.")
    ] = None,
    created_to: Annotated[str | None, _filter("Created before this time.")] = None,
    status: Annotated[str | None, _filter("With this status now.")] = None,
    currency: Annotated[str | None, _filter("In this currency.")] = None,
    amount_from: Annotated[str | None, _filter("Of at least this, in minor units.")] = None,
    amount_to: Annotated[str | None, _filter("Of at most this, in minor units.")] = None,
    last4: Annotated[str | None, _filter("By a card or account with these digits.")] = None,
    brand: Annotated[str | None, _filter("By a card of this brand.")] = None,
    decline_code: Annotated[str | None, _filter("Declined with this code.")] = None,
    refunded: Annotated[str | None, _filter("true: partly or wholly; false: not.")] = None,
    order_reference: Annotated[str | None, _filter("With this order reference.")] = None,
    customer_reference: Annotated[str | None, _filter("With this customer reference.")] = None,
    customer: Annotated[str | None, _filter("With a stored method of this customer.")] = None,
    processor_transaction_id: Annotated[
        str | None, _filter("With this transaction id of the processor.")
    ] = None,
    processor_reference: Annotated[
        str | None, _filter("With this operation: what the processor calls invoice number.")
    ] = None,
    order: Annotated[str, typer.Option(help="newest or oldest first.")] = "newest",
    share: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Part of the time to work while payments are written."),
    ] = 0.1,
    longest_s: Annotated[
        float, typer.Option(min=1, help="Seconds after which it gives up.")
    ] = 3600,
    progress: Annotated[bool, typer.Option("--progress", help="Show how far it is.")] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Export a merchant's payments to a file, from one snapshot.

    The last line of CSV and JSON lines is the number of rows; Parquet has it in its end. The file
    is FILE.partial until it is whole. Archived months are not in it. Gateways may run meanwhile:
    the export makes way for payments.

    Example: `easypay export --merchant mer_… --to november.csv --created-from 2026-11-01T00:00:00Z`

    Example: `easypay export --merchant mer_… --status declined --format jsonl --to - > x`

    While it runs, the database keeps old row versions; so export month by month if it takes long.
    """
    given = {name: context.params[name] for name in _query_names()}
    chosen = _format(file_format, to)
    if to == _STANDARD_OUTPUT and as_json:
        raise typer.BadParameter("--json needs a file: --to - writes the export itself there")
    wish = _wish(merchant, mode, {name: v for name, v in given.items() if v is not None}, chosen)
    done, seconds = _run(data_dir, wish, to, share, longest_s, progress)
    summary = {"rows": done.rows, "format": chosen, "file": to, "seconds": round(seconds, 1)}
    if as_json:
        print(to_json(summary))  # noqa: T201
    else:
        where = "standard output" if to == "-" else to
        print(  # noqa: T201
            f"{counted(done.rows, 'payment')} in {where} in {seconds:,.1f} s.", file=sys.stderr
        )


# what was typed --------------------------------------------------------------------------------


def _query_names() -> tuple[str, ...]:
    from easypay.api.payment_filters import NAMES

    return ("created_from", "created_to", "order", *NAMES)


def _format(given: Format | None, to: str) -> Format:
    """Return the format, by default that of the file's name. Fail if it cannot be written here."""
    ending = Path(to).suffix.removeprefix(".")
    if given is None and ending not in list(Format):
        raise typer.BadParameter(
            f"--to {to} names no format: add --format with one of {', '.join(Format)}"
        )
    chosen = given or Format(ending)
    if chosen is Format.PARQUET:
        from easypay.archiving.parquet_files import is_installed

        if not is_installed():
            fail("Parquet files need pyarrow: install easypay[parquet], or use --format csv")
        if to == _STANDARD_OUTPUT:
            raise typer.BadParameter("--format parquet needs a file")
    return chosen


def _wish(merchant: str, mode: str, given: dict[str, str], format: Format) -> "Wish":
    """Return what is to be exported. The filters are read as those of the API are."""
    from easypay import ids
    from easypay.api import payment_filters
    from easypay.api.paging import span_between
    from easypay.errors import ValidationFailed
    from easypay.exporting.statement import Wish
    from easypay.mode import MODE, Mode

    merchant_id = ids.parse(ids.MERCHANT, merchant)
    if merchant_id is None:
        raise typer.BadParameter(f"{merchant!r} is not a merchant id (mer_…)")
    if mode not in MODE:
        raise typer.BadParameter(f"--mode is {' or '.join(Mode)}")
    try:
        span = span_between(merchant_id, MODE[mode], given)
        return Wish(span, payment_filters.filters_of(given), format)
    except ValidationFailed as error:
        (field,) = error.fields
        option = field.pointer.removeprefix("?").replace("_", "-")
        raise typer.BadParameter(f"--{option}: {field.detail}") from None


# how it runs -----------------------------------------------------------------------------------


def _run(
    data_dir: Path, wish: "Wish", to: str, share: float, longest_s: float, progress: bool
) -> "tuple[Progress, float]":
    """Run the export. Return how much it was, and how long it took in seconds."""
    from easypay.clock import stopwatch
    from easypay.command_line.data_dir import DataDirectory

    started = stopwatch()

    async def work() -> "Progress":
        from easypay import ids
        from easypay.exporting.run import run
        from easypay.exporting.snapshot import Snapshot
        from easypay.exporting.to_file import into, into_file
        from easypay.merchants.admin import get_merchant

        snapshot = await Snapshot.open(DataDirectory(data_dir).database_url(), limit_s=longest_s)
        try:
            await get_merchant(snapshot.connection, wish.span.merchant_id)
            with _shown_progress(progress, ids.typed(ids.MERCHANT, wish.span.merchant_id)) as watch:

                async def export(sink: "Sink") -> "Progress":
                    return await run(
                        snapshot, wish, sink, share=share, limit_s=longest_s, watch=watch
                    )

                if to == _STANDARD_OUTPUT:
                    return await into(sys.stdout.buffer, wish.format, export)
                return await into_file(Path(to), wish.format, export)
        finally:
            snapshot.cut()

    try:
        return run_async(work), stopwatch() - started
    except KeyboardInterrupt:
        what = "is not whole" if to == _STANDARD_OUTPUT else "was not made"
        print(f"easypay: stopped. The export {what}", file=sys.stderr)  # noqa: T201
        sys.exit(_STOPPED)


@contextmanager
def _shown_progress(wanted: bool, merchant: str) -> "Iterator[Watcher]":
    """Show how far an export is, if that is wanted."""
    texts = ("{task.fields[rows]:,} payments", "{task.fields[months]}")
    with progress_bar(wanted, merchant, *texts, rows=0, months="") as renew:
        yield lambda progress: renew(
            total=progress.months,
            completed=progress.months_done,
            rows=progress.rows,
            months=f"{progress.months_done:.0f}/{progress.months} months",
        )
