"""`easypay-bench compare A B`, `history` and `regular`: results beside each other."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from rich.console import Console

from easypay_bench.history import regular, report
from easypay_bench.history.compare import changes
from easypay_bench.history.results import RESULTS, find, read, read_all

CANNOT: Final = 2


def compare(arguments: Sequence[str]) -> None:
    """Say what changed between two results. Exit status 1: something is worse; 2: no comparison."""
    parser = argparse.ArgumentParser(
        prog="easypay-bench compare",
        description="What changed from one saved result to another, and how sure that is. The "
        "interval comes from the repeats of both (bootstrap, 95 of 100): save results with "
        "--repeat 7. Counts need no repeats. Exit status 1: a figure is worse.",
    )
    parser.add_argument("before", help=f"a file, or a commit with one result in {RESULTS}")
    parser.add_argument("after", help="the same, for the later one")
    parser.add_argument("--all", action="store_true", help="also show what did not change")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args(arguments)
    try:
        before, after = read(find(options.before)), read(find(options.after))
    except (OSError, ValueError) as error:
        _fail(error)
    if before.kind != after.kind:
        _fail(f"{before.title} and {after.title} measure different things")
    found = list(changes(before, after))
    if options.json:
        data = report.as_data(before, after, found)
        sys.stdout.buffer.write(msgspec.json.encode(data) + b"\n")
    else:
        _show(before.machine != after.machine, report.in_short(found))
        shown = [each for each in found if options.all or each.verdict in ("better", "worse")]
        if shown:
            title = f"{before.title} -> {after.title}"
            _console().print(report.table(title, shown))
    sys.exit(int(any(each.verdict == "worse" for each in found)))


def history(arguments: Sequence[str]) -> None:
    """Draw every figure of the saved results over time, in one HTML file."""
    parser = argparse.ArgumentParser(
        prog="easypay-bench history",
        description="Every figure of the saved results over time in one HTML file, with a mark "
        "where a figure changed its level.",
    )
    parser.add_argument(
        "results", nargs="*", type=Path, default=[RESULTS], help=f"files or folders ({RESULTS})"
    )
    parser.add_argument("--html", type=Path, default=Path("history.html"), metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print JSON instead, for scripts")
    options = parser.parse_args(arguments)
    try:
        found = list(report.series(read_all(options.results)))
    except (OSError, ValueError) as error:
        _fail(error)
    if not found:
        _fail("there is no result yet: `make bench ARGS=--save` makes one")
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        return
    if not os.access(options.html.absolute().parent, os.W_OK):
        _fail(f"--html {options.html}: cannot write into {options.html.absolute().parent}")
    options.html.write_text(report.page(found))
    console = _console()
    for each in found:
        for line in report.new_levels(each):
            console.print(line, highlight=False)
    console.print(f"written: {options.html}", highlight=False)


COMMANDS: Final = {"compare": compare, "history": history, "regular": regular.main}


def _show(other_machine: bool, short: str) -> None:
    console = _console()
    if other_machine:
        console.print("The machines differ: only the counts can be compared.", style="yellow")
    console.print(short, highlight=False)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 150)


def _fail(why: object) -> NoReturn:
    sys.stderr.write(f"easypay-bench: {why}\n")
    sys.exit(CANNOT)
