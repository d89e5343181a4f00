"""`easypay db compact`.

Exit status 0: done, or nothing is due. 1: the month that was named stays as it is, with the reason.
2: not typed right. 130: stopped by Ctrl-C.
"""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from easypay.command_line.archive import key_days, month_of, shown_steps
from easypay.command_line.console import DATA_DIR, DataDir, Json, counted, run_async, to_json

if TYPE_CHECKING:
    from easypay.compaction.run import Report

_STOPPED: Final = 130


def compact_months(
    month: Annotated[
        str | None,
        typer.Argument(metavar="[MONTH]", help="A month, such as 2026-01. Default: all due."),
    ] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Rewrite the operations of months that are over: full pages, no stored replies.

    A gateway does it by itself, once a day. A month is due when its last idempotency key gives no
    answer any more (EASYPAY_IDEMPOTENCY_KEY_DAYS after its end), and stays as it is while an
    operation of it is open, watched or being given back. Gateways may run meanwhile. It needs room
    for the new table on the database's disk.

    If it is interrupted, run it again: it cleans up and starts over.

    Example: `easypay db compact 2026-01`
    """
    from easypay import failpoints
    from easypay.command_line.data_dir import DataDirectory

    failpoints.arm(os.environ.get("EASYPAY_FAILPOINT"))
    wanted, days = None if month is None else month_of(month), key_days()

    async def work() -> "Report":
        from easypay.compaction.run import connected, run

        url = DataDirectory(data_dir).database_url()
        async with connected(url) as connection, connected(url) as lease:
            with shown_steps(as_json) as progress:
                return await run(connection, lease, month=wanted, key_days=days, progress=progress)

    try:
        report: Report = run_async(work)
    except KeyboardInterrupt:
        print(  # noqa: T201
            "easypay: stopped. Nothing is lost: run the same command again", file=sys.stderr
        )
        sys.exit(_STOPPED)
    print(to_json(report) if as_json else _text(report))  # noqa: T201
    if month is not None and report.stay:
        sys.exit(1)


def _text(report: "Report") -> str:
    from easypay.archiving.directory import in_words

    lines = [
        f"Compacted {each.month}: {counted(each.operations, 'operation')}, now "
        f"{in_words(each.bytes_after)} instead of {in_words(each.bytes_before)}."
        for each in report.compacted
    ]
    lines += [each.why for each in report.stay]
    return "\n".join(lines) or "No month is due."
