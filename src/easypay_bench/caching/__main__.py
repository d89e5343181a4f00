"""The command behind `make bench-cache`: what the caches save.

    python -m easypay_bench.caching                 # three minutes
    python -m easypay_bench.caching --quick         # only whether it works

It needs wrk and no server: it starts a gateway with all that it needs, and Valkey. Times are
printed and never judged: the exit status is 0 if everything could be measured, and 2 if not.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
from rich.console import Console

from easypay.db.postgres_binaries import ClusterError
from easypay_bench.caching import measure, report
from easypay_bench.http_calls import StackFailed
from easypay_bench.load import LoadFailed
from easypay_bench.performance_page import PAGE, RESULTS

CANNOT: Final = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit with the status above."""
    options = _parser().parse_args(arguments)
    # As with Ctrl-C, every started program is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 150)
    plan = measure.QUICK if options.quick else measure.Plan()
    if options.pairs:
        plan = msgspec.structs.replace(plan, pairs=options.pairs)
    began = perf_counter()

    def say(line: str) -> None:
        minutes, seconds = divmod(int(perf_counter() - began), 60)
        console.print(f"{minutes:3}:{seconds:02}  {line}", style="dim", highlight=False)

    try:
        found = measure.everything(plan, say)
    except (StackFailed, LoadFailed, ClusterError) as error:
        sys.stderr.write(f"bench-cache: {error}\n")
        sys.exit(CANNOT)
    report.show(found, console)
    if options.json:
        options.json.write_text(report.as_json(found))
    if options.save:
        for path in report.save(found):
            console.print(f"written: {path}", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench-cache", description="What the caches save, with and without Valkey."
    )
    option = parser.add_argument
    option("--pairs", type=int, help=f"rounds of each kind (default: {measure.Plan().pairs})")
    option("--quick", action="store_true", help="one round, with Valkey only: does it work?")
    option("--json", type=Path, metavar="FILE", help="also write the findings to this file")
    option(
        "--save", action="store_true",
        help=f"also write them under {RESULTS}, and renew {PAGE}",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    main()
