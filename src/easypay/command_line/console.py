"""Shared by all commands: common options, printing, errors."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup

DATA_DIR: Final = Path(".easypay")
DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where `easypay up` keeps its database, keys and logs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Show every column, even if the lines do not fit.")
]
_LONGEST_WORD: Final = 40
"""Characters. A table may break a longer word; the longest id has 37."""
NO_LIMIT: Final = 1000
"""The width for a table of figures: a narrow terminal breaks its lines, but no cell is cut."""


class Columns(NamedTuple):
    """The columns of a table for people. A narrow terminal omits those of `left_out_first`, the
    least important first; the others are always shown."""

    names: tuple[str, ...]
    left_out_first: tuple[str, ...] = ()


def new_group(
    help_text: str,
    name: str | None = None,
    *,
    completion: bool = False,
    alone: bool = False,
    cls: type[TyperGroup] = TyperGroup,
) -> typer.Typer:
    """Return a group of commands. `completion`: it can install shell completion. `alone`: its
    callback does something if no command is named."""
    return typer.Typer(
        name=name,
        cls=cls,
        help=help_text,
        no_args_is_help=not alone,
        invoke_without_command=alone,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        add_completion=completion,
    )


def fail(line: str) -> NoReturn:
    """Exit with one clear line on standard error and status 1."""
    print(f"easypay: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(1)


def show(as_json: bool, value: Any, text: str) -> None:
    """Print a result: the API's JSON for scripts, a sentence for people."""
    print(to_json(value) if as_json else text)  # noqa: T201


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts: 1 batch, 2 batches."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


@contextmanager
def progress_bar(
    wanted: bool,
    description: str,
    *texts: str,
    remaining: bool = True,
    total: float | None = None,
    **fields: Any,
) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error, or nothing. Yields what renews it.

    It takes `description`, `completed`, `total` and `fields`, which `texts` may show: those are
    templates such as "{task.fields[rows]:,} rows". At its end stands the time that remains, or the
    time that it took so far.
    """
    if not wanted:
        yield lambda **_: None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        *map(bars.TextColumn, texts),
        bars.TimeRemainingColumn() if remaining else bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as bar:
        yield partial(bar.update, bar.add_task(description, total=total, **fields))


def show_rows(
    as_json: bool, rows: Sequence[Any], columns: Columns, none: str, *, wide: bool = False
) -> None:
    """Print a list: `{"data": [...]}` for scripts, a table of some columns for people.

    In a terminal the table omits columns until it fits, and names them; `wide` keeps all.
    """
    if as_json:
        print(to_json({"data": rows}))  # noqa: T201
        return
    if not rows:
        print(none)  # noqa: T201
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    cells = [{name: _cell(getattr(row, name)) for name in columns.names} for row in rows]
    limited = sys.stdout.isatty() and not wide
    widths = column_widths(columns, cells, Console().width if limited else None)
    table = Table(box=box.SIMPLE_HEAD)
    for name, width in widths.items():
        table.add_column(name, width=width)
    for row in cells:
        table.add_row(*(row[name] for name in widths))
    Console(width=_table_width(widths), markup=False, emoji=False).print(table)
    if missing := [name for name in columns.names if name not in widths]:
        print(f"Not shown: {', '.join(missing)}. --wide shows all columns.")  # noqa: T201


def column_widths(
    columns: Columns, cells: Sequence[Mapping[str, str]], limit: int | None
) -> dict[str, int]:
    """Return the columns to show and their widths, at most `limit` characters with borders.

    No column is narrower than its longest word, so no id is broken. If the columns that are always
    shown need more than `limit`, the table is wider.
    """
    from rich.cells import cell_len

    texts = {name: [name, *(row[name] for row in cells)] for name in columns.names}
    widths = {name: max(map(cell_len, each)) for name, each in texts.items()}
    if limit is None:
        return widths
    needed = {
        name: min(_LONGEST_WORD, max(cell_len(word) for text in each for word in text.split()))
        for name, each in texts.items()
    }
    for name in columns.left_out_first:
        if _table_width(needed) > limit:
            del needed[name]
    spare = max(0, limit - _table_width(needed))
    for name, least in needed.items():
        needed[name] = min(widths[name], least + spare)
        spare -= needed[name] - least
    return needed


def _table_width(widths: Mapping[str, int]) -> int:
    """Return the width with a blank on both sides of each column, and all borders."""
    return sum(widths.values()) + 3 * len(widths) + 1


def to_json(value: Any) -> str:
    """Return one line of JSON."""
    import msgspec

    return msgspec.json.encode(value).decode()


def in_database(data_dir: Path, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Run `work(connection, vault)` on the database of the environment or the data directory."""
    from easypay.merchants.vault import Vault

    return with_access(
        data_dir, lambda connection, access: work(connection, Vault(access.encryption_key))
    )


def with_access(data_dir: Path, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Run `work(connection, access)` on the database of the environment or the data directory."""
    from easypay.command_line.data_dir import DataDirectory

    async def run() -> Any:
        from easypay.db.connections import Connector

        access = DataDirectory(data_dir).access()
        connection = await Connector(access.database_url).connect(timeout=10)
        try:
            return await work(connection, access)
        finally:
            await connection.close()

    return run_async(run)


def run_async(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run to the end; turn an error that a person can solve into one clear line."""
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
    except BrokenPipeError:
        raise  # whoever read what is printed has enough: typer ends the program
    except (OSError, ValueError, asyncpg.PostgresError) as error:
        fail(f"cannot use the database (is it running?): {error or 'no answer'}")
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        fail(
            f"the connection to the database was lost ({error}), maybe because this command was "
            "stopped for a while. Look what it has done, and run it again"
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = [f"{each} {name}" for name, each in value.items()]
    return ", ".join(value) if isinstance(value, list) else str(value)
