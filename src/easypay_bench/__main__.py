"""The command behind `make bench`: measures a whole stack on this machine and prints the findings.

    python -m easypay_bench                              # a new stack, about six minutes
    python -m easypay_bench --quick                      # half a minute
    python -m easypay_bench --demo .easypay/demo.json    # the stack of `easypay up`
    python -m easypay_bench yardstick                    # only the yardstick, without a gateway
    python -m easypay_bench compare BEFORE AFTER         # two saved results
    python -m easypay_bench history                      # all saved results, as one HTML file
    python -m easypay_bench regular                      # this version beside the last release

Times are printed and never judged. Exit status 1: money was wrong (an answer that was not 201, or a
payment without exactly one sale at the processor). 2: nothing could be measured.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from easypay.db.postgres_binaries import ClusterError
from easypay_bench import (
    measure,
    performance_chart,
    performance_page,
    report,
    scaling,
    yardstick_alone,
)
from easypay_bench.history import commands as history
from easypay_bench.http_calls import StackFailed
from easypay_bench.load import LoadFailed
from easypay_bench.stack import attached, own

RESULTS: Final = Path("bench/results")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit with the status above."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["yardstick"]:
        yardstick_alone.main(given[1:])
        return
    if given and given[0] in history.COMMANDS:
        history.COMMANDS[given[0]](given[1:])
        return
    options = _parser().parse_args(given)
    # As with Ctrl-C, every started program is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 100)
    try:
        found = _measure(options, console)
    except (StackFailed, LoadFailed, ClusterError) as error:
        sys.exit(_complain(error))
    report.show(found, console)
    if options.json:
        Path(options.json).write_text(report.as_json(found))
    if options.save:
        console.print(f"saved as {report.save(found, RESULTS)}")
        if found.wide is not None:
            performance_page.PAGE.write_text(performance_page.page(RESULTS))
            performance_chart.CHART.write_text(performance_chart.chart(RESULTS))
            console.print(f"{performance_page.PAGE} is updated")
    sys.exit(1 if found.wrong else 0)


def _measure(options: argparse.Namespace, console: Console) -> report.Findings:
    plan = measure.Plan(
        generator=options.generator,
        connections=options.connections,
        seconds=options.seconds,
        warmup_s=options.warmup,
        unloaded_s=options.unloaded,
        counted_payments=options.counted,
        repeat=options.repeat,
        wide=None if options.quick else scaling.Plan(),
    )
    with ExitStack() as stack:
        if options.demo:
            measured = attached(options.demo)
        else:
            directory = options.directory or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="easypay-bench-"))
            )
            measured = stack.enter_context(
                own(directory, workers=options.workers, settings=_settings(options.set))
            )
        return measure.everything(measured, plan, lambda text: console.print(text, style="dim"))


def _settings(given: Sequence[str]) -> dict[str, str]:
    pairs = (each.partition("=") for each in given)
    return {name.upper().removeprefix("EASYPAY_"): value for name, _, value in pairs}


def _complain(error: Exception) -> int:
    sys.stderr.write(f"easypay-bench: {error}\n")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="easypay-bench",
        description="How fast EasyPay is on this machine, and where the time goes.",
    )

    def option(name: str, **how: Any) -> None:
        parser.add_argument(name, **how)

    option("--demo", type=Path, metavar="PATH", help="measure the stack of this demo.json")
    option("--directory", type=Path, help="for the stack's data (default: a temporary one)")
    option("--connections", type=int, default=64)
    option("--seconds", type=float, default=10, help="length of one load")
    option("--warmup", type=float, default=3, help="seconds of load before it")
    option("--unloaded", type=float, default=3, help="seconds of one payment at a time")
    option("--counted", type=int, default=200, help="payments for the counters")
    option("--repeat", type=int, default=1, help="number of loads; the median one is shown")
    option("--workers", type=int, default=1, help="gateway processes")
    option(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a gateway setting, such as GROUPS_IN_FLIGHT=4",
    )  # fmt: skip
    option(
        "--quick", action="store_true",
        help="only the peak and one payment at a time: no pgbench, no rates, no 10,000 "
        "connections, no scaling",
    )  # fmt: skip
    option("--generator", choices=["auto", "wrk", "python"], default="auto")
    option("--json", metavar="PATH", help="also write the findings to this file")
    option("--save", action="store_true", help=f"also write them under {RESULTS}")
    return parser


if __name__ == "__main__":
    main()
