"""The command behind `make bench-cache`: what the caches save.

    python -m easypay_bench.caching                 # three minutes
    python -m easypay_bench.caching --quick         # only whether it works

It needs wrk and no server: it starts a gateway with all that it needs, and Valkey. Times are
printed and never judged: the exit status is 0 if everything could be measured, and 2 if not.
"""

import argparse
from collections.abc import Sequence

import msgspec

from easypay_bench import benchmark_command
from easypay_bench.caching import measure, report


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit with the status above."""
    options = _parser().parse_args(arguments)
    plan = measure.QUICK if options.quick else measure.Plan()
    if options.pairs:
        plan = msgspec.structs.replace(plan, pairs=options.pairs)
    benchmark_command.run("cache", report, options, lambda say: measure.everything(plan, say))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench-cache", description="What the caches save, with and without Valkey."
    )
    option = parser.add_argument
    option("--pairs", type=int, help=f"rounds of each kind (default: {measure.Plan().pairs})")
    option("--quick", action="store_true", help="one round, with Valkey only: does it work?")
    benchmark_command.add_outputs(parser)
    return parser


if __name__ == "__main__":
    main()
