"""The command line. Every command's parts are imported when it runs, so that --help is quick."""

import asyncio
import gc
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

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


class InParts(TyperGroup):
    """Lists its commands in the order of PARTS; Typer would list all groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [word for parts in PARTS.values() for word in parts]


app = new_group(
    "EasyPay: a payment gateway that you run yourself.\n\n"
    "Start everything on this machine with `easypay up`; it prints a curl line that takes a "
    "payment. In production run `easypay migrate` once, `easypay serve` for each process, and "
    "`easypay worker`.\n\n"
    "`--help` after each command explains it, with an example.",
    name="easypay",
    completion=True,
    cls=InParts,
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
    """Start everything on this machine: database, cache, gateway, worker, simulator, demo merchant.

    The simulator stands in for the processor. Ctrl-C stops everything; the data stays in the data
    directory for the next start.

    Example: `easypay up --port 9000 --data-dir /srv/easypay`

    With EASYPAY_DATABASE_URL it uses that database. With EASYPAY_AUTHORIZE_NET_LOGIN_ID and
    EASYPAY_AUTHORIZE_NET_TRANSACTION_KEY the demo merchant pays through the real sandbox.
    """
    from easypay.command_line.up import Options, run

    options = Options(data_dir, host, port, simulator_port, workers, as_json)
    sys.exit(asyncio.run(run(options)))


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks one.")] = 8000,
    fd: Annotated[
        int | None, typer.Option(help="Use the listening socket with this file descriptor instead.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run one gateway process. Its settings are EASYPAY_* variables (docs/settings.md).

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


def worker(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run one worker process. It does what must happen later: webhooks, queued payments, the books.

    Its settings are EASYPAY_* variables. Run as many as you like, on any host. SIGTERM drains it:
    it finishes what it has claimed and gives back the rest. If it is killed, another worker does
    its work when its leases end.

    Example: `EASYPAY_DATABASE_URL=postgresql://… easypay worker`
    """
    from easypay.worker.process import work

    _check_log_level(log_level)
    sys.exit(work(_settings(), log_level=log_level))


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


def openapi() -> None:
    """Print the API's OpenAPI 3.1 document.

    Example: `easypay openapi > openapi.json`
    """
    import json

    from easypay.api.openapi import document

    print(json.dumps(document(), indent=2))  # noqa: T201


PARTS: Final[Mapping[str, Mapping[str, Callable[..., None] | typer.Typer]]] = {
    "Start it": {"up": up, "serve": serve, "worker": worker, "migrate": migrate},
    "Merchants": {
        "merchant": merchants.merchants,
        "key": merchants.keys,
        "processor": processors.processors,
        "webhook": webhooks.webhooks,
        "customer": customers.customers,
    },
    "Payments": {
        "batch": batches.batches,
        "export": export.export,
        "events": events.events,
        "operation": operations.operations,
        "late-charges": operations.late_charges,
    },
    "Money": {
        "statement": statement.statement,
        "reconcile": reconciliation.reconcile,
        "breaks": reconciliation.breaks,
    },
    "While you write a shop": {
        "listen": listen.listen,
        "trigger": trigger.trigger,
        "openapi": openapi,
    },
    "Is something wrong?": {
        "alerts": alerts.alerts,
        "errors": errors.errors,
        "logs": logs.logs,
        "jobs": jobs.jobs,
        "db": database.database,
    },
    "Is it fast?": {
        "slo": commands.slo,
        "loadtest": commands.loadtest,
        "profile": profile.profile,
        "cache": cache.caches,
    },
}
"""The commands as `easypay --help` shows them. docs/README.md has the page of each part."""

for title, parts in PARTS.items():
    for word, part in parts.items():
        if isinstance(part, typer.Typer):
            app.add_typer(part, name=word, rich_help_panel=title)
        else:
            app.command(word, rich_help_panel=title)(part)

database.database.command("archive")(archive.archive_month)
database.database.command("restore-month")(archive.restore_month)
database.database.command("after-restore")(after_restore.after_restore)
database.database.command("compact")(compact.compact_months)

_program: Final = typer.main.get_command(app)
"""All commands, made once: forks of a program that has loaded this module have them already."""


def main() -> None:
    """The program `easypay`."""
    # Importing makes many objects and no garbage, so collecting then only costs time.
    gc.set_threshold(50_000, 20, 100)
    _program()
