"""What the commands behind `make bench-cache`, `bench-find` and `bench-work` have in common: they
say how far they are, print the findings, and write them where the options say."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

import msgspec
from rich.console import Console

from easypay.db.postgres_binaries import ClusterError
from easypay_bench import performance_page
from easypay_bench.http_calls import StackFailed
from easypay_bench.load import LoadFailed
from easypay_bench.performance_page import PAGE, RESULTS

CANNOT: Final = 2
"""The exit status if something cannot be measured."""
Say = Callable[[str], None]


class Report(Protocol):
    """The module that knows the findings of a benchmark."""

    def as_data(self, found: Any) -> dict[str, Any]:
        """Return the findings and their rows as plain data."""

    def show(self, found: Any, console: Console) -> None:
        """Print the tables."""


def run(
    kind: str,
    report: Report,
    options: argparse.Namespace,
    measure: Callable[[Say], Any],
    *other_failures: type[Exception],
) -> None:
    """Measure, and print what was found. `kind`: `cache` for `make bench-cache`. `options` are also
    those of `add_outputs`."""
    # As with Ctrl-C, every started program is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 150)
    began = perf_counter()

    def say(line: str) -> None:
        minutes, seconds = divmod(int(perf_counter() - began), 60)
        console.print(f"{minutes:3}:{seconds:02}  {line}", style="dim", highlight=False)

    failures: tuple[type[Exception], ...] = (StackFailed, LoadFailed, ClusterError, *other_failures)
    try:
        found = measure(say)
    except failures as error:
        sys.stderr.write(f"bench-{kind}: {error}\n")
        sys.exit(CANNOT)
    report.show(found, console)
    data = msgspec.json.encode(report.as_data(found))
    text = msgspec.json.format(data, indent=1).decode() + "\n"
    if options.json:
        options.json.write_text(text)
    if options.save:
        for path in performance_page.save(found.machine, kind, text):
            console.print(f"written: {path}", highlight=False)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the findings are written."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the findings to this file"
    )
    parser.add_argument(
        "--save", action="store_true", help=f"also write them under {RESULTS}, and renew {PAGE}"
    )
