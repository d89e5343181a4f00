"""Writes docs/performance.md from the newest complete result: `python -m
easypay_bench.performance_page` prints it."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from easypay_bench.performance_bars import percentile

RESULTS: Final = Path("bench/results")
PAGE: Final = Path("docs/performance.md")
_INTRODUCTION: Final = """\
# How fast it is

Made from the saved results in `bench/results`; do not edit. Each section shows the newest result of
its command, and is as old as that: the table says of which day and commit. To renew a section, run
its command with `ARGS=--save` on a machine that does nothing else. Do not compare times from two
machines; ratios and counts can be compared ([how](performance-testing.md)).
"""
_SAVED: Final = (
    ("payments: CPU, rates, many connections, reads", "make bench", None),
    ("lists, filters, statistics and exports of ten million payments", "make bench-find", "find"),
    ("caches, with and without Valkey", "make bench-cache", "cache"),
    ("queued payments, batches, the feed, webhooks", "make bench-work", "work"),
)
"""What is measured, by which command, and the end of the names of its results."""
_GROWTHS: Final = {
    "by_rows": "rows",
    "pages_by_rows": "rows, pages",
    "by_months": "months",
    "pages_by_months": "months, pages",
}
"""A question's growth, and the end of the name of its bar."""
_PRINTED: Final = (
    ("the reconciliation of one large batch: time and memory", "make bench-books"),
    ("how soon lost replies are resolved", "make recovery"),
    ("the simulator with a million transactions: time and memory", "make growth"),
    (
        "payments beside 64 clients that read lists",
        ".venv/bin/python -m easypay_bench.reading_load",
    ),
    ("a gateway anywhere, at a rate", "easypay loadtest"),
)
"""What is measured by commands whose figures this page does not show."""


