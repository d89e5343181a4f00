"""The findings of a run: as tables for people, and as JSON for comparison."""

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from easypay_bench.finding.bars import Findings, Row, other_rows, question_rows, rows
from easypay_bench.performance_bars import finite
from easypay_bench.tables import table


def as_data(found: Findings) -> dict[str, Any]:
    """Return the findings and their rows as plain data."""
    data = msgspec.to_builtins(found, str_keys=True)
    for made in data["databases"]:
        del made["dsn"]
    data["rows"] = msgspec.to_builtins(rows(found))
    found_data: dict[str, Any] = finite(data)
    return found_data


def show(found: Findings, console: Console) -> None:
    """Print the tables."""
    facts = found.machine
    console.print(
        f"\n{facts['cpu']}, {facts['cores']} cores, {facts['memory_mib']:,} MiB; Python "
        f"{facts['python']}, PostgreSQL {found.server_version} on {found.file_system}; commit "
        f"{facts['commit'] or 'unknown'}{' (modified)' if facts['modified'] else ''}\n"
        f"{found.room}; the deep page begins after row {found.depth:,}",
        highlight=False,
    )
    console.print(_databases(found))
    console.print(_questions(found))
    console.print(_others(found))
    missed = sum(row.verdict == "missed" for row in rows(found))
    console.print(
        f"{missed} of {len(rows(found))} figures miss their bar. Times depend on the machine and "
        "on whatever else ran.",
        style="dim",
    )


def _databases(found: Findings) -> Table:
    return table(
        "Databases",
        ("payments", "months", "seed s", "events", "numbered and folded s", "added up s",
         "bytes per payment"),
        [
            (
                f"{each.payments:,}",
                str(each.wanted.months),
                f"{each.seed_s:,.0f}",
                f"{each.events:,}",
                f"{each.feed_s:,.0f}",
                f"{each.seal_s:,.0f}",
                f"{each.bytes / each.payments:,.0f}",
            )
            for each in found.databases
        ],
    )  # fmt: skip


def _questions(found: Findings) -> Table:
    return table(
        "Questions. Times in ms; pages of 8 KiB; how many times more with more rows and months",
        ("question", "p50", "p99", "pages", "most", "rows", "rows, pages", "months",
         "months, pages", ""),
        [
            (
                each.name,
                _n(each.answers.p50_ms),
                _n(each.answers.p99_ms),
                _n(each.answers.buffers),
                _n(each.answers.most_buffers),
                _n(each.by_rows),
                _n(each.pages_by_rows),
                _n(each.by_months),
                _n(each.pages_by_months),
                _together(list(question_rows(each))),
            )
            for each in found.questions
        ],
    )  # fmt: skip


def _together(its_rows: Sequence[Row]) -> str:
    missed = [row.name.rpartition(": ")[2] for row in its_rows if row.verdict == "missed"]
    return f"[red]missed: {'; '.join(missed)}[/]" if missed else "[green]ok[/]"


def _others(found: Findings) -> Table:
    colours = {"ok": "[green]ok[/]", "missed": "[red]missed[/]"}
    return table(
        "Bars",
        ("what", "wanted", "here", ""),
        [
            (
                row.name,
                row.wanted,
                "" if row.figure is None else f"{_n(row.figure)} {row.unit}",
                colours.get(row.verdict, row.verdict),
            )
            for row in other_rows(found)
        ],
    )


def _n(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
