"""`easypay db …`: what is in the database, and filling one for a trial.

Exit status 0: done, or nothing is wrong. 1: refused, with the reason, or an alarm. 2: not typed
right; for `doctor`, something is bad. 130: stopped by Ctrl-C.
"""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    NO_LIMIT,
    Columns,
    DataDir,
    Json,
    Wide,
    counted,
    fail,
    new_group,
    progress_bar,
    run_async,
    show,
    show_rows,
    to_json,
)

if TYPE_CHECKING:
    from easypay.db.connection_budget import Budget
    from easypay.db.month_report import MonthSize, Report
    from easypay.db.table_sizes import TableSize
    from easypay.payments.statistics_check import Difference
    from easypay.seeding.plan import Plan
    from easypay.seeding.run import Progress

database = new_group(
    "Look after the database: its health, months, sizes, archives, and what a restore needs."
)

_STOPPED: Final = 130
DIFFERENCES: Final = Columns(
    ("merchant_id", "mode", "grain", "start", "currency", "brand", "counter", "stored", "by_rows",
     "stored_minor", "by_rows_minor"),
    left_out_first=("stored_minor", "by_rows_minor", "brand"),
)  # fmt: skip
_EARLIEST: Final = datetime(2010, 1, 1, tzinfo=UTC)
_TABLES: Final = ("payments", "operations", "events")


def on_database(data_dir: Path, work: Callable[[str, Any], Awaitable[Any]]) -> Any:
    """Run `work(url, connection)` on the database of the environment or the data directory."""

    async def run() -> Any:
        from easypay.command_line.data_dir import DataDirectory
        from easypay.db.connections import Connector

        url = DataDirectory(data_dir).database_url()
        connection = await Connector(url).connect(timeout=10)
        try:
            return await work(url, connection)
        finally:
            await connection.close(timeout=5)

    return run_async(run)


