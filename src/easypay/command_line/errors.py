"""`easypay errors`: the errors of all processes, by kind."""

from typing import Annotated, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    Wide,
    show_rows,
    with_access,
)

ERRORS: Final = Columns(
    ("last_seen", "first_seen", "count", "level", "exception", "place", "message"),
    left_out_first=("first_seen", "level", "place"),
)


def errors(
    limit: Annotated[int, typer.Option(min=1, max=500, help="The most kinds.")] = 50,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show the errors of all gateways and workers by kind: how often, first and last seen.

    The latest comes first. A kind is where it happened and what was said, without what varies.

    Example: `easypay errors`
    """
    from easypay.observability import error_kinds

    found = with_access(data_dir, lambda connection, _: error_kinds.kinds(connection, limit))
    show_rows(as_json, found, ERRORS, "No error was logged.", wide=wide)
