"""The command line. Every command's parts are imported when it runs, so that --help is quick."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where `easypay up` keeps its database, keys and logs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
DATA_DIR = Path(".easypay")

app = typer.Typer(
    name="easypay",
    help="EasyPay: a payment gateway that you run yourself.\n\n"
    "Start everything on this machine with `easypay up`. It prints a curl line that takes a "
    "payment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)


@app.command()
def up(
    data_dir: DataDir = DATA_DIR,
    host: Annotated[str, typer.Option(help="Address the gateway listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The gateway's port; 0 picks one.")] = 8000,
    simulator_port: Annotated[int, typer.Option(help="The simulator's port; 0 picks one.")] = 8001,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Gateway processes. [default: half the cores]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the whole stack here: database, processor simulator, gateway, a demo merchant.

    Ctrl-C stops it; the data stays in the data directory for the next start.

    Example: `easypay up --port 9000 --data-dir /srv/easypay`

    With EASYPAY_DATABASE_URL it uses that database. With EASYPAY_AUTHORIZE_NET_LOGIN_ID and
    EASYPAY_AUTHORIZE_NET_TRANSACTION_KEY the demo merchant pays through the real sandbox.
    """
    from easypay.up import Options, run

    options = Options(data_dir, host, port, simulator_port, workers, as_json)
    sys.exit(asyncio.run(run(options)))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks one.")] = 8000,
    fd: Annotated[
        int | None, typer.Option(help="Take a listening socket from this descriptor instead.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run one gateway process. Its settings are EASYPAY_* variables.

    It needs EASYPAY_DATABASE_URL (migrated: `easypay migrate`) and EASYPAY_ENCRYPTION_KEY.
    SIGTERM drains it: no request is lost.

    Example: `EASYPAY_DATABASE_URL=postgresql://… easypay serve --host 0.0.0.0 --port 8000`
    """
    import socket

    from pydantic import ValidationError

    from easypay.data_dir import what_is_wrong
    from easypay.serve import listen
    from easypay.serve import serve as run
    from easypay.settings import Settings

    try:
        settings = Settings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        fail(what_is_wrong(error))
    try:
        bound = listen(host, port) if fd is None else socket.socket(fileno=fd)
    except OSError as error:
        fail(f"cannot listen on {host}:{port}: {error.strerror} (choose another --port)")
    run(settings, bound, log_level=log_level)


@app.command()
def migrate(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Bring the database to this version's schema. Safe beside a running older gateway.

    Example: `EASYPAY_DATABASE_URL=postgresql://… easypay migrate`
    """
    from easypay.data_dir import DataDirectory
    from easypay.db.migrate import migrate as apply

    names = run_async(lambda: apply(DataDirectory(data_dir).access().database_url))
    show(as_json, {"applied": names}, "Applied: " + ", ".join(names) if names else "Up to date.")


@app.command()
def openapi() -> None:
    """Print the API's OpenAPI 3.1 document.

    Example: `easypay openapi > openapi.json`
    """
    import json

    from easypay.api.openapi import document

    print(json.dumps(document(), indent=2))  # noqa: T201


def fail(line: str) -> NoReturn:
    """Ends the program with one clear line on standard error and status 1."""
    print(f"easypay: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(1)


def show(as_json: bool, value: Any, text: str) -> None:
    """Prints a result: for scripts, or for people."""
    if as_json:
        import msgspec

        text = msgspec.json.encode(value).decode()
    print(text)  # noqa: T201


def in_database(data_dir: Path, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Runs `work(connection, vault)` on the database of the environment or the data directory."""
    from easypay.data_dir import DataDirectory
    from easypay.merchants.vault import Vault

    async def run() -> Any:
        import asyncpg

        access = DataDirectory(data_dir).access()
        vault = Vault(access.encryption_key)
        connection = await asyncpg.connect(access.database_url, timeout=10)
        try:
            return await work(connection, vault)
        finally:
            await connection.close()

    return run_async(run)


def run_async(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs it to its end; what a person can solve becomes one clear line."""
    import asyncpg

    from easypay.errors import EasyPayError

    async def run() -> Any:
        return await work()

    try:
        return asyncio.run(run())
    except EasyPayError as error:
        fail(error.detail)
    except LookupError as error:
        fail(str(error))
    except asyncpg.UndefinedTableError:
        fail("the database has no EasyPay schema yet: run `easypay migrate`")
    except (OSError, asyncpg.PostgresError) as error:
        fail(f"cannot use the database: {error or 'no answer'}")


def main() -> None:
    """The program `easypay`."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