def save(machine: Mapping[str, Any], kind: str, text: str) -> Iterator[Path]:
    """Write a run's findings to a file with a name of its own, and renew the page of figures.

    Yields what was written. `kind` is the end of the name, such as `find`.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(machine["at"]).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{moment}-{machine['commit'] or 'unknown'}-{kind}.json"
    path.write_text(text)
    yield path
    PAGE.write_text(page(RESULTS))
    yield PAGE


def page(results: Path) -> str:
    """Return the page. Raises FileNotFoundError if no result is complete."""
    path, found = newest(results)
    wide, run = found["wide"], found["runs"][len(found["runs"]) // 2]
    parts = [
        _INTRODUCTION,
        "## What is measured\n",
        _overview(results, path, found),
        "## Payments\n",
        "The gateway, PostgreSQL with fsync on, the simulator and the load generator share one "
        "machine and compete for its CPU.\n",
        _where(found, path.name),
        _bars(found["bars"]),
        "### Beside the database alone\n",
        _pairs(wide),
        _table(
            ["pgbench clients", "payments/s", "PostgreSQL µs per payment"],
            (
                [str(each["clients"]), _n(each["payments_per_s"]), _n(each["postgres_us"])]
                for each in wide["pgbench"]
            ),
        ),
        *_yardstick(wide.get("yardstick", [])),
        "### CPU under load\n",
        f"{run['load']['connections']} connections, closed loop by {run['load']['generator']}: "
        f"{_n(run['payments_per_s'])} payments/s.\n",
        _table(["part", "µs per payment"], ([name, _n(us)] for name, us in run["cpu_us"].items())),
        "### At a rate\n",
        "Open loop: latency counts from when each request was due. Own time is the gateway's time "
        "without the processor's part; it includes the wait for two commits and for those before "
        "them. Disk is a durable write of one page on the same disk meanwhile: the lower bound of "
        "a commit. Pending writes of earlier phases are flushed before each run.\n",
        _at_rates(wide["open"]),
        "### Reads\n",
        _reads(wide["reads"]),
        "### As connections and the processor's time grow\n",
        _grid(wide["grid"]),
        "### Counted\n",
        _counted(found["counters"]),
        *_kept(found),
        f"All {found['accounting']['payments']:,} payments of the run were captured once by the "
        "gateway and sold once at the processor.\n",
        *_found(results),
        *_cached(results),
        *_worked(results),
    ]
    return "\n".join(parts)


def _overview(results: Path, path: Path, found: dict[str, Any]) -> str:
    """Return the table of all measurements, and of the newest result of each."""
    lines = []
    for what, command, kind in _SAVED:
        newest_one = (
            (found, path.name) if kind is None else _newest_whole(results, f"*-{kind}.json")
        )
        lines.append([what, f"`{command}`", *_newest_of(newest_one)])
    lines += [[what, f"`{command}`", "it prints its figures", "-"] for what, command in _PRINTED]
    return _table(["what", "command", "newest result", "bars met"], lines)


def _newest_of(newest_one: tuple[dict[str, Any], str] | None) -> tuple[str, str]:
    """Return of which day and commit a result is, and how many bars it met."""
    if newest_one is None:
        return "none is saved", "-"
    found, name = newest_one
    machine = found["machine"]
    bars = [_is_met(row) for row in found.get("bars") or found["rows"]]
    where = f"{machine['at'][:10]}, [{machine['commit']}](../bench/results/{name})"
    return where, f"{bars.count(True)} of {len(bars)}"


def _is_met(row: Mapping[str, Any]) -> bool:
    return bool(row["met"]) if "met" in row else row["verdict"] == "ok"


def _verdict(row: Mapping[str, Any]) -> str:
    """Return whether a bar is met, in one word of the page."""
    if _is_met(row):
        return "met"
    said = row.get("verdict", "missed")
    return "**missed**" if said == "missed" else str(said)


def _where(found: dict[str, Any], name: str) -> str:
    machine, database = found["machine"], found["database"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']:,} MiB, "
        f"{machine['system']}, Python {machine['python']} ({machine['object_ns']} ns to make "
        "an object), PostgreSQL "
        f"{database['server_version']} on {database['file_system']}; "
        f"{found['options']['workers']} gateway process(es); commit {machine['commit']}"
        f"{' (modified)' if machine['modified'] else ''}, {machine['at'][:10]}, "
        f"`bench/results/{name}`.\n"
    )


def _bars(bars: Iterable[dict[str, Any]]) -> str:
    return _table(
        ["bar", "wanted", "measured", ""],
        (
            [
                bar["name"],
                f"{'at least' if bar['at_least'] else 'at most'} {_n(bar['limit'])} "
                f"{bar['unit']}".strip(),
                f"{_n(bar['figure'])} {bar['unit']}".strip(),
                _verdict(bar),
            ]
            for bar in bars
        ),
    )


def _pairs(wide: dict[str, Any]) -> str:
    rates = ", ".join(
        f"{_n(pair['gateway_per_s'])} to {_n(pair['pgbench_per_s'])}" for pair in wide["pairs"]
    )
    return (
        "pgbench runs the SQL of the gateway's two transactions, one payment at a time. Run in "
        f"turn with it, the gateway took **{_n(wide['ratio'])}** times pgbench's best rate "
        f"(median of {len(wide['pairs'])} pairs: {rates}).\n"
    )


def _yardstick(compared: Sequence[dict[str, Any]]) -> list[str]:
    """Return the section; nothing for a result from before the yardstick."""
    if not compared:
        return []
    return [
        "### Beside the yardstick\n",
        "The yardstick is the grouped SQL that the gateway had when the yardstick was made, and it "
        "never changes. It runs over the gateway's own lanes and group commit, without HTTP and "
        "without a processor. Yardstick and gateway run in turn; the share is the median of the "
        "pairs. µs are CPU per payment of the yardstick.\n",
        _table(
            ["connections", "yardstick/s", "gateway/s", "share", "lowest", "highest", "Python µs",
             "PostgreSQL µs"],
            (
                [
                    str(each["connections"]),
                    ", ".join(_n(pair["yardstick_per_s"]) for pair in each["pairs"]),
                    ", ".join(_n(pair["gateway_per_s"]) for pair in each["pairs"]),
                    f"**{_n(each['ratio'])}**",
                    *(_n(each[name]) for name in ("lowest", "highest", "python_us", "postgres_us")),
                ]
                for each in compared
            ),
        ),
    ]  # fmt: skip


def _at_rates(runs: Iterable[dict[str, Any]]) -> str:
    return _table(
        ["rate", "connections", "processor", "own p50", "own p95", "own p99", "all p99",
         "disk p50", "disk p99", "memory", "wrong"],
        (
            [
                f"{each['rate']:g}/s",
                f"{each['connections']:,}",
                f"{each['processor_ms']} ms",
                *(f"{_n(each['own_ms'][name])} ms" for name in ("p50", "p95", "p99")),
                f"{_n(each['total_ms']['p99'])} ms",
                *(f"{_n(each['disk_ms'][name])} ms" for name in ("p50", "p99")),
                f"{_n(each['memory_mib'])} MiB",
                str(each["wrong"] + each["dropped"]),
            ]
            for each in runs
        ),
    )  # fmt: skip


def _reads(reads: Iterable[dict[str, Any]]) -> str:
    return _table(
        ["64 connections, closed loop", "per second", "gateway µs", "PostgreSQL µs", "p99"],
        (
            [
                each["name"],
                _n(each["per_s"]),
                _n(each["gateway_us"]),
                _n(each["postgres_us"]),
                f"{_n(each['latency_ms']['p99'])} ms",
            ]
            for each in reads
        ),
    )


def _grid(cells: Iterable[dict[str, Any]]) -> str:
    return _table(
        ["processor", "connections", "payments/s", "p50", "p99", "gateway µs", "PostgreSQL µs"],
        (
            [
                f"{each['processor_ms']} ms",
                str(each["connections"]),
                _n(each["payments_per_s"]),
                f"{_n(each['p50_ms'])} ms",
                f"{_n(each['p99_ms'])} ms",
                _n(each["gateway_us"]),
                _n(each["postgres_us"]),
            ]
            for each in cells
        ),
    )


def _counted(counters: dict[str, Any]) -> str:
    return (
        f"One payment takes {_n(counters['statements_per_payment'])} statements, each a "
        "round trip and a commit of its own if nobody else is there, "
        f"{_n(counters['wal_bytes'])} bytes of WAL, and "
        f"{counters['hot_ratio']:.0%} of its updates touch no index. Tests check these counts; "
        "no test checks times.\n"
    )


def _kept(found: dict[str, Any]) -> list[str]:
    """Return the section on bytes per payment; results of older versions have none."""
    if not found.get("kept"):
        return []
    payments = found["accounting"]["payments"]
    lines = [
        [name, _n(size / payments)]
        for table in found["kept"]
        for name, size in [(table["table"], table["heap"] + table["toast"]),
                           *table["indexes"].items()]
        if size >= payments
    ]  # fmt: skip
    return [
        "### Kept on disk\n",
        "Bytes per payment after the run, in the pages of the present month, which leave room for "
        "updates. A month that is written when it is over takes about half "
        "(`easypay db sizes`).\n",
        _table(["table or index", "bytes"], lines),
    ]


def _found(results: Path) -> list[str]:
    """Return the section on finding payments, from the newest result of `make bench-find`."""
    found = _newest_whole(results, "*-find.json")
    return [] if found is None else _finding(*found)


def _cached(results: Path) -> list[str]:
    """Return the section on caches, from the newest result of `make bench-cache`."""
    found = _newest_whole(results, "*-cache.json")
    return [] if found is None else _caching(*found)


def _worked(results: Path) -> list[str]:
    """Return the section on work lists, from the newest result of `make bench-work`."""
    found = _newest_whole(results, "*-work.json")
    return [] if found is None else _working(*found)


def _newest_whole(results: Path, names: str) -> tuple[dict[str, Any], str] | None:
    """Return the newest result that was made without --quick, and its file's name."""
    for path in sorted(results.glob(names), reverse=True):
        found: dict[str, Any] = json.loads(path.read_text())
        if not found["quick"]:
            return found, path.name
    return None


