"""The command behind `make bench-work`: what work that is left costs, and how soon it is done.

    python -m easypay_bench.work                          # five minutes
    python -m easypay_bench.work --quick                  # only whether it works
    python -m easypay_bench.work --only feed webhooks     # some of it
    python -m easypay_bench.work --base main --pairs 7    # also the ordinary path beside a commit
    python -m easypay_bench.work --snapshot-s 600         # a snapshot that is held for ten minutes

The feed is measured under a gateway, and beside the gateway's statements alone: at 3,000 payments/s
a gateway fills two cores itself.

It needs no server: it starts a gateway, workers and receivers with all that they need. Times are
printed and never judged: the exit status is 0 if everything could be measured, and 2 if not.
"""

import argparse
from collections.abc import Sequence

import msgspec

from easypay_bench import benchmark_command
from easypay_bench.work import measure, report


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit with the status above."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    benchmark_command.run("work", report, options, lambda say: measure.everything(plan, say))


def _plan(options: argparse.Namespace) -> measure.Plan:
    plan = measure.QUICK if options.quick else measure.Plan()
    given = {
        "parts": None if options.only is None else tuple(options.only),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "snapshot_s": options.snapshot_s,
        "feed_rate": options.feed_rate,
        "stored_rate": options.stored_rate,
        "batch_lines": options.batch_lines,
        "upload_lines": None if options.upload_lines is None else tuple(options.upload_lines),
        "base": options.base,
        "pairs": options.pairs,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(plan, **chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench-work", description="Work lists, the feed, webhooks and queued payments."
    )
    option, default = parser.add_argument, measure.Plan()
    option("--only", nargs="*", choices=measure.PARTS, help="measure only these (default: all)")
    option("--rounds", type=int, help=f"rounds of each kind (default: {default.rounds})")
    option("--seconds", type=float, help=f"of each load (default: {default.seconds:g})")
    option(
        "--feed-rate", type=float, metavar="N", help=f"events/s (default: {default.feed_rate:g})"
    )
    option(
        "--stored-rate", type=float, metavar="N",
        help="payments/s by card and with a stored method; 0: as fast as they are answered "
        f"(default: {default.stored_rate:g})",
    )  # fmt: skip
    option(
        "--snapshot-s", type=float, metavar="S",
        help=f"how long a snapshot is held (default: {default.snapshot_s:g})",
    )  # fmt: skip
    option(
        "--batch-lines", type=int, metavar="N",
        help=f"lines of a batch that is run (default: {default.batch_lines:,})",
    )  # fmt: skip
    option(
        "--upload-lines", nargs="*", type=int, metavar="N",
        help="lines of each file that is only uploaded "
        f"(default: {' '.join(map(str, default.upload_lines))})",
    )  # fmt: skip
    option("--base", metavar="COMMIT", help="compare the ordinary path with that of a commit")
    option("--pairs", type=int, help=f"how often to compare it (default: {default.pairs})")
    option("--quick", action="store_true", help="one short round: does it work?")
    benchmark_command.add_outputs(parser)
    return parser


if __name__ == "__main__":
    main()
