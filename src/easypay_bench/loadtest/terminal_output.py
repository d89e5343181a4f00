"""The terminal output of a load test: while it runs, and when it is over."""

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from easypay_bench.loadtest.fleet import Progress
from easypay_bench.loadtest.run import Result, Step
from easypay_bench.performance_bars import finite
from easypay_bench.targets import Verdict

_NAMES: Final = ("p50", "p90", "p95", "p99", "p99.9", "max")


class Watcher:
    """A line that is rewritten while the load runs; without a terminal, a line every 5 s."""

    def __init__(self, console: Console, total_s: float) -> None:
        self._console = console
        self._total_s = total_s
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._printed_at = -5.0
        self._last: Progress | None = None

    def __enter__(self) -> "Watcher":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, rate: float, progress: Progress) -> None:
        text = self._line(rate, progress)
        if self._console.is_terminal:
            self._live.update(text)
        elif progress.at_s - self._printed_at >= 5 or progress.at_s < self._printed_at:
            self._printed_at = progress.at_s
            self._console.print(text, highlight=False)
        self._last = progress

    def _line(self, rate: float, progress: Progress) -> str:
        before = self._last
        now = ""
        if before is not None and progress.at_s > before.at_s:
            per_s = (progress.done - before.done) / (progress.at_s - before.at_s)
            now = f"{max(0.0, per_s):,.0f}/s"
        share = min(1.0, progress.at_s / self._total_s)
        bar = "█" * round(share * 20) + "░" * (20 - round(share * 20))
        recent = progress.recent
        latency = f"p50 {recent['p50']:.1f} ms  p99 {recent['p99']:.1f} ms" if recent else ""
        asked = f"asked {rate:g}/s  " if rate else ""
        bad = f"  [red]wrong {progress.wrong:,}[/]" if progress.wrong else ""
        dropped = f"  [red]dropped {progress.dropped:,}[/]" if progress.dropped else ""
        return (
            f"{bar} {progress.at_s:5.1f} s  {asked}{now:>9}  {latency}  "
            f"in flight {progress.in_flight:,}{bad}{dropped}"
        )


def show(result: Result, console: Console) -> None:
    """Print the judgement, and the tables behind it."""
    colour = "bold red" if result.exit_status else "green"
    console.print(f"\n{result.judgement}\n", style=colour, highlight=False, soft_wrap=True)
    for table in (
        _rates(result),
        _latencies(result.last_good),
        _cpu(result),
        verdicts(result.verdicts, "Targets"),
    ):
        if table.row_count:
            console.print(table)
    for step in result.steps:
        if step.saturated:
            console.print(
                f"The generator was the limit: {step.saturated}. Try --processes 2, or run it on "
                "another machine.",
                style="yellow",
            )
    if result.knee_rps is not None:
        console.print(f"The knee: {result.knee_rps:,g}/s was still served well.")
    if result.wrong_accounts:
        console.print("NOT ACCOUNTED FOR", style="bold red")
        for complaint in result.wrong_accounts:
            console.print(f"  {complaint}", style="red", highlight=False)
    elif result.payments is not None:
        where = "here and at the processor" if result.processor_asked else "here"
        console.print(f"{result.payments:,} payments, each accounted for {where}", style="green")


def verdicts(judged: Sequence[Verdict], title: str | None = None) -> Table:
    """Return a table of each target beside its measurement."""
    name = Column("target", no_wrap=True, overflow="fold")  # the last to be made narrow
    others = [Column(head, overflow="fold") for head in ("wanted", "measured", "")]
    table = Table(name, *others, title=title, title_justify="left")
    for verdict in judged:
        words = {True: "[green]met[/]", False: "[red]missed[/]", None: f"[dim]{verdict.why}[/]"}
        table.add_row(
            verdict.target.key, verdict.target.wanted, verdict.measured, words[verdict.met]
        )
    return table


def as_json(result: Result) -> bytes:
    """Return the result as indented JSON. NaN and infinity become null."""
    return msgspec.json.format(msgspec.json.encode(finite(msgspec.to_builtins(result))), indent=1)


def _rates(result: Result) -> Table:
    table = Table(
        "asked/s", "due/s", "answered/s", "p50 ms", "p99 ms", "dropped", "wrong",
        title="Rate", title_justify="left",
    )  # fmt: skip
    for step in result.steps:
        wrong = ", ".join(f"{what}: {count:,}" for what, count in step.wrong.items())
        table.add_row(
            f"{step.asked_rps:,g}" if step.asked_rps else "maximum",
            f"{step.due_rps:,.1f}",
            f"{step.answered_rps:,.1f}",
            _ms(step.total_ms, "p50"),
            _ms(step.total_ms, "p99"),
            f"{step.dropped:,}",
            wrong or "0",
        )
    return table


def _latencies(step: Step) -> Table:
    title = "Latency, ms, from when each was due"
    table = Table("", "count", *_NAMES, title=title, title_justify="left")
    for name, spread in sorted(step.calls.items()):
        table.add_row(name, f"{step.counts[name]:,}", *(_ms(spread, each) for each in _NAMES))
    for name, spread in (
        ("all", step.total_ms),
        ("our own time", step.own_ms),
        ("the processor's", step.processor_ms),
        ("the generator was late", step.lateness_ms),
    ):
        if spread:
            table.add_row(name, "", *(_ms(spread, each) for each in _NAMES), style="dim")
    return table


def _cpu(result: Result) -> Table:
    table = Table("part", "cores", title="CPU", title_justify="left")
    for name, cores in result.cpu_cores.items():
        table.add_row(name, f"{cores:.2f}")
    return table


def _ms(spread: dict[str, float], name: str) -> str:
    return f"{spread[name]:,.2f}" if name in spread else "-"
