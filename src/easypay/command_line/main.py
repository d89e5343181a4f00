"""The command line. Every command's parts are imported when it runs, so that --help is quick."""

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from easypay.command_line import (
    after_restore,
    alerts,
    archive,
    batches,
    cache,
    compact,
    customers,
    database,
    errors,
    events,
    export,
    jobs,
    listen,
    logs,
    merchants,
    operations,
    processors,
    profile,
    reconciliation,
    statement,
    trigger,
    webhooks,
)
from easypay.command_line.console import DATA_DIR, DataDir, Json, fail, new_group, run_async, show
from easypay_bench import commands

if TYPE_CHECKING:
    from easypay.settings import Settings

app = new_group(
    "EasyPay: a payment gateway that you run yourself.\n\n"
    "Start everything on this machine with `easypay up`; it prints a curl line that takes a "
    "payment. In production run `easypay migrate` once and `easypay serve` per process.",
    name="easypay",
    completion=True,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from easypay import __version__

        print(f"easypay {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def common_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.add_typer(merchants.merchants, name="merchant")
app.add_typer(merchants.keys, name="key")
app.add_typer(operations.operations, name="operation")
app.add_typer(webhooks.webhooks, name="webhook")
app.add_typer(processors.processors, name="processor")
app.add_typer(customers.customers, name="customer")
app.add_typer(operations.late_charges, name="late-charges")
app.add_typer(reconciliation.breaks, name="breaks")
app.command()(reconciliation.reconcile)
app.add_typer(jobs.jobs, name="jobs")
app.add_typer(alerts.alerts, name="alerts")
app.add_typer(events.events, name="events")
app.add_typer(batches.batches, name="batch")
app.add_typer(logs.logs, name="logs")
app.add_typer(database.database, name="db")
app.add_typer(cache.caches, name="cache")
database.database.command("archive")(archive.archive_month)
database.database.command("restore-month")(archive.restore_month)
database.database.command("after-restore")(after_restore.after_restore)
database.database.command("compact")(compact.compact_months)
app.command()(export.export)
app.command()(errors.errors)
app.command()(profile.profile)
app.command()(statement.statement)
app.command()(listen.listen)
app.command()(trigger.trigger)
app.command()(commands.loadtest)
app.command()(commands.slo)


@app.command()
def up(
    data_dir: DataDir = DATA_DIR,
    host: Annotated[str, typer.Option(help="Address the gateway listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The gateway's port; 0 picks one.")] = 8000,
    simulator_port: Annotated[int, typer.Option(help="The simulator's port; 0 picks one.")] = 8001,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Gateway processes. Default: half the cores.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the whole stack here: database, processor simulator, gateway, a demo merchant.

    Ctrl-C stops it; the data stays in the data directory for the next start.

    Example: `easypay up --port 9000 --data-dir /srv/easypay`

    With EASYPAY_DATABASE_URL it uses that database. With EASYPAY_AUTHORIZE_NET_LOGIN_ID and
    EASYPAY_AUTHORIZE_NET_TRANSACTION_KEY the demo merchant pays through the real sandbox.
    """
    from easypay.command_line.up import Options, run

    options = Options(data_dir, host, port, simulator_port, workers, as_json)
    sys.exit(asyncio.run(run(options)))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks one.")] = 8000,
    fd: Annotated[
        int | None, typer.Option(help="Use the listening socket with this file descriptor instead.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run one gateway process. Its settings are EASYPAY_* variables.

    It needs EASYPAY_DATABASE_URL (migrated: `easypay migrate`) and EASYPAY_ENCRYPTION_KEY.
    SIGTERM drains it: no request is lost.

    Example: `EASYPAY_DATABASE_URL=postgresql://… easypay serve --host 0.0.0.0 --port 8000`
    """
    import socket

    from easypay.server.serve import listen
    from easypay.server.serve import serve as run

    _check_log_level(log_level)
    settings = _settings()
    try:
        bound = listen(host, port) if fd is None else socket.socket(fileno=fd)
    except (OSError, OverflowError) as error:
        fail(f"cannot listen on {host}:{port}: {error} (choose another --port)")
    run(settings, bound, shared=fd is not None, log_level=log_level)


@app.command()
def worker(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run one worker process: it does what must happen later. Its settings are EASYPAY_* variables.

    Run as many as you like, on any host. SIGTERM drains it: it finishes what it has claimed and
    gives back the rest. If it is killed, another worker does its work when its leases end.

    Example: `EASYPAY_DATABASE_URL=postgresql://… easypay worker`
    """
    from easypay.worker.process import work

    _check_log_level(log_level)
    sys.exit(work(_settings(), log_level=log_level))


@app.command()
def migrate(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Bring the database to this version's schema. Gateways of the version before keep running.

    Example: `EASYPAY_DATABASE_URL=postgresql://… easypay migrate`
    """
    from easypay.command_line.data_dir import DataDirectory
    from easypay.db.migrate import migrate as apply

    try:
        database_url = DataDirectory(data_dir).database_url()
    except LookupError as error:
        fail(str(error))
    names = run_async(lambda: apply(database_url))
    show(as_json, {"applied": names}, f"Applied {', '.join(names)}." if names else "Up to date.")


def _check_log_level(log_level: str) -> None:
    if log_level not in ("debug", "info", "warning", "error"):
        fail("--log-level is debug, info, warning or error")


def _settings() -> "Settings":
    """Return the settings of the environment. What is wrong with them ends the program."""
    from pydantic import ValidationError

    from easypay.command_line.data_dir import what_is_wrong
    from easypay.settings import Settings

    try:
        return Settings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        fail(what_is_wrong(error))


@app.command()
def openapi() -> None:
    """Print the API's OpenAPI 3.1 document.

    Example: `easypay openapi > openapi.json`
    """
    import json

    from easypay.api.openapi import document

    print(json.dumps(document(), indent=2))  # noqa: T201


def main() -> None:
    """The program `easypay`."""
    # Importing makes many objects and no garbage, so collecting then only costs time.
    gc.set_threshold(50_000, 20, 100)
    app()