def _caching(found: dict[str, Any], name: str) -> list[str]:
    machine, setups = found["machine"], found["setups"]
    return [
        "## Caches\n",
        f"Made by `make bench-cache ARGS=--save`. {machine['cpu']}, {machine['cores']} cores, "
        f"Python {machine['python']}; commit {machine['commit']}"
        f"{' (modified)' if machine['modified'] else ''}, {machine['at'][:10]}, "
        f"`bench/results/{name}`. {found['connections']} connections, closed loop by wrk, "
        f"{found['seconds']:g} s for each kind of reads in turn; medians of "
        f"{max(len(rounds) for each in setups for rounds in each['rounds'].values())} rounds. "
        "Leave is `Cache-Control: max-age=60`.\n",
        _table(
            ["reads", "shared cache", "per second", "gateway µs", "PostgreSQL µs"],
            (
                [
                    kind,
                    setup["name"],
                    *(
                        _n(median(each[figure] for each in rounds))
                        for figure in ("per_s", "gateway_us", "postgres_us")
                    ),
                ]
                for setup in setups
                for kind, rounds in setup["rounds"].items()
            ),
        ),
        *_known_elsewhere(setups),
        "Ratios are of rounds that followed each other; the median is between lowest and highest "
        "with 95 %.\n",
        _bars_between(found["rows"]),
    ]


