"""docs/performance.md, out of the newest result that has everything: `python -m
easypay_bench.document` writes it to standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path("bench/results")
PAGE: Final = Path("docs/performance.md")
_INTRODUCTION: Final = """\
# How fast it is

Made by `make bench ARGS=--save`; do not edit. Gateway, PostgreSQL with fsync on, the simulator and
the load generator share one machine, so every figure is what is left after the others took their
part. Times are this machine's as much as EasyPay's: compare ratios, or runs on one machine, not
figures across machines.
"""


def page(results: Path) -> str:
    """The page. Raises FileNotFoundError where no result has everything."""
    path, found = _newest(results)
    machine, options, wide = found["machine"], found["options"], found["wide"]
    run = found["runs"][len(found["runs"]) // 2]
    parts = [
        _INTRODUCTION,
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']:,} MiB, "
        f"{machine['system']}, Python {machine['python']}, PostgreSQL "
        f"{found['database']['server_version']} on {found['database']['file_system']}; "
        f"{options['workers']} gateway process(es); commit {machine['commit']}"
        f"{' (modified)' if machine['modified'] else ''}, {machine['at'][:10]}, "
        f"`bench/results/{path.name}`.\n",
        "## Bars\n",
        _table(
            ["bar", "wanted", "measured", ""],
            (
                [
                    bar["name"],
                    f"{'at least' if bar['at_least'] else 'at most'} {_n(bar['limit'])} "
                    f"{bar['unit']}".strip(),
                    f"{_n(bar['figure'])} {bar['unit']}".strip(),
                    "met" if bar["met"] else "**missed**",
                ]
                for bar in found["bars"]
            ),
        ),
        "## Beside the database alone\n",
        "pgbench runs the very SQL of the gateway's two transactions, one payment at a time. Run "
        f"in turn with it, the gateway took **{_n(wide['ratio'])}** times pgbench's best rate "
        f"(median of {len(wide['pairs'])} pairs: "
        + ", ".join(
            f"{_n(pair['gateway_per_s'])} to {_n(pair['pgbench_per_s'])}" for pair in wide["pairs"]
        )
        + ").\n",
        _table(
            ["pgbench clients", "payments/s", "PostgreSQL µs per payment"],
            (
                [str(each["clients"]), _n(each["payments_per_s"]), _n(each["postgres_us"])]
                for each in wide["pgbench"]
            ),
        ),
        "## CPU under load\n",
        f"{run['load']['connections']} connections, closed loop by {run['load']['generator']}: "
        f"{_n(run['payments_per_s'])} payments/s.\n",
        _table(
            ["part", "µs per payment"], ([name, _n(us)] for name, us in run["cpu_us"].items())
        ),
        "## At a rate\n",
        "Open loop, counted from when each request was due. Own time is the gateway's without the "
        "processor's part.\n",
        _table(
            ["rate", "connections", "processor", "own p50", "own p95", "own p99", "all p99",
             "memory", "wrong"],
            (
                [
                    f"{each['rate']:g}/s", f"{each['connections']:,}",
                    f"{each['processor_ms']} ms",
                    *(f"{_n(each['own_ms'][name])} ms" for name in ("p50", "p95", "p99")),
                    f"{_n(each['total_ms']['p99'])} ms", f"{_n(each['memory_mib'])} MiB",
                    str(each["wrong"] + each["dropped"]),
                ]
                for each in wide["open"]
            ),
        ),
        "## Reads\n",
        _table(
            ["64 connections, closed loop", "per second", "gateway µs", "PostgreSQL µs", "p99"],
            (
                [each["name"], _n(each["per_s"]), _n(each["gateway_us"]), _n(each["postgres_us"]),
                 f"{_n(each['latency_ms']['p99'])} ms"]
                for each in wide["reads"]
            ),
        ),
        "## As connections and the processor's time grow\n",
        _table(
            ["processor", "connections", "payments/s", "p50", "p99", "gateway µs", "PostgreSQL µs"],
            (
                [f"{each['processor_ms']} ms", str(each["connections"]),
                 _n(each["payments_per_s"]), f"{_n(each['p50_ms'])} ms",
                 f"{_n(each['p99_ms'])} ms", _n(each["gateway_us"]), _n(each["postgres_us"])]
                for each in wide["grid"]
            ),
        ),
        "## Counted\n",
        f"One payment is {_n(found['counters']['statements_per_payment'])} statements, each a "
        "round trip and a commit of its own when nobody else is there, "
        f"{_n(found['counters']['wal_bytes'])} bytes of WAL, and "
        f"{found['counters']['hot_ratio']:.0%} of its updates touch no index. Tests hold these; "
        "nobody holds times.\n",
        f"All {found['accounting']['payments']:,} payments of the run were captured once by the "
        "gateway and sold once at the processor.",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _newest(results: Path) -> tuple[Path, dict[str, Any]]:
    for path in sorted(results.glob("*.json"), reverse=True):
        found: dict[str, Any] = json.loads(path.read_text())
        if found.get("wide"):
            return path, found
    raise FileNotFoundError(f"no result in {results} was made with --wide")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _n(figure: float | None) -> str:
    """Three significant digits, thousands grouped; a dash for what could not be measured."""
    if figure is None:
        return "-"
    if figure >= 1000:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"


def main() -> None:
    """Print the page."""
    sys.stdout.write(page(RESULTS))


if __name__ == "__main__":
    main()
