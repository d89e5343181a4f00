"""What all commands share: their common options, how they print, how they fail."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

DATA_DIR: Final = Path(".easypay")
DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where `easypay up` keeps its database, keys and logs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def new_group(help_text: str, name: str | None = None, *, completion: bool = False) -> typer.Typer:
    """A group of commands that explains itself. `completion`: it can install itself in a shell."""
    return typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        add_completion=completion,
    )


def fail(line: str) -> NoReturn:
    """Ends the program with one clear line on standard error and status 1."""
    print(f"easypay: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(1)


def show(as_json: bool, value: Any, text: str) -> None:
    """Prints a result: the API's JSON for scripts, a sentence for people."""
    print(to_json(value) if as_json else text)  # noqa: T201


def show_rows(as_json: bool, rows: Sequence[Any], columns: Sequence[str], none: str) -> None:
    """Prints a list: `{"data": [...]}` for scripts, a table of some columns for people."""
    if as_json:
        print(to_json({"data": rows}))  # noqa: T201
        return
    if not rows:
        print(none)  # noqa: T201
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(_cell(getattr(row, column)) for column in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def to_json(value: Any) -> str:
    """One line of JSON."""
    import msgspec

    return msgspec.json.encode(value).decode()


def in_database(data_dir: Path, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Runs `work(connection, vault)` on the database of the environment or the data directory."""
    from easypay.command_line.data_dir import DataDirectory
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
    except (OSError, ValueError, asyncpg.PostgresError) as error:
        fail(f"cannot use the database (is it running?): {error or 'no answer'}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
