"""The command behind `make bench-find`: how fast payments are found at scale.

    python -m easypay_bench.finding                                   # 10,000,000 payments
    python -m easypay_bench.finding --payments 2000000 --data DIR --keep
    python -m easypay_bench.finding --quick                           # only whether it works

It needs no server: it starts one of its own. Times are printed and never judged: the exit status is
0 if everything could be measured, and 2 if not. With --data and --keep the databases stay, and the
next run uses them again.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from easypay.errors import EasyPayError
from easypay_bench import benchmark_command
from easypay_bench.benchmark_command import Say
from easypay_bench.finding import measure, report
from easypay_bench.finding.bars import Findings
from easypay_bench.finding.databases import NotEnoughRoom

QUICK: Final = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit with the status above."""
    options = _parser().parse_args(arguments)
    plan = measure.quick(options.payments or QUICK) if options.quick else measure.Plan()
    if options.payments:
        plan = msgspec.structs.replace(plan, payments=options.payments)

    def everything(say: Say) -> Findings:
        with _directory(options.data, keep=options.keep) as directory:
            return measure.everything(plan, directory, say)

    benchmark_command.run("find", report, options, everything, NotEnoughRoom, EasyPayError)


@contextmanager
def _directory(wanted: Path | None, *, keep: bool) -> Iterator[Path]:
    """Give a block the directory of the data. One that was there before is never removed."""
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="easypay-find-") as temporary:
            yield Path(temporary)
        return
    is_ours = not wanted.exists()
    wanted.mkdir(parents=True, exist_ok=True)
    try:
        yield wanted
    finally:
        if is_ours and not keep:
            shutil.rmtree(wanted, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench-find", description="How fast payments are found at scale."
    )
    option = parser.add_argument
    option("--payments", type=int, help="of the big database (default: 10,000,000)")
    option("--data", type=Path, metavar="DIR", help="for the databases (default: a temporary one)")
    option("--keep", action="store_true", help="leave them in DIR; the next run uses them again")
    option("--quick", action="store_true", help="few payments and questions: does it work?")
    benchmark_command.add_outputs(parser)
    return parser


if __name__ == "__main__":
    main()
