"""What is wanted of each figure, and whether it is so. Measures nothing."""

from collections.abc import Iterator
from statistics import median
from typing import Any, Final, Literal

import msgspec

from easypay_bench.finding.databases import Made
from easypay_bench.finding.exporting import Exported
from easypay_bench.finding.timed_reads import Answers
from easypay_bench.finding.under_load import Behind, FirstPage

PAGE_MS: Final = 3.0
STATISTICS_MS: Final = 5.0
GROWTH: Final = 1.3
"""How many times more the same page may take in a larger database."""
API_PER_S: Final = 5_000.0
CHECK_US: Final = 20.0
BEHIND_MS: Final = 200.0
FEED_US: Final = 25.0
FEED_RATE: Final = 3_000
_REACHED: Final = 0.95
EXPORT_PER_S: Final = 100_000.0
EXPORT_MIB: Final = 64.0
BESIDE: Final = 0.9
SEED_MINUTES: Final = 12.0
SEEDED: Final = 10_000_000

Verdict = Literal["ok", "missed", "not measured", "not reached"]


class Row(msgspec.Struct, frozen=True):
    """One line of the table. `figure` is None if there is none."""

    name: str
    wanted: str
    figure: float | None
    unit: str
    verdict: Verdict


class Compared(msgspec.Struct, frozen=True):
    """One question, asked of all databases; statistics are not compared by rows.

    Growth: how many times more in the larger one.
    """

    name: str
    is_page: bool
    answers: Answers
    """Of the big database."""
    by_rows: float | None
    by_months: float | None
    """Growth of the median time. None if it was not compared."""
    pages_by_rows: float | None
    pages_by_months: float | None
    """Growth of the pages of 8 KiB."""


class Check(msgspec.Struct, frozen=True):
    """PostgreSQL's microseconds for the duplicate check of a payment, by the size of its group."""

    on_us: dict[int, float]
    off_mentions_it: bool
    """Whether the statement of merchants who do not check has any part of the check."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run measured. `databases`: the big one first."""

    finding: bool = True
    machine: dict[str, Any]
    server_version: str
    file_system: str
    quick: bool
    room: str
    depth: int
    databases: list[Made]
    questions: list[Compared]
    first_page: FirstPage | None
    behind: Behind
    exported: Exported
    check: Check


def growth(larger: float | None, smaller: float | None) -> float | None:
    """Return how many times more the larger database takes; None if one figure is missing."""
    return None if larger is None or not smaller else larger / smaller


def _row(name: str, figure: float | None, unit: str, limit: float, *, least: bool = False) -> Row:
    wanted = f"{'at least' if least else 'at most'} {limit:,g} {unit}".strip()
    if figure is None:
        return Row(name, wanted, None, unit, "not measured")
    met = figure >= limit if least else figure <= limit
    return Row(name, wanted, figure, unit, "ok" if met else "missed")


def rows(found: Findings) -> list[Row]:
    """Return the whole table."""
    page_rows = [row for each in found.questions for row in question_rows(each)]
    return [*page_rows, *other_rows(found)]


def question_rows(each: Compared) -> Iterator[Row]:
    """Yield the rows of one question."""
    limit = PAGE_MS if each.is_page else STATISTICS_MS
    yield _row(f"{each.name}: p99", each.answers.p99_ms, "ms", limit)
    by_rows = (("rows", each.by_rows), ("rows, pages", each.pages_by_rows))
    by_months = (("months", each.by_months), ("months, pages", each.pages_by_months))
    for what, figure in (*by_rows, *by_months) if each.is_page else by_months:
        yield _row(f"{each.name}: {what}", figure, "times", GROWTH)


def other_rows(found: Findings) -> Iterator[Row]:
    """Yield the rows that are not about one question."""
    page = found.first_page
    for clients, per_s in (
        ("the same for all clients", None if page is None else page.per_s),
        ("another for each", None if page is None else page.different_per_s),
    ):
        yield _row(f"first page through the API, {clients}", per_s, "/s", API_PER_S, least=True)
    for size, us in found.check.on_us.items():
        yield _row(f"duplicate check on, groups of {size}", us, "µs", CHECK_US)
    yield _row("duplicate check off", float(found.check.off_mentions_it), "statements", 0)
    yield from _feed_rows(found.behind)
    yield from _export_rows(found.exported)
    yield _seed_row(found.databases[0])


def _feed_rows(behind: Behind) -> Iterator[Row]:
    reached = behind.payments_per_s >= _REACHED * FEED_RATE
    at = f"at {behind.payments_per_s:,.0f} payments/s"
    for name, figure, unit, limit in (
        ("search and statistics behind, p99", behind.p99_ms, "ms", BEHIND_MS),
        ("search and statistics, PostgreSQL for each event", behind.postgres_us, "µs", FEED_US),
    ):
        row = _row(f"{name}, {at}", figure, unit, limit)
        wanted = f"{row.wanted} at {FEED_RATE:,}/s"
        verdict: Verdict = row.verdict if reached else "not reached"
        yield msgspec.structs.replace(row, wanted=wanted, verdict=verdict)


def _seed_row(big: Made) -> Row:
    """Return the row of the seed, reckoned to ten million payments."""
    minutes = big.seed_s / 60 * SEEDED / big.payments
    of = "" if big.payments == SEEDED else f", by {big.payments:,}"
    return _row(f"db seed of {SEEDED:,} payments{of}", minutes, "minutes", SEED_MINUTES)


def _export_rows(exported: Exported) -> Iterator[Row]:
    yield _row("export CSV, alone", exported.per_s, "rows/s", EXPORT_PER_S, least=True)
    yield _row("export CSV, its memory", exported.memory_mib, "MiB", EXPORT_MIB)
    beside = median(exported.payments_beside) if exported.payments_beside else None
    yield _row("payments beside an export", beside, "times those alone", BESIDE, least=True)
