"""The findings of a run: as tables for people, and as JSON for comparison."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from easypay.db.table_sizes import TableSize
from easypay_bench.counters import Counters
from easypay_bench.load import Load
from easypay_bench.performance_bars import (
    Bar,
    bars,
    finite,
    median_of,
    per_payment_us,
    ratio_bars,
    wide_bars,
)
from easypay_bench.scaling import BAR_PROCESSOR_MS, BAR_RATE, IDLE, Wide
from easypay_bench.single_payment_latency import Unloaded
from easypay_bench.yardstick import Compared

PARTS = ("gateway", "postgres", "simulator", "generator")


@dataclass(frozen=True, slots=True)
class Run:
    """One load and its cost for each part. CPU in seconds, over the length of the load."""

    load: Load
    cpu_s: Mapping[str, float]
    wal_bytes: int
    instructions: float | None = None
    """The gateway's for each payment; None where they cannot be counted."""

    @property
    def payments_per_s(self) -> float:
        return self.load.replies / self.load.seconds

    def cpu_us(self, part: str) -> float:
        """Return the microseconds of CPU per payment."""
        return per_payment_us(self.cpu_s[part], self.load.replies)


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that one `make bench` measured."""

    machine: Mapping[str, Any]
    database: Mapping[str, str]
    options: Mapping[str, Any]
    unloaded: Unloaded
    counters: Counters
    runs: Sequence[Run]
    hot_ratio: float
    payments: int
    wrong: Sequence[str]
    metrics_us: float
    """What it costs to count one payment's request."""
    wide: Wide | None = None
    kept: Sequence[TableSize] = ()
    """What the run left on disk, by table."""

    @property
    def typical(self) -> Run:
        """The run with the median rate."""
        return self.runs[median_of([run.payments_per_s for run in self.runs])]

    def bars(self) -> list[Bar]:
        run = self.typical
        found = bars(
            payments_per_s=run.payments_per_s,
            gateway_us=run.cpu_us("gateway"),
            postgres_us=run.cpu_us("postgres"),
            simulator_us=run.cpu_us("simulator"),
            own_p50_ms=self.unloaded.own_ms["p50"],
            metrics_us=self.metrics_us,
        )
        if self.wide is not None:
            at_rate = self.wide.at(BAR_RATE, BAR_PROCESSOR_MS)
            idle = max(self.wide.open, key=lambda run: run.connections)
            ratios = ratio_bars(
                pgbench=self.wide.ratio,
                yardstick={each.connections: each.ratio for each in self.wide.yardstick},
            )
            others = wide_bars(
                own_p99_ms=at_rate.own_ms["p99"],
                idle_memory_mib=idle.memory_mib if idle.connections >= IDLE else math.nan,
                idle_p99_ms=idle.total_ms["p99"] if idle.connections >= IDLE else math.nan,
            )
            found = [*ratios, *found, *others]
        return found


def as_json(found: Findings) -> str:
    """Return the findings as indented JSON. NaN and infinity become null."""
    data = {
        "machine": dict(found.machine),
        "database": dict(found.database),
        "options": dict(found.options),
        "bars": [{**dataclasses.asdict(bar), "met": bar.met} for bar in found.bars()],
        "unloaded": dataclasses.asdict(found.unloaded),
        "counters": {
            **dataclasses.asdict(found.counters),
            "statements_per_payment": found.counters.statements_per_payment,
            "hot_ratio_under_load": found.hot_ratio,
        },
        "runs": [
            {
                "payments_per_s": run.payments_per_s,
                "cpu_us": {part: run.cpu_us(part) for part in PARTS},
                "cpu_s": dict(run.cpu_s),
                "wal_bytes_per_payment": run.wal_bytes / run.load.replies,
                "gateway_instructions": run.instructions,
                "load": dataclasses.asdict(run.load),
            }
            for run in found.runs
        ],
        "accounting": {"payments": found.payments, "wrong": list(found.wrong)},
        "wide": None if found.wide is None else _wide_as_data(found.wide),
        "kept": msgspec.to_builtins(found.kept),
    }
    return json.dumps(finite(data), indent=1) + "\n"


