"""`python -m easypay_bench yardstick`: the yardstick on a new database, without a gateway."""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec
from rich.console import Console
from rich.table import Table

from easypay.db import embedded, migrate, partitions
from easypay.db.postgres_binaries import ClusterError
from easypay_bench import yardstick
from easypay_bench.http_calls import StackFailed


def main(arguments: Sequence[str]) -> None:
    """Run it, and print a rate for each number of payments in flight.

    Exits with status 2 if it cannot be measured.
    """
    options = _parser().parse_args(arguments)
    # As with Ctrl-C, the database is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        rates = _measure(options)
    except (StackFailed, ClusterError) as error:
        sys.stderr.write(f"easypay-bench: {error}\n")
        sys.exit(2)
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(rates) + b"\n")
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(_table(rates))


def _measure(options: argparse.Namespace) -> list[yardstick.Rate]:
    groups = yardstick.Groups(options.groups_in_flight, options.group_size)
    with (
        tempfile.TemporaryDirectory(prefix="easypay-yardstick-") as directory,
        embedded.running(Path(directory)) as cluster,
    ):
        asyncio.run(_make_tables(cluster.dsn))
        return [
            yardstick.measure(
                cluster.dsn, cluster.pid, groups, in_flight=in_flight, seconds=options.seconds
            )
            for _ in range(options.runs)
            for in_flight in options.in_flight
        ]


async def _make_tables(dsn: str) -> None:
    await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await partitions.ensure(connection, months_ahead=1)
    finally:
        await connection.close()


def _table(rates: Sequence[yardstick.Rate]) -> Table:
    table = Table(
        "in flight", "payments/s", "each run", "Python µs", "PostgreSQL µs",
        title="The yardstick", title_justify="left",
    )  # fmt: skip
    for in_flight in dict.fromkeys(rate.in_flight for rate in rates):
        runs = [rate for rate in rates if rate.in_flight == in_flight]
        table.add_row(
            str(in_flight),
            f"{statistics.median(run.payments_per_s for run in runs):,.0f}",
            ", ".join(f"{run.payments_per_s:,.0f}" for run in runs),
            f"{statistics.median(run.python_us for run in runs):.0f}",
            f"{statistics.median(run.postgres_us for run in runs):.0f}",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    default = yardstick.groups_of({})
    parser = argparse.ArgumentParser(
        prog="easypay-bench yardstick",
        description="What the gateway's grouped SQL can do without HTTP and without a processor.",
    )
    parser.add_argument(
        "--in-flight", type=int, nargs="+", default=yardstick.IN_FLIGHT, metavar="N",
        help="payments at once (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=5, help="length of one run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the median is shown")
    parser.add_argument("--groups-in-flight", type=int, default=default.in_flight)
    parser.add_argument("--group-size", type=int, default=default.size)
    parser.add_argument("--json", action="store_true", help="print every run as JSON")
    return parser