def _working(found: dict[str, Any], name: str) -> list[str]:
    machine = found["machine"]
    compared = (
        f" The ordinary path is compared with commit {found['base']}." if found["base"] else ""
    )
    return [
        "## Queued payments, events and webhooks\n",
        f"Made by `make bench-work ARGS=--save`. {machine['cpu']}, {machine['cores']} cores, "
        f"Python {machine['python']}; commit {machine['commit']}"
        f"{' (modified)' if machine['modified'] else ''}, {machine['at'][:10]}, "
        f"`bench/results/{name}`. One gateway, one worker, and receivers that answer at once. "
        "Times count from just before the commit; beside the statements alone, which take payments "
        f"without HTTP and without a processor, from the commit itself.{compared}\n",
        _table(
            ["feed of events", "events/s", "p50", "p99", "looks/s", "PostgreSQL µs per event"],
            (
                [
                    who,
                    _n(run["events"] / run["seconds"]),
                    *(f"{_n(run['late_ms'][share])} ms" for share in ("p50", "p99")),
                    _n(run["looks"] / run["seconds"]),
                    _n(run["cpu_s"] * 1e6 / run["events"]),
                ]
                for who, run in found["feed"].items()
            ),
        ),
        _table(
            ["webhooks", "per second", "p50", "p99", "worker µs", "PostgreSQL µs", "receivers µs"],
            (
                [
                    kind,
                    _n(told["per_s"]),
                    *(f"{_n(told['late_ms'][share])} ms" for share in ("p50", "p99")),
                    *(_n(told[part]) for part in ("worker_us", "postgres_us", "receivers_us")),
                ]
                for kind, rounds in (
                    ("that had waited", found["fast"]),
                    ("at a rate", found["at_rate"]),
                    ("while one endpoint hangs", found["one_hangs"]),
                )
                for told in rounds
            ),
        ),
        _bars_between(found["rows"]),
    ]


def _bars_between(rows: Iterable[dict[str, Any]]) -> str:
    return _table(
        ["bar", "wanted", "measured", "lowest", "highest", ""],
        (
            [
                row["name"],
                row["wanted"],
                *(_n(row[figure]) for figure in ("figure", "lowest", "highest")),
                _verdict(row),
            ]
            for row in rows
        ),
    )