def _wide_as_data(measured: Wide) -> dict[str, Any]:
    yardstick = [
        {
            **msgspec.to_builtins(each),
            "ratio": each.ratio,
            "lowest": each.lowest,
            "highest": each.highest,
        }
        for each in measured.yardstick
    ]
    return {**msgspec.to_builtins(measured), "ratio": measured.ratio, "yardstick": yardstick}


def save(found: Findings, directory: Path) -> Path:
    """Write the findings to a file with a name of its own, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(found.machine["at"]).strftime("%Y%m%dT%H%M%SZ")
    path = directory / f"{moment}-{found.machine['commit'] or 'unknown'}.json"
    path.write_text(as_json(found))
    return path


def show(found: Findings, console: Console) -> None:
    """Print the tables."""
    run, load = found.typical, found.typical.load
    facts = found.machine
    console.print(
        f"\n{facts['cpu']}, {facts['cores']} cores, {facts['system']}; Python {facts['python']} "
        f"({facts['object_ns']} ns an object), "
        f"PostgreSQL {found.database['server_version']} on {found.database['file_system']}, "
        f"fsync {found.database['fsync']}, synchronous_commit "
        f"{found.database['synchronous_commit']}; commit {facts['commit'] or 'unknown'}"
        f"{' (modified)' if facts['modified'] else ''}",
        highlight=False,
    )
    console.print(
        f"{load.connections} connections, closed loop, {load.seconds:.1f} s by {load.generator}, "
        f"{found.options['workers']} gateway process(es), processor at 0 ms\n",
        highlight=False,
    )
    console.print(_bars_table(found))
    console.print(_cpu_table(run))
    console.print(_latency_table(found.unloaded, load))
    console.print(_counters_table(found))
    if found.kept:
        console.print(_kept_table(found))
    if found.wide is not None:
        for table in _wide_tables(found.wide):
            console.print(table)
    if len(found.runs) > 1:
        rates = ", ".join(f"{each.payments_per_s:,.0f}" for each in found.runs)
        console.print(f"{len(found.runs)} runs: {rates} payments/s; the median run is shown")
    console.print("\nTimes depend on the machine and on whatever else ran.", style="dim")
    if found.wrong:
        console.print("WRONG", style="bold red")
        for complaint in found.wrong:
            console.print(f"  {complaint}", style="red", highlight=False)
    else:
        console.print(
            f"{found.payments:,} payments: each captured here and sold once there", style="green"
        )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*head, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _bars_table(found: Findings) -> Table:
    return _table(
        "Bars",
        ("bar", "wanted", "here", ""),
        (
            (
                bar.name,
                bar.wanted,
                f"{bar.figure:,.4g} {bar.unit}",
                "[green]met[/]" if bar.met else "[red]missed[/]",
            )
            for bar in found.bars()
        ),
    )


def _cpu_table(run: Run) -> Table:
    seconds = run.load.seconds
    table = _table(
        "CPU under load",
        ("part", "µs per payment", "cores"),
        ((part, f"{run.cpu_us(part):.0f}", f"{run.cpu_s[part] / seconds:.2f}") for part in PARTS),
    )
    rest_s = max(0.0, run.cpu_s["machine"] - sum(run.cpu_s[part] for part in PARTS))
    table.add_row("everything else here", "", f"{rest_s / seconds:.2f}", style="dim")
    return table


def _latency_table(unloaded: Unloaded, load: Load) -> Table:
    names = ("p50", "p95", "p99", "p99.9", "max")
    rows = (
        ("unloaded: own time", unloaded.own_ms),
        ("unloaded: begin and record", unloaded.commits_ms),
        ("unloaded: processor", unloaded.processor_ms),
        ("unloaded: total", unloaded.total_ms),
        (f"under load, {load.connections} connections: total", load.latency_ms),
    )
    return _table(
        "Latency",
        ("latency, ms", *names),
        (
            (label, *(f"{values[name]:.2f}" if values else "-" for name in names))
            for label, values in rows
        ),
    )


def _counters_table(found: Findings) -> Table:
    counted = found.counters
    statements = counted.statements_per_payment
    loaded_wal = found.typical.wal_bytes / found.typical.load.replies
    return _table(
        "Counted",
        ("per payment", "one at a time", "under load"),
        [
            ("statements", "not counted" if statements is None else f"{statements:.2f}", ""),
            ("WAL bytes", f"{counted.wal_bytes:,.0f}", f"{loaded_wal:,.0f}"),
            ("gateway's instructions", "", _instructions(found.typical)),
            ("updates without index work", f"{counted.hot_ratio:.1%}", f"{found.hot_ratio:.1%}"),
        ],
    )


def _instructions(run: Run) -> str:
    return "not counted here" if run.instructions is None else f"{run.instructions:,.0f}"


def _kept_table(found: Findings) -> Table:
    return _table(
        "Kept on disk: bytes per payment, in pages with room for updates",
        ("table or index", "bytes"),
        (
            (name, f"{size / found.payments:,.0f}")
            for table in found.kept
            for name, size in kept_lines(table)
            if size >= found.payments
        ),
    )


def kept_lines(size: TableSize) -> list[tuple[str, int]]:
    """Return the names and bytes of a table and its indexes."""
    return [(size.table, size.heap + size.toast), *size.indexes.items()]


def _wide_tables(measured: Wide) -> Iterable[Table]:
    yield _table(
        f"The database alone; the gateway does {measured.ratio:.2f} of its best",
        ("pgbench clients", "payments/s", "PostgreSQL µs"),
        (
            (str(rate.clients), f"{rate.payments_per_s:,.0f}", f"{rate.postgres_us:.0f}")
            for rate in measured.pgbench
        ),
    )
    yield _yardstick_table(measured.yardstick)
    shown = ("p50", "p95", "p99")
    yield _table(
        "At a rate, ms",
        ("rate", "connections", "processor ms", *(f"own {name}" for name in shown), "total p99",
         "disk p50", "disk p99", "MiB"),
        (
            (
                f"{run.rate:g}/s",
                f"{run.connections:,}",
                str(run.processor_ms),
                *(f"{run.own_ms.get(name, math.nan):.2f}" for name in shown),
                f"{run.total_ms.get('p99', math.nan):.2f}",
                *(f"{run.disk_ms.get(name, math.nan):.2f}" for name in ("p50", "p99")),
                f"{run.memory_mib:.0f}",
            )
            for run in measured.open
        ),
    )  # fmt: skip
    yield _table(
        "Reads, 64 connections",
        ("reads", "per s", "gateway µs", "PostgreSQL µs", "p99 ms"),
        (
            (
                read.name,
                f"{read.per_s:,.0f}",
                f"{read.gateway_us:.0f}",
                f"{read.postgres_us:.0f}",
                f"{read.latency_ms.get('p99', math.nan):.2f}",
            )
            for read in measured.reads
        ),
    )
    yield _table(
        "Closed loop",
        ("processor ms", "connections", "payments/s", "p50 ms", "p99 ms", "gateway µs",
         "PostgreSQL µs"),
        (
            (
                str(cell.processor_ms),
                str(cell.connections),
                f"{cell.payments_per_s:,.0f}",
                f"{cell.p50_ms:.1f}",
                f"{cell.p99_ms:.1f}",
                f"{cell.gateway_us:.0f}",
                f"{cell.postgres_us:.0f}",
            )
            for cell in measured.grid
        ),
    )  # fmt: skip


def _yardstick_table(compared: Iterable[Compared]) -> Table:
    return _table(
        "The yardstick: the frozen SQL without HTTP and processor, and the gateway's share of it",
        ("connections", "yardstick/s, gateway/s", "share", "lowest", "highest", "Python µs",
         "PostgreSQL µs"),
        (
            (
                str(each.connections),
                ", ".join(
                    f"{pair.yardstick_per_s:,.0f} {pair.gateway_per_s:,.0f}" for pair in each.pairs
                ),
                *(f"{share:.2f}" for share in (each.ratio, each.lowest, each.highest)),
                f"{each.python_us:.0f}",
                f"{each.postgres_us:.0f}",
            )
            for each in compared
        ),
    )  # fmt: skip
