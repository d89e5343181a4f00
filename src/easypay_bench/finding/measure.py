"""All measurements of one run, one after another."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from easypay.db import embedded, migrate
from easypay.payments.statements import BEGIN
from easypay_bench import duplicates_cost, load, machine, stack
from easypay_bench.finding import databases, exporting, questions, timed_reads, under_load
from easypay_bench.finding.bars import FEED_RATE, Check, Compared, Findings, growth
from easypay_bench.finding.databases import Made, Say, Wanted
from easypay_bench.finding.timed_reads import Asker, Make

SETTINGS: Final[Mapping[str, str]] = {"shared_preload_libraries": "pg_stat_statements"}
_GUARDS: Final = "duplicate_guards"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much to make and to measure."""

    payments: int = 10_000_000
    months: int = 36
    fewer: int = 100_000
    """Payments of the small database, over as many months."""
    merchants: int = 500
    few_months: int = 6
    many_months: int = 120
    payments_in_months: int = 200_000
    merchants_in_months: int = 100
    warm_up: int = 30
    questions: int = 300
    counted: int = 150
    api_s: float = 5
    feed_s: float = 10
    feed_per_s: float = FEED_RATE
    export_pairs: int = 5
    export_s: float = 5
    duplicates_s: float = 10
    quick: bool = False


def quick(payments: int) -> Plan:
    """Return a plan that only shows that everything works."""
    return Plan(
        payments=payments, months=2, fewer=payments // 10, merchants=10, few_months=2,
        many_months=6, payments_in_months=payments // 10, merchants_in_months=10, warm_up=2,
        questions=6, counted=2, api_s=1, feed_s=1, feed_per_s=100, export_pairs=1,
        export_s=0.2, duplicates_s=0.5, quick=True,
    )  # fmt: skip


def everything(plan: Plan, directory: Path, say: Say) -> Findings:
    """Make the databases in `directory`, or use those that are there, and measure.

    Raises NotEnoughRoom, ClusterError, StackFailed, LoadFailed.
    """
    facts = machine.facts()
    payments, room = databases.payments_that_fit(
        plan.payments, plan.months, plan.merchants, directory
    )
    say(room)
    with embedded.running(directory, settings=SETTINGS) as cluster:
        made = asyncio.run(_databases(cluster.dsn, plan, payments, directory, say))
        version, depth, compared = asyncio.run(_ask_all(made, plan, say))
        with stack.on(cluster, made[0].dsn, directory) as running:
            first_page = None
            if load.choose("auto") == "wrk":
                say("first page through the API")
                first_page = under_load.first_page(running, made[0], seconds=plan.api_s)
            else:
                say("first page through the API: not measured, wrk is not installed")
            say(f"the feed behind {plan.feed_per_s:,g} payments/s")
            behind = under_load.behind(running, rate=plan.feed_per_s, seconds=plan.feed_s)
            say("an export, alone and beside payments")
            with under_load.key(running.database_url, made[0], "payments:export") as secret:
                exported = exporting.measured(
                    running, secret, pairs=plan.export_pairs, seconds=plan.export_s
                )
        say("the duplicate check")
        check = asyncio.run(_duplicates(cluster.dsn, plan.duplicates_s))
    return Findings(
        machine=facts,
        server_version=version,
        file_system=machine.file_system(directory.absolute()),
        quick=plan.quick,
        room=room,
        depth=depth,
        databases=made,
        questions=compared,
        first_page=first_page,
        behind=behind,
        exported=exported,
        check=check,
    )


async def _databases(
    server_dsn: str, plan: Plan, payments: int, directory: Path, say: Say
) -> list[Made]:
    """Return the big database, the small one, and those of few and of many months."""
    wanted = (
        Wanted(payments, plan.months, plan.merchants),
        Wanted(min(plan.fewer, payments), plan.months, plan.merchants),
        Wanted(plan.payments_in_months, plan.few_months, plan.merchants_in_months),
        Wanted(plan.payments_in_months, plan.many_months, plan.merchants_in_months),
    )
    await migrate.migrate(server_dsn)
    await stack.count_when_asked(server_dsn)
    return [await databases.ready(server_dsn, each, directory, say) for each in wanted]


async def _ask_all(made: list[Made], plan: Plan, say: Say) -> tuple[str, int, list[Compared]]:
    """Ask every question. Returns the server's version and how deep the deep pages began, too."""
    found = []
    async with timed_reads.askers(made) as askers:
        version = await askers[0].connection.fetchval("SHOW server_version")
        await askers[0].connection.execute("CHECKPOINT")
        say("reading what questions need into memory, as on a server that has run for a while")
        for asker in askers:
            await timed_reads.warm(asker.connection)
        for name, make, is_page in _questions():
            compared = await _compare(name, make, is_page, askers, plan)
            say(_line(compared))
            found.append(compared)
        depth = askers[0].examples.depth
    return version, depth, found


def _questions() -> Iterator[tuple[str, Make, bool]]:
    """Yield each question's name, what makes one, and whether it is for a page."""
    for name, parts in questions.PAGES.items():
        yield name, partial(questions.page, parts), True
    yield questions.DEEP, questions.deep_page, True
    for name, kind in questions.STRETCHES.items():
        yield name, partial(questions.stretch, kind), False


async def _compare(
    name: str, make: Make, is_page: bool, askers: list[Asker], plan: Plan
) -> Compared:
    """Ask one question of the databases: pages of all, statistics not of the small one. They read
    counters, of which it has too few for a comparison."""
    big, small, few, many = askers
    asked = [big, few, many, small] if is_page else [big, few, many]
    answers = await timed_reads.times(asked, make, warm_up=plan.warm_up, questions=plan.questions)
    await timed_reads.count(asked, make, answers, questions=plan.counted)
    of_big, of_few, of_many, *of_small = answers
    return Compared(
        name,
        is_page,
        of_big,
        growth(of_big.p50_ms, of_small[0].p50_ms) if of_small else None,
        growth(of_many.p50_ms, of_few.p50_ms),
        growth(of_big.buffers, of_small[0].buffers) if of_small else None,
        growth(of_many.buffers, of_few.buffers),
    )


def _line(each: Compared) -> str:
    answers = each.answers
    pages = "" if answers.buffers is None else f", {answers.buffers:,.0f} pages of 8 KiB"
    if answers.refused:
        pages += f"; {answers.refused} of {answers.asked} took too long and got no answer"
    return f"{each.name}: p50 {answers.p50_ms:.2f} ms, p99 {answers.p99_ms:.2f} ms{pages}"


async def _duplicates(server_dsn: str, seconds: float) -> Check:
    """Measure the check in a database of its own, which is dropped afterwards."""
    dsn = await databases.empty(server_dsn, "find_duplicates")
    off, on = await duplicates_cost.measured(dsn, seconds)
    await databases.drop(server_dsn, "find_duplicates")
    more = {
        size: max(0.0, on.usual_us(size) - off.usual_us(size))
        for size in duplicates_cost.SIZES
        if size > 1
    }
    return Check(more, _GUARDS in BEGIN.sql)