def _known_elsewhere(setups: Sequence[dict[str, Any]]) -> list[str]:
    """Return how soon changes are known to another gateway. Older results do not say it."""
    timed = [each for each in setups if each.get("late_ms")]
    if not timed:
        return []
    return [
        "Captures at one gateway, until another that has the payment cached answers what is new: "
        "from just before the commit until that answer has come.\n",
        _table(
            ["what tells", "changes", "p50", "p99", "last"],
            (
                [
                    "Valkey" if each["name"] == "with Valkey" else "the feed of events",
                    str(len(each["late_ms"])),
                    *(f"{_n(percentile(each['late_ms'], share))} ms" for share in (0.5, 0.99, 1)),
                ]
                for each in timed
            ),
        ),
    ]


def _finding(found: dict[str, Any], name: str) -> list[str]:
    machine, big = found["machine"], found["databases"][0]["wanted"]
    missed = {row["name"] for row in found["rows"] if row["verdict"] == "missed"}
    asked = tuple(f"{each['name']}: " for each in found["questions"])
    return [
        "## Finding payments\n",
        "Made by `make bench-find ARGS=--save`. "
        f"{big['payments']:,} payments over {big['months']} months; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_mib']:,} MiB, PostgreSQL "
        f"{found['server_version']} on {found['file_system']}; commit {machine['commit']}"
        f"{' (modified)' if machine['modified'] else ''}, {machine['at'][:10]}, "
        f"`bench/results/{name}`. Each question is asked for many merchants and values, after "
        "the tables and indexes that it needs were read into memory; from a cold disk it takes "
        "longer. Pages are of 8 KiB. Rows and months say how many times more the same question "
        "takes and reads in a database with more rows, or as many over more months: "
        f"{_sizes(found['databases'])}. The deep page begins after row {found['depth']:,}. "
        f"Bold figures miss their bar: {_wanted(found)}.\n",
        _table(
            ["question", "p50", "p99", "pages", "most pages", "rows: time", "pages",
             "months: time", "pages"],
            (
                [
                    each["name"],
                    f"{_n(each['answers']['p50_ms'])} ms",
                    _or_bold(
                        f"{_n(each['answers']['p99_ms'])} ms", f"{each['name']}: p99" in missed
                    ),
                    *(_n(each["answers"][name]) for name in ("buffers", "most_buffers")),
                    *(
                        _or_bold(_n(each[figure]), f"{each['name']}: {bar}" in missed)
                        for figure, bar in _GROWTHS.items()
                    ),
                ]
                for each in found["questions"]
            ),
        ),
        _table(
            ["bar", "wanted", "measured", ""],
            (
                [
                    row["name"],
                    row["wanted"],
                    f"{_n(row['figure'])} {row['unit']}".strip(),
                    _verdict(row),
                ]
                for row in found["rows"]
                if not row["name"].startswith(asked)
            ),
        ),
    ]  # fmt: skip


def _wanted(found: dict[str, Any]) -> str:
    """Return the bars of the questions: what is wanted of most of them, and of statistics."""
    pages, statistics = (
        next(row["wanted"] for row in found["rows"] if row["name"] == f"{each['name']}: p99")
        for each in (found["questions"][0], found["questions"][-1])
    )
    growth = next(row["wanted"] for row in found["rows"] if row["unit"] == "times")
    return f"p99 {pages}, of statistics {statistics}; growth {growth}"


def _or_bold(figure: str, missed: bool) -> str:
    return f"**{figure}**" if missed else figure


def _sizes(made: Sequence[dict[str, Any]]) -> str:
    big, small, few, many = (each["wanted"] for each in made)
    return (
        f"{big['payments']:,} and {small['payments']:,} rows; {many['months']} and "
        f"{few['months']} months of {few['payments']:,} rows"
    )


def newest(results: Path) -> tuple[Path, dict[str, Any]]:
    """Return the newest complete result and its file. Raises FileNotFoundError."""
    for path in sorted(results.glob("*.json"), reverse=True):
        found: dict[str, Any] = json.loads(path.read_text())
        if found.get("wide"):
            return path, found
    raise FileNotFoundError(f"no result in {results} was made without --quick")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _n(figure: float | None) -> str:
    """Format three significant digits, thousands grouped; a dash if not measured."""
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
