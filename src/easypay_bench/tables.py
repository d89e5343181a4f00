"""Tables of findings for the terminal."""

from collections.abc import Sequence

from rich.table import Table


def table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    """Return a table for the terminal; its first column is not broken into lines."""
    made = Table(title=title, title_justify="left")
    for number, name in enumerate(head):
        made.add_column(name, no_wrap=number == 0)
    for line in lines:
        made.add_row(*line)
    return made