@database.command("doctor")
def doctor(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Say what is wrong with the database, why it matters, and how to repair it.

    It looks at the schema, months and feed, sessions and locks, replication, settings, vacuum,
    indexes and slow statements. It only reads, waits for no lock, and ends within a minute.

    Exit status 0: all is well. 1: warnings. 2: something is bad, or could cost payments.

    Example: `easypay db doctor`

    It sees other users' sessions only as a superuser or a member of pg_monitor.
    """
    from easypay.command_line.archive import key_days
    from easypay.command_line.doctor_report import report
    from easypay.doctor.examine import examine
    from easypay.doctor.findings import worst

    ahead, days = _months_ahead(), key_days()
    found = on_database(
        data_dir,
        lambda url, connection: examine(connection, months_ahead=ahead, key_days=days),
    )
    report(found, as_json=as_json)
    sys.exit(worst(found))


# seed ------------------------------------------------------------------------------------------


@database.command("seed")
def seed(
    payments: Annotated[int, typer.Option(min=1, max=10**9, help="How many payments.")] = 200_000,
    months: Annotated[
        int, typer.Option(min=1, max=240, help="Over how many months, up to now.")
    ] = 36,
    merchants: Annotated[
        int, typer.Option(min=1, max=100_000, help="Of how many merchants; one has a third.")
    ] = 2_000,
    number: Annotated[
        int, typer.Option("--seed", help="The same number makes the same payments.")
    ] = 1,
    until: Annotated[
        str | None, typer.Option(help="When the newest payment was made. Default: now.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that write. Default: the cores.")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove everything that a seed made, and stop.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Fill a database with realistic payments, to try EasyPay or to measure its speed.

    Payments of every status, with their captures, refunds, voids, operations and events; keys and
    replies of the last 30 days. All cards are test numbers. Nothing is sent to a processor, now or
    later. It refuses a database with payments that no seed made.

    Example: `easypay db seed --payments 10000000 --months 36`

    Ctrl-C stops it; the same command goes on where it stopped. `--clear` removes what it made.
    """
    if clear:
        _clear(data_dir, as_json)
        return
    end = None if until is None else _moment(until)

    async def work(url: str, connection: Any) -> dict[str, Any]:
        from easypay.seeding.plan import Plan

        now = await connection.fetchval("SELECT now()")
        wanted = Plan(payments, months, merchants, number, end or now)
        return await _seed(url, connection, wanted, processes, as_json)

    try:
        done = on_database(data_dir, work)
    except KeyboardInterrupt:
        print(  # noqa: T201
            "easypay: stopped. The months that were written are whole: repeat the command to go "
            "on, or remove them with `easypay db seed --clear`",
            file=sys.stderr,
        )
        sys.exit(_STOPPED)
    print(to_json(done) if as_json else _seeded_text(done))  # noqa: T201


def _moment(text: str) -> datetime:
    """Return a moment in the past, in UTC."""
    found = None
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
    if found is None or found.tzinfo is None or not _EARLIEST < found <= datetime.now(UTC):
        raise typer.BadParameter(
            "--until is a past moment with an offset, such as 2026-11-30T12:00:00Z"
        )
    return found.astimezone(UTC)


async def _seed(
    url: str, connection: Any, wanted: "Plan", processes: int | None, as_json: bool
) -> dict[str, Any]:
    from easypay import ids
    from easypay.clock import stopwatch
    from easypay.seeding import run
    from easypay.seeding.shops import shops

    started = stopwatch()
    plan, there = await run.begin(connection, wanted)
    if not there:
        await _check_room(connection, plan)
        with _shown_progress(as_json) as progress:
            count = processes or run.processes_here()
            await run.fill(url, connection, plan, run.Progress(progress), processes=count)
    biggest = shops(1, plan.seed)[0]
    return {
        "payments": plan.payments,
        "months": plan.months,
        "merchants": plan.merchants,
        "seed": plan.seed,
        "until": plan.until,
        "already_there": there,
        "seconds": round(stopwatch() - started, 1),
        "bytes": await connection.fetchval("SELECT pg_database_size(current_database())"),
        "biggest_merchant": ids.typed(ids.MERCHANT, _uuid(biggest.id)),
    }


def _uuid(value: bytes) -> Any:
    from uuid import UUID

    return UUID(bytes=value)


async def _check_room(connection: Any, plan: "Plan") -> None:
    """Fail if the disk is too small; warn if that cannot be known."""
    from easypay.db import server_disk
    from easypay.seeding import disk

    needed = disk.needed(plan, await server_disk.wal_bytes(connection))
    free = await server_disk.free(connection)
    if free is None:
        print(  # noqa: T201
            f"easypay: this needs about {_size(needed)} on the database's disk. Whether it has "
            "them cannot be seen from here.",
            file=sys.stderr,
        )
    elif free < needed:
        fail(
            f"the database's disk is too small: {plan.payments:,} payments need about "
            f"{_size(needed)}, and {_size(free)} are free. Make room, or seed fewer payments"
        )


@contextmanager
def _shown_progress(as_json: bool) -> Iterator[Callable[["Progress"], None]]:
    """Show how far a seed is: in a terminal, and nothing for scripts."""
    texts = ("{task.completed:,.0f} of {task.total:,.0f}", "{task.fields[months]}")
    wanted = not as_json and sys.stderr.isatty()
    with progress_bar(wanted, "payments", *texts, total=0, months="") as renew:
        yield lambda progress: renew(
            description=f"{progress.step:<10}",
            total=progress.payments,
            completed=progress.written,
            months=f"{progress.months_done}/{progress.months} months",
        )


def _seeded_text(done: dict[str, Any]) -> str:
    merchant = done["biggest_merchant"]
    made = "were there already" if done["already_there"] else f"made in {done['seconds']:,.0f} s"
    return (
        f"{counted(done['payments'], 'payment')} of {counted(done['merchants'], 'merchant')} over "
        f"{counted(done['months'], 'month')} {made}; the database has {_size(done['bytes'])}.\n"
        f"The biggest merchant is {merchant}. A key to read its payments:\n"
        f"  easypay key create {merchant} --mode live"
    )


def _clear(data_dir: Path, as_json: bool) -> None:
    from easypay.seeding import run

    def step(what: str) -> None:
        if not as_json:
            print(f"removing {what}", file=sys.stderr)  # noqa: T201

    removed = on_database(data_dir, lambda url, connection: run.clear(connection, step))
    text = f"Removed {removed:,} seeded merchants and everything of theirs."
    print(to_json({"merchants_removed": removed}) if as_json else text)  # noqa: T201


# months and sizes ----------------------------------------------------------------------


@database.command("partitions")
def show_partitions(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Show the months that have tables: rows, sizes, how full, and how far ahead.

    `full` is the share of the pages that rows take; months that are over should have about 1, the
    present month has room for updates. Rows and `full` are estimates of the last vacuum.
    `compacted` is when the operations of a month were rewritten (`easypay db compact`).

    Exit status 1 if a month is missing from the last one to those ahead
    (EASYPAY_PARTITIONS_AHEAD_MONTHS), or if rows lie outside every month.

    Example: `easypay db partitions`
    """
    from easypay.db.month_report import report

    ahead = _months_ahead()
    found: Report = on_database(
        data_dir, lambda url, connection: report(connection, wanted_ahead=ahead)
    )
    if as_json:
        print(to_json(found))  # noqa: T201
    else:
        _print_months(found)
    if found.alarms:
        sys.exit(1)


def _months_ahead() -> int:
    """Return how many months ahead there should be: the gateway's own setting."""
    import os

    from easypay.settings import Settings

    default = Settings.model_fields["partitions_ahead_months"].default
    text = os.environ.get("EASYPAY_PARTITIONS_AHEAD_MONTHS", str(default)).strip()
    if not text.isdigit() or int(text) < 1:
        fail("EASYPAY_PARTITIONS_AHEAD_MONTHS must be a number of months, at least 1")
    return int(text)


def _print_months(found: "Report") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("month")
    for name in ("rows", "payments", "operations", "events", "full", "compacted"):
        table.add_column(name, justify="right")
    for month in found.months:
        table.add_row(*_month_cells(month), style="red" if _is_alarm(month, found) else None)
    console = Console(width=NO_LIMIT, markup=False, emoji=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"Tables until {found.reach:%Y-%m-%d}, for {found.horizon_days:.0f} days: "
        f"{counted(found.months_ahead, 'month')} ahead, {found.wanted_ahead} wanted.",
        style="red" if found.months_ahead < found.wanted_ahead else None,
    )
    for alarm in found.alarms:
        console.print(f"ALARM {alarm}", style="red")


def _is_alarm(month: "MonthSize", found: "Report") -> bool:
    return any(alarm.startswith(month.month) for alarm in found.alarms)


def _month_cells(month: "MonthSize") -> tuple[str, ...]:
    if len(month.missing) == len(_TABLES):
        return month.month, *["missing"] * 4, "", ""
    full = [month.full.get(table) for table in _TABLES]
    known = [f"{each:.2f}" if each is not None else "-" for each in full]
    return (
        month.month,
        f"{month.rows.get('payments', 0):,}",
        *(_size(month.bytes[t]) if t in month.bytes else "missing" for t in _TABLES),
        " ".join(known),
        _compacted(month),
    )


def _compacted(month: "MonthSize") -> str:
    """Return the day on which a month was compacted, and what that saved."""
    done = month.compacted
    if done is None:
        return "-"
    return f"{done.compacted_at:%Y-%m-%d}, saved {_size(done.bytes_before - done.bytes_after)}"


@database.command("sizes")
def show_sizes(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Show what is kept on disk, by table and index, and per payment.

    All months of a table count together. The number of payments is an estimate of the last vacuum.

    Example: `easypay db sizes`
    """
    from easypay.db.table_sizes import payments_in, sizes

    found: list[TableSize] = on_database(data_dir, lambda url, connection: sizes(connection))
    payments = payments_in(found)
    if as_json:
        lines = [{**_as_dict(size), "total": size.total} for size in found]
        print(to_json({"payments": payments, "data": lines}))  # noqa: T201
        return
    _print_sizes(found, payments)


def _as_dict(size: "TableSize") -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(size)


def _print_sizes(found: "list[TableSize]", payments: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in ("table or index", "rows", "size", "bytes per payment"):
        table.add_column(name, justify="left" if name.startswith("table") else "right")

    def line(name: str, rows: str, size: int) -> None:
        each = f"{size / payments:,.1f}" if payments else "-"
        table.add_row(name, rows, _size(size), each)

    for size in found:
        line(size.table, f"{size.rows:,}", size.total)
        line("  rows", "", size.heap)
        if size.toast > 8192:
            line("  long values", "", size.toast)
        for index, its in size.indexes.items():
            line(f"  {index}", "", its)
    line("everything", "", sum(size.total for size in found))
    Console(width=NO_LIMIT, markup=False, emoji=False).print(table)


def _size(size: float) -> str:
    """Return a size for people: `12.3 MB`, in powers of 1000 as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


# statistics --------------------------------------------------------------------------------------


@database.command("verify-stats")
def verify_stats(data_dir: DataDir = DATA_DIR, as_json: Json = False, wide: Wide = False) -> None:
    """Count the statistics again from all payments and events, and show every difference.

    It reads every payment, for about a minute for each million. Gateways may run: both sides are
    read as of one moment.

    Exit status 1 if there is a difference: `easypay db rebuild-stats` counts everything again.

    Example: `easypay db verify-stats`
    """
    from easypay.payments import statistics_check

    found: list[Difference] = on_database(
        data_dir, lambda _, connection: statistics_check.verify(connection)
    )
    right = "The statistics are what the payments and events say."
    show_rows(as_json, found, DIFFERENCES, right, wide=wide)
    sys.exit(1 if found else 0)


@database.command("rebuild-stats")
def rebuild_stats(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Count the statistics again from all payments and events.

    It takes about a minute for each million payments. Gateways may run. Until it ends, statistics
    are the old ones, and lists with filters do not show what is new.

    Example: `easypay db rebuild-stats`
    """
    from easypay.payments import statistics_check

    on_database(data_dir, lambda _, connection: statistics_check.rebuild(connection))
    show(as_json, {"rebuilt": True}, "The statistics were counted again.")


# connections -----------------------------------------------------------------------------------


@database.command("connections")
def connections(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Show the server's connections: who uses them, and how many gateways have room.

    It counts what one gateway or worker needs from EASYPAY_GROUPS_IN_FLIGHT,
    EASYPAY_DATABASE_POOL_SIZE and EASYPAY_DATABASE_READING_CONNECTIONS, as they are set for this
    command.

    Example: `easypay db connections --json`
    """
    from pydantic import SecretStr, ValidationError

    from easypay.command_line.data_dir import DataDirectory, what_is_wrong
    from easypay.db import connection_budget
    from easypay.db.connections import Connector
    from easypay.settings import Settings

    async def count() -> "Budget":
        access = DataDirectory(data_dir).access()
        try:
            settings = Settings(
                database_url=SecretStr(access.database_url),
                encryption_key=SecretStr(access.encryption_key),
            )
        except ValidationError as error:
            fail(what_is_wrong(error))
        connection = await Connector(access.database_url).connect(
            timeout=10, server_settings={"application_name": "easypay db connections"}
        )
        try:
            return await connection_budget.count(
                connection, settings.database_connections, settings.worker_connections
            )
        finally:
            await connection.close(timeout=5)

    budget = run_async(count)
    show(as_json, _as_json(budget), _in_words(budget))


def _as_json(budget: "Budget") -> dict[str, Any]:
    import msgspec

    computed = {"free": budget.free, "needed": budget.needed, "fit": budget.fit}
    return {**msgspec.to_builtins(budget), **computed}


def _in_words(budget: "Budget") -> str:
    lines = [
        f"{budget.allowed} connections for clients: {budget.easypay} used by EasyPay, "
        f"{budget.others} by others, {budget.free} free."
    ]
    if budget.pooled:
        lines.append("This is what a pooler uses of them; its own settings limit the gateways.")
        return "\n".join(lines)
    lines.append(
        f"Gateway processes: {budget.gateways}, with up to {budget.for_each} connections each. "
        f"Workers: {budget.workers}, with up to {budget.for_worker}. They and the others need up "
        f"to {budget.needed}. There is room for {budget.fit} gateway processes."
    )
    if budget.needed > budget.allowed:
        lines.append("That is more than there are: see docs/operations.md, connections.")
    return "\n".join(lines)
