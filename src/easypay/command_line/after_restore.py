"""`easypay db after-restore`: before gateways serve a database that was restored.

Exit status 0: done, and gateways may start. 1: refused, or an account could not be read. 2: not
typed right. 130: stopped by Ctrl-C.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    Wide,
    fail,
    show,
    show_rows,
    to_json,
    with_access,
)
from easypay.command_line.operations import Actor, actor_of, must_be_reason

if TYPE_CHECKING:
    from uuid import UUID

    from easypay.command_line.data_dir import Access
    from easypay.restoring.run import Report

_STOPPED: Final = 130
ITEMS: Final = Columns(
    ("what", "state", "transaction_id", "reference", "amount", "currency", "last4",
     "order_reference", "status", "payment_id", "why"),
    left_out_first=("last4", "currency", "reference", "order_reference", "why", "payment_id"),
)  # fmt: skip


def after_restore(
    since: Annotated[
        str | None,
        typer.Option(
            help="When the copy was made, such as 2026-11-30T12:00:00Z. Default: an hour before "
            "the newest sign in the database."
        ),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REFERENCE=mer_…",
            help="Whose a charge is, if several merchants share the account. May be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would come back, and write nothing.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Let gateways start without a look: nothing was lost."),
    ] = False,
    because: Annotated[
        str | None, typer.Option("--because", help="Why, with --accept. It is kept for ever.")
    ] = None,
    actor: Actor = None,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Bring back what the processor did after the copy that was restored; then gateways may start.

    It reads the lists of every account and writes the charges, refunds, captures and voids that
    the database does not know. It sends nothing that moves money. The Idempotency-Keys stay lost:
    for 30 days a payment that repeats one that came back is refused with 409
    `repeats_restored_payment`. If it is interrupted, run it again.

    Example: `easypay db after-restore --dry-run`

    Example: `easypay db after-restore --since 2026-11-30T12:00:00Z`

    Example: `easypay db after-restore --accept --because "pg_upgrade, gateways were stopped"`
    """
    if accept != (because is not None):
        raise typer.BadParameter("--accept and --because go together")
    if accept and (since or assign or dry_run):
        raise typer.BadParameter("--accept looks at nothing: leave the other options out")
    who = actor_of(actor)
    if because is not None:
        must_be_reason(because)
        _accept(data_dir, because, who, as_json)
        return
    moment = None if since is None else _moment(since)
    report = _report(data_dir, moment, dict(map(_assigned, assign or [])), dry_run, who, as_json)
    if as_json:
        print(to_json(report))  # noqa: T201
    else:
        show_rows(False, report.items, ITEMS, "Nothing is missing.", wide=wide)
        print(_summary(report))  # noqa: T201
    if not report.done:
        sys.exit(1)


def _report(
    data_dir: Path,
    since: datetime | None,
    assigned: "dict[str, UUID]",
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> "Report":
    """Do it, and return what was done."""
    from easypay import failpoints
    from easypay.command_line.data_dir import DataDirectory

    failpoints.arm(os.environ.get("EASYPAY_FAILPOINT"))

    async def work(connection: Any, access: "Access") -> "Report":
        found = DataDirectory(data_dir).processor_addresses()
        return await _bring_back(
            connection, access, found, since, assigned, dry_run, actor, as_json
        )

    try:
        report: Report = with_access(data_dir, work)
    except KeyboardInterrupt:
        print("easypay: stopped. Run the same command again", file=sys.stderr)  # noqa: T201
        sys.exit(_STOPPED)
    return report


async def _bring_back(
    connection: Any,
    access: "Access",
    addresses: dict[str, str],
    since: datetime | None,
    assigned: "dict[str, UUID]",
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> "Report":
    from easypay.command_line.at_the_processor import at_the_processor
    from easypay.db import partitions, set_back
    from easypay.db.migrate import require_schema
    from easypay.db.pooler import is_pooled
    from easypay.payments.audit_log import write_down
    from easypay.restoring.run import Restoring, default_since

    def tell(line: str) -> None:
        if not as_json:
            print(line, file=sys.stderr)  # noqa: T201

    await require_schema(connection)
    if await is_pooled(connection):
        fail(
            "this command needs a session of its own: connect to PostgreSQL itself, not to a "
            "pooler (EASYPAY_DATABASE_URL)"
        )
    begin = since or await default_since(connection)
    if not dry_run:
        now = datetime.now(UTC)
        months = (now.year - begin.year) * 12 + now.month - begin.month
        await partitions.ensure(connection, months_ahead=max(1, months), at=begin)
    tell(f"looking for what the processor has done since {begin:%Y-%m-%d %H:%M:%S} UTC")
    async with at_the_processor(connection, access, addresses) as tools:
        report = await Restoring(
            connection=connection,
            recorder=tools.recorder,
            processors=tools.processors,
            directory=tools.directory,
            since=begin,
            dry_run=dry_run,
            assigned=assigned,
            tell=tell,
        ).run()
    if report.done and not dry_run:
        detail = {"since": report.since.isoformat(), "items": len(report.items)}
        await write_down(connection, actor, "database.after_restore", "database", detail)
        await set_back.mark(connection)
    return report


def _accept(data_dir: Path, because: str, actor: str, as_json: bool) -> None:
    async def work(connection: Any, _: "Access") -> None:
        from easypay.db import set_back
        from easypay.db.migrate import require_schema
        from easypay.payments.audit_log import write_down

        await require_schema(connection)
        detail = {"reason": because, "was": await set_back.why_set_back(connection)}
        await write_down(connection, actor, "database.accept", "database", detail)
        await set_back.mark(connection)

    with_access(data_dir, work)
    show(as_json, {"accepted": True}, "Gateways may start.")


def _moment(text: str) -> datetime:
    """Return a moment of the last 180 days, in UTC."""
    from easypay.restoring.run import LONGEST

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    now = datetime.now(UTC)
    if found is None or found.tzinfo is None or not now - LONGEST <= found <= now:
        raise typer.BadParameter(
            "--since is a moment of the last 180 days with an offset, such as 2026-11-30T12:00:00Z"
        )
    return found.astimezone(UTC)


def _assigned(text: str) -> "tuple[str, UUID]":
    from easypay import ids
    from easypay.restoring.story import operation_id_of

    reference, _, shown = text.partition("=")
    merchant_id = ids.parse(ids.MERCHANT, shown)
    if operation_id_of(reference) is None or merchant_id is None:
        raise typer.BadParameter(f"--assign is REFERENCE=mer_…, not {text!r}")
    return reference, merchant_id


def _summary(report: "Report") -> str:
    counts = {
        word: sum(item.state == word for item in report.items)
        for word in ("restored", "open", "by_hand")
    }
    did = "would come back" if report.dry_run else "came back"
    lines = [f"{counts['restored'] + counts['open']} {did}."]
    if counts["open"]:
        lines.append(f"The outcome of {counts['open']} is open: the gateways will ask about them.")
    if counts["by_hand"]:
        lines.append(f"{counts['by_hand']} need a person: see docs/operations.md, after a restore.")
    failed = [each for each in report.accounts if each.failure]
    for each in failed:
        lines.append(f"Not read: the account of {', '.join(each.merchants)}: {each.failure}")
    if not report.done:
        lines.append(
            "Gateways do not start yet. Correct that and run this again, or let them start with "
            "--accept."
        )
    elif not report.dry_run:
        lines.append("Gateways may start.")
    return "\n".join(lines)
