"""The results of `make bench` as printed, saved and shown in docs/performance.md: every figure is
in its own column, and no incomplete run is published."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from easypay.db.table_sizes import TableSize
from easypay_bench import performance_chart, performance_page, report
from easypay_bench.counters import Counters
from easypay_bench.load import Load
from easypay_bench.performance_bars import SHARES
from easypay_bench.pgbench import Rate
from easypay_bench.report import Findings, Run
from easypay_bench.scaling import Cell, OpenRun, Pair, Read, Wide
from easypay_bench.single_payment_latency import Unloaded
from easypay_bench.yardstick import Compared
from easypay_bench.yardstick import Pair as YardstickPair

MACHINE = {
    "at": "2026-11-24T08:13:22+00:00", "commit": "720c9f085681", "modified": False,
    "system": "Linux 6.18 x86_64", "cpu": "AMD EPYC", "cores": 2, "memory_mib": 24105,
    "load_before": 0.3, "python": "3.11.7", "object_ns": 270,
}  # fmt: skip
DATABASE = {
    "server_version": "18.6", "fsync": "on", "synchronous_commit": "on", "file_system": "ext4",
}  # fmt: skip
OPEN = {"rate": 500, "answered_per_s": 500.0, "lateness_ms": {}, "wrong": 1, "dropped": 2}


def spread(first: float) -> dict[str, float]:
    """Return p50 to max, each one larger by 1."""
    return {name: first + number for number, name in enumerate(SHARES)}


def findings(wide: Wide | None) -> Findings:
    load = Load("wrk", 64, 10.0, 43_210, 1.5, spread(11))
    cpu_s = {"gateway": 8.0, "postgres": 4.0, "simulator": 3.0, "generator": 1.5, "machine": 18.0}
    return Findings(
        machine=MACHINE,
        database=DATABASE,
        options={"workers": 1},
        unloaded=Unloaded(300, spread(3), spread(1), spread(0.5), spread(2)),
        counters=Counters(200, None, 4700.0, 0.75),
        runs=[Run(load, cpu_s, 43_210 * 2000)],
        hot_ratio=0.875,
        payments=50_000,
        wrong=[],
        metrics_us=3.5,
        wide=wide,
        kept=[TableSize("payments", 50_000, 30_000_000, 0, {"payments_pkey": 4_000_000})],
    )


WIDE = Wide(
    pgbench=[Rate(16, 6543.0, 98.0)],
    pairs=[Pair(3000.0, 6000.0)],
    yardstick=[
        Compared(
            64,
            [YardstickPair(8000.0, 4400.0), YardstickPair(9000.0, 3600.0)],
            python_us=34.0,
            postgres_us=67.0,
        ),
        Compared(256, [YardstickPair(15_000.0, 4500.0)], python_us=32.0, postgres_us=61.0),
    ],
    open=[
        OpenRun(
            **OPEN, connections=64, processor_ms=50, own_ms=spread(4), total_ms=spread(54),
            disk_ms=spread(0.5), memory_before_mib=70.0, memory_mib=81.0,
        ),
        OpenRun(
            **OPEN, connections=10_000, processor_ms=0, own_ms=spread(5), total_ms=spread(6),
            disk_ms=spread(1.5), memory_before_mib=70.0, memory_mib=181.0,
        ),
    ],
    reads=[Read("by id", 9876.0, 55.0, 33.0, spread(7))],
    grid=[
        Cell(
            connections=256, processor_ms=300, payments_per_s=777.0, gateway_us=222.0,
            postgres_us=111.0, p50_ms=301.0, p99_ms=333.0,
        )
    ],
)  # fmt: skip


def rows(text: str, edge: str) -> list[list[str]]:
    """Return the cells of every table row."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        [cell.strip() for cell in line.strip(edge).split(edge)]
        for line in lines
        if line.startswith(edge)
    ]


