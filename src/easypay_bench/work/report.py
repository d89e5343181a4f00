"""The findings of a run: as tables for people, and as JSON for comparison."""

from typing import Any

import msgspec
from rich.console import Console

from easypay_bench.performance_bars import finite, per_payment_us, percentile, spread
from easypay_bench.tables import table
from easypay_bench.work.bars import Findings, Told, at_equal_statements, beside, rows
from easypay_bench.work.slow_answers import Explained


def as_data(found: Findings) -> dict[str, Any]:
    """Return the findings and their rows as plain data, with spreads in place of single times."""
    data = msgspec.to_builtins(found)
    for run in data["feed"].values():
        run["late_ms"] = spread(run["late_ms"])
    for name, why in (
        ("accepted_slow", found.accepted_slow),
        ("notified_slow", found.notified_slow),
    ):
        if why is not None:
            data[name]["slow"] = {
                field: spread([getattr(each, field) for each in why.slow])
                for field in Explained.__struct_fields__
            }
    for name in ("fast", "at_rate", "one_hangs"):
        for told in data[name]:
            told["late_ms"] = spread(told["late_ms"])
    data["rows"] = msgspec.to_builtins(list(rows(found)))
    found_data: dict[str, Any] = finite(data)
    return found_data


def show(found: Findings, console: Console) -> None:
    """Print the tables."""
    _show_queue_and_feed(found, console)
    _show_stored(found, console)
    _show_webhooks(found, console)
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


def _show_queue_and_feed(found: Findings, console: Console) -> None:
    for name, why in (("202", found.accepted_slow), ("notifications", found.notified_slow)):
        if why is not None:
            console.print(f"{name}: {why.summary()}", highlight=False)
    if found.drained:
        console.print(
            table(
                "Payments by token, by round",
                ("per second", "gateway µs", "PostgreSQL µs", "queued: per second", "worker µs",
                 "PostgreSQL µs"),
                [
                    (
                        *(f"{n:,.0f}" for n in (each.waiting_per_s, each.gateway_us)),
                        *(f"{n:,.0f}" for n in (each.waiting_postgres_us, each.queued_per_s)),
                        *(f"{n:,.0f}" for n in (each.worker_us, each.queued_postgres_us)),
                    )
                    for each in found.drained
                ],
            )
        )  # fmt: skip
    if found.feed:
        console.print(
            table(
                "The feed of events",
                ("who waits", "events/s", "p50 ms", "p99 ms", "looks/s", "ms per look", "event µs"),
                [
                    (
                        who,
                        f"{run.events / run.seconds:,.0f}",
                        *(f"{percentile(run.late_ms, share):.0f}" for share in (0.5, 0.99)),
                        f"{run.looks / run.seconds:.1f}",
                        f"{run.cpu_s * 1000 / max(1, run.looks):.2f}",
                        f"{per_payment_us(run.cpu_s, run.events):.1f}",
                    )
                    for who, run in found.feed.items()
                ],
            )
        )
    for who, run in found.feed.items():
        if run.cores:
            used = ", ".join(f"{name} {cores:.2f}" for name, cores in run.cores.items())
            console.print(f"Cores used: {who}: {used}", highlight=False)


def _show_stored(found: Findings, console: Console) -> None:
    if found.stored:
        console.print(
            table(
                f"A payment with a stored method beside one by card, {len(found.stored)} pairs",
                ("", "by card", "stored", "more", "between"),
                [
                    (name, *(f"{figure:.{digits}f}" for figure in beside(found.stored, of)))
                    for name, of, digits in (
                        ("gateway µs", lambda spent: spent.gateway_us, 1),
                        ("PostgreSQL µs", lambda spent: spent.postgres_us, 1),
                        ("statements", lambda spent: spent.statements, 3),
                    )
                ],
            )
        )
        if (more_us := at_equal_statements(found.stored)) is not None:
            console.print(f"At as many statements: {more_us:.1f} µs more", highlight=False)


def _show_webhooks(found: Findings, console: Console) -> None:
    told = {"waited": found.fast, "at a rate": found.at_rate, "one hangs": found.one_hangs}
    if found.fast:
        console.print(
            table(
                "Deliveries of webhooks, by round",
                ("what", "count", "per second", "p50 ms", "p99 ms", "worker µs", "PostgreSQL µs",
                 "receivers µs", "repeats"),
                [_line(name, each) for name, all_ in told.items() for each in all_],
            )
        )  # fmt: skip
    if (held := found.snapshot) is not None:
        console.print(
            table(
                f"Beside a snapshot that was held for {held.held_s:g} s",
                (
                    *("when", "queued/s", "deliveries/s", "pages of a claim", "of all"),
                    *("webhooks: pages", "of all"),
                ),
                [
                    (
                        when,
                        f"{burst.queued_per_s:,.0f}",
                        f"{burst.deliveries_per_s:,.0f}",
                        *(str(pages) for pages in msgspec.structs.astuple(burst)[2:]),
                    )
                    for when, bursts in (
                        ("before", held.before),
                        ("beside it", held.beside),
                        ("after", held.after),
                    )
                    for burst in bursts
                ],
            )
        )


def _line(name: str, told: Told) -> tuple[str, ...]:
    return (
        name,
        str(told.deliveries),
        f"{told.per_s:,.0f}",
        *(f"{percentile(told.late_ms, share):.0f}" for share in (0.5, 0.99)),
        *(f"{us:.0f}" for us in (told.worker_us, told.postgres_us, told.receivers_us)),
        str(told.repeats),
    )
