"""Comparisons and histories: as tables in the terminal, as JSON, and as one HTML page."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from statistics import median
from typing import Any, Final

import msgspec
from rich.table import Column, Table

from easypay_bench.charts import Line, chart
from easypay_bench.history.change_points import change_points
from easypay_bench.history.compare import Change
from easypay_bench.history.results import Figure, Result
from easypay_bench.html_page import html_page

_COLOURS: Final = {"better": "green", "worse": "bold red", "unsure": "dim"}
_HEAD: Final = ("figure", "before", "after", "times", "between", "")
_ORDER: Final = {"worse": 0, "better": 1, "other": 2, "the same": 3, "unsure": 4}


class Series(msgspec.Struct, frozen=True):
    """One figure over time, on one machine."""

    name: str
    unit: str
    machine: str
    values: tuple[float, ...]
    """The median of each result."""
    runs: tuple[str, ...]
    """The moment and the commit of each result."""
    new_levels: tuple[int, ...]
    """The indexes at which it changed its level."""


def in_short(changes: Sequence[Change]) -> str:
    """Return the comparison in one line."""
    said = (
        f"{sum(each.verdict == verdict for each in changes):,} {words}"
        for verdict, words in (
            ("worse", "worse"),
            ("better", "better"),
            ("the same", "the same within their scatter"),
            ("unsure", "with too few repeats to tell"),
        )
    )
    chance = sum(each.lowest is not None for each in changes) // 20
    beside = f"; {chance} of these may differ by chance" if chance else ""
    return f"{len(changes):,} figures: {', '.join(said)}{beside}"


def sorted_changes(changes: Sequence[Change]) -> list[Change]:
    """Return what is worse first, then what is better; the largest change of each first."""
    return sorted(changes, key=lambda each: (_ORDER[each.verdict], -abs((each.ratio or 1) - 1)))


def table(title: str, changes: Sequence[Change]) -> Table:
    """Return the comparison as a table for the terminal."""
    columns = [Column(head, overflow="fold", justify="right") for head in _HEAD[1:]]
    found = Table(Column(_HEAD[0], overflow="fold"), *columns, title=title, title_justify="left")
    for each in sorted_changes(changes):
        colour = _COLOURS.get(each.verdict, "default")
        found.add_row(*_cells(each), f"[{colour}]{each.verdict}[/]")
    return found


def html_table(changes: Sequence[Change]) -> str:
    """Return the comparison as an HTML table."""
    head = "".join(f"<th>{name}" for name in _HEAD)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}' for cell in _cells(each))}"
        f"<td class={each.verdict.split()[-1]}>{each.verdict}"
        for each in sorted_changes(changes)
    )
    return f"<table><tr>{head}{rows}</table>"


def _cells(change: Change) -> tuple[str, ...]:
    between = (
        ""
        if change.lowest is None or change.highest is None
        else f"{change.lowest:.3f} and {change.highest:.3f}"
    )
    values = (f"{_n(value)} {change.unit}".strip() for value in (change.before, change.after))
    ratio = "" if change.ratio is None else f"{change.ratio:.3f}"
    return change.name, *values, ratio, between


def series(results: Sequence[Result]) -> Iterator[Series]:
    """Yield every figure of the results, oldest first, with its changes of level.

    Times of different machines are different series. Counts are one: they are the same everywhere.
    """
    runs: dict[tuple[str, str, str], list[tuple[str, Figure]]] = defaultdict(list)
    for result in results:
        moment = f"{result.at[:16].replace('T', ' ')} {result.commit}"
        for name, figure in result.figures.items():
            if figure.better:
                machine = "counted" if figure.counted else result.machine
                runs[result.kind, name, machine].append((moment, figure))
    for (kind, name, machine), found in runs.items():
        values = tuple(median(figure.values) for _, figure in found)
        yield Series(
            name=f"{kind}: {name}",
            unit=found[0][1].unit,
            machine=machine,
            values=values,
            runs=tuple(moment for moment, _ in found),
            new_levels=tuple(change_points(values)),
        )


def page(found: Sequence[Series], *, least: int = 2) -> str:
    """Return the history as one HTML page: a chart for each figure with `least` results or more,
    and before them the changes of level."""
    drawn = [each for each in found if len(each.values) >= least]
    changed = [each for each in drawn if each.new_levels]
    kinds: Mapping[str, list[Series]] = defaultdict(list)
    for each in drawn:
        kinds[each.name.partition(":")[0]].append(each)
    charts = "".join(
        f"<h2>{escape(kind)}</h2><main>{''.join(_chart(each) for each in its)}</main>"
        for kind, its in kinds.items()
    )
    levels = "".join(f"<li>{escape(line)}" for each in changed for line in new_levels(each))
    first = f"<ul>{levels}</ul>" if changed else "<p>No figure changed its level.</p>"
    several = f"{len(drawn):,} figures with {least} results or more"
    return html_page("EasyPay over time", f"<p>{several}</p>{first}{charts}")


def new_levels(each: Series) -> Iterator[str]:
    """Yield a line for each change of level: what, when, from what to what."""
    edges = [0, *each.new_levels, len(each.values)]
    for start, cut, end in zip(edges, edges[1:], edges[2:], strict=False):
        old, new = median(each.values[start:cut]), median(each.values[cut:end])
        yield (
            f"{each.name}: {_n(old)} to {_n(new)} {each.unit} since {each.runs[cut]} "
            f"({each.machine})"
        )


def _chart(each: Series) -> str:
    every = max(1, len(each.runs) // 6)
    ticks = [
        (float(n), run.split()[-1][:7] if len(run.split()) == 3 else run[:10])
        for n, run in enumerate(each.runs)
        if n % every == 0
    ]
    return chart(
        each.name.partition(": ")[2],
        [Line(each.machine, [(float(n), value) for n, value in enumerate(each.values)])],
        x_unit="commits, in the order of their results",
        y_unit=each.unit,
        x_ticks=ticks,
        marks=[(float(n), each.runs[n].split()[-1][:7]) for n in each.new_levels],
    )


def as_data(before: Result, after: Result, changes: Sequence[Change]) -> dict[str, Any]:
    """Return a comparison as plain data."""
    sides = {
        name: {
            "file": str(side.path),
            "at": side.at,
            "commit": side.commit,
            "machine": side.machine,
        }
        for name, side in (("before", before), ("after", after))
    }
    return {**sides, "changes": msgspec.to_builtins(sorted_changes(changes))}


def _n(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
