"""The findings of a run: as tables for people, and as JSON for comparison."""

from statistics import median
from typing import Any

import msgspec
from rich.console import Console

from easypay_bench.caching.bars import Findings, rows
from easypay_bench.performance_bars import finite, percentile
from easypay_bench.tables import table


def as_data(found: Findings) -> dict[str, Any]:
    """Return the findings and their rows as plain data."""
    data = msgspec.to_builtins(found)
    data["rows"] = msgspec.to_builtins(list(rows(found)))
    found_data: dict[str, Any] = finite(data)
    return found_data


def show(found: Findings, console: Console) -> None:
    """Print the tables."""
    for setup in found.setups:
        console.print(
            table(
                f"Reads, {setup.name}: medians of {found.seconds:g} s each",
                ("what", "per second", "gateway µs", "PostgreSQL µs", "wrong"),
                [
                    (
                        name,
                        f"{median(each.per_s for each in rounds):,.0f}",
                        f"{median(each.gateway_us for each in rounds):.1f}",
                        f"{median(each.postgres_us for each in rounds):.1f}",
                        str(sum(each.wrong for each in rounds)),
                    )
                    for name, rounds in setup.rounds.items()
                ],
            )
        )
    console.print(
        table(
            "Changes: known to another gateway after",
            ("what tells", "changes", "p50 ms", "p99 ms", "last ms"),
            [
                (
                    setup.name,
                    str(len(setup.late_ms)),
                    *(f"{percentile(setup.late_ms, share):.1f}" for share in (0.5, 0.99, 1)),
                )
                for setup in found.setups
            ],
        )
    )
    console.print(
        table(
            "Bars",
            ("what", "wanted", "here", "between", ""),
            [
                (
                    row.name,
                    row.wanted,
                    f"{row.figure:.3g} {row.unit}",
                    f"{row.lowest:.3g} and {row.highest:.3g}",
                    "[green]met[/]" if row.met else "[red]missed[/]",
                )
                for row in rows(found)
            ],
        )
    )
    console.print(
        "Ratios of rounds that followed each other; the median is between the two with 95 %.",
        style="dim",
    )