def test_the_page_shows_the_newest_complete_result(tmp_path: Path) -> None:
    saved = report.save(findings(WIDE), tmp_path)
    (tmp_path / "20991231T000000Z-x.json").write_text(report.as_json(findings(None)))
    page = performance_page.page(tmp_path)
    found = rows(page, "|")
    assert f"`bench/results/{saved.name}`" in page
    assert "**0.5** times pgbench's best rate (median of 1 pairs: 3,000 to 6,000)" in page
    assert "Python 3.11.7 (270 ns to make an object)" in page
    assert "All 50,000 payments of the run" in page
    date_and_commit = f"2026-11-24, [720c9f085681](../bench/results/{saved.name})"
    for row in (
        [
            "payments: CPU, rates, many connections, reads",
            "`make bench`",
            date_and_commit,
            "10 of 12",
        ],
        ["caches, with and without Valkey", "`make bench-cache`", "none is saved", "-"],
        ["payments sustained", "at least 3,000 /s", "4,321 /s", "met"],
        ["own time, unloaded, p50", "at most 2 ms", "1 ms", "met"],
        ["own time p99, 500/s, processor at 50 ms", "at most 10 ms", "8 ms", "met"],
        ["memory with 10,000 connections", "at most 200 MiB", "181 MiB", "met"],
        ["share of pgbench's best rate", "at least 0.5", "0.5", "met"],
        ["share of the yardstick, 64 connections", "at least 0.5", "0.475", "**missed**"],
        ["share of the yardstick, 256 connections", "at least 0.38", "0.3", "**missed**"],
        ["64", "8,000, 9,000", "4,400, 3,600", "**0.475**", "0.4", "0.55", "34", "67"],
        ["256", "15,000", "4,500", "**0.3**", "0.3", "0.3", "32", "61"],
        ["16", "6,543", "98"],
        ["payments", "600"],
        ["payments_pkey", "80"],
        ["gateway", "185"],
        [
            "500/s",
            "64",
            "50 ms",
            "4 ms",
            "7 ms",
            "8 ms",
            "58 ms",
            "0.5 ms",
            "4.5 ms",
            "81 MiB",
            "3",
        ],
        [
            "500/s",
            "10,000",
            "0 ms",
            "5 ms",
            "8 ms",
            "9 ms",
            "10 ms",
            "1.5 ms",
            "5.5 ms",
            "181 MiB",
            "3",
        ],
        ["metrics of a request", "at most 5 µs", "3.5 µs", "met"],
        ["by id", "9,876", "55", "33", "11 ms"],
        ["300 ms", "256", "777", "301 ms", "333 ms", "222", "111"],
    ):
        assert row in found, row


def test_without_a_complete_result_there_is_no_page(tmp_path: Path) -> None:
    report.save(findings(None), tmp_path)
    with pytest.raises(FileNotFoundError, match="without --quick"):
        performance_page.page(tmp_path)


def test_nan_is_null_in_a_saved_result() -> None:
    few = WIDE.open[:1]  # without the run with 10,000 connections
    wide = Wide(pgbench=WIDE.pgbench, pairs=WIDE.pairs, yardstick=[], open=few, reads=[], grid=[])
    saved = json.loads(report.as_json(findings(wide)))
    idle = {bar["name"]: (bar["figure"], bar["met"]) for bar in saved["bars"]}
    assert idle["memory with 10,000 connections"] == (None, False)
    assert idle["share of the yardstick, 64 connections"] == (None, False)


def test_the_terminals_tables_show_every_figure_in_its_column() -> None:
    shown = io.StringIO()
    report.show(findings(WIDE), Console(file=shown, width=120))
    found = rows(shown.getvalue(), "│")
    for row in (
        ["payments sustained", "at least 3,000 /s", "4,321 /s", "met"],
        ["gateway", "185", "0.80"],
        ["everything else here", "", "0.15"],
        ["unloaded: own time", "1.00", "4.00", "5.00", "6.00", "7.00"],
        ["under load, 64 connections: total", "11.00", "14.00", "15.00", "16.00", "17.00"],
        ["statements", "not counted", ""],
        ["WAL bytes", "4,700", "2,000"],
        ["gateway's instructions", "", "not counted here"],
        ["updates without index work", "75.0%", "87.5%"],
        ["16", "6,543", "98"],
        ["64", "8,000 4,400, 9,000 3,600", "0.48", "0.40", "0.55", "34", "67"],
        ["256", "15,000 4,500", "0.30", "0.30", "0.30", "32", "61"],
        ["500/s", "64", "50", "4.00", "7.00", "8.00", "58.00", "0.50", "4.50", "81"],
        ["by id", "9,876", "55", "33", "11.00"],
        ["300", "256", "777", "301.0", "333.0", "222", "111"],
    ):
        assert row in found, row
    assert "50,000 payments: each captured here and sold once there" in shown.getvalue()


def test_the_documentations_page_and_picture_show_the_newest_result() -> None:
    root = Path(__file__).parents[2]
    assert (root / performance_page.PAGE).read_text() == performance_page.page(
        root / performance_page.RESULTS
    )
    assert (root / performance_chart.CHART).read_text() == performance_chart.chart(
        root / performance_page.RESULTS
    )
