"""The generated part of docs/database.md: every index with its size, and every statement's cost.

`make plans` measures and writes it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from easypay.db.indexes import INDEXES
from easypay.db.table_sizes import TableSize, sizes
from plans.cases import (
    AFTER_RESTORE,
    BATCHES,
    BY_HAND,
    BY_ID,
    CHORES,
    CUSTOMERS,
    EVENT_PAGES,
    FEED,
    FILTERS,
    HOT,
    LATE,
    LISTS,
    MERCHANTS,
    NOTIFICATIONS,
    RECONCILIATION,
    RESOLVER,
    SETTLEMENT,
    STATISTICS,
    WEBHOOKS,
    Case,
)
from plans.explain import Found
from plans.usual_indexes import USUAL, Cost, measure

PAGE: Final = Path(__file__).parents[2] / "docs" / "database.md"
BEGIN: Final = "<!-- made by `make plans`: begin -->\n"
END: Final = "<!-- made by `make plans`: end -->\n"
SECTIONS: Final = {
    "Hot statements": HOT,
    "By id": BY_ID,
    "Lists": LISTS,
    "Filters of lists": FILTERS,
    "Statistics and archive": STATISTICS,
    "The feed": FEED,
    "The resolver": (*RESOLVER, *LATE),
    "After a restore": AFTER_RESTORE,
    "Merchants and keys": MERCHANTS,
    "Chores and metrics": CHORES,
    "Events": EVENT_PAGES,
    "Webhooks": WEBHOOKS,
    "Customers": CUSTOMERS,
    "Batches": BATCHES,
    "Settlement": SETTLEMENT,
    "Reconciliation": RECONCILIATION,
    "Notifications": NOTIFICATIONS,
    "By hand": BY_HAND,
}
_FIRST: Final = ("payments", "operations", "events")


def generated(page: str) -> str:
    """Return the generated part of the page."""
    return page[page.index(BEGIN) + len(BEGIN) : page.index(END)]


def named(page: str) -> dict[str, set[str]]:
    """Return the tables, indexes and statements that the generated part lists."""
    part = generated(page)
    return {
        "tables": set(re.findall(r"^\| \*\*`(\w+)`\*\* ", part, re.MULTILINE)),
        "indexes": set(re.findall(r"^\| `(\w+)` ", part, re.MULTILINE)),
        "statements": set(re.findall(r"^\| ([A-Za-z][^|`*]*?) \| \d", part, re.MULTILINE)),
    }


def text(
    found: Sequence[TableSize],
    measured: Sequence[tuple[Case, Found]],
    costs: tuple[Cost, Cost],
    payments: int,
    months: int,
) -> str:
    """Return the generated part."""
    lines = [
        f"On {payments:,} seeded payments over {months} months, with work lists as after a bad "
        "day. Closed months are full; the present month has room for updates.",
        "",
        "| table, index | size | bytes per payment | serves |",
        "| --- | ---: | ---: | --- |",
    ]
    order = sorted(found, key=lambda size: (size.table not in _FIRST, -size.total, size.table))
    for size in order:
        heap = size.heap + size.toast
        lines.append(f"| **`{size.table}`** | {_kb(heap)} | {heap / payments:,.0f} | the rows |")
        for name, count in sorted(size.indexes.items()):
            index = INDEXES[name]
            rule = " (a rule, not searched by)" if index.is_rule else ""
            lines.append(
                f"| `{name}` | {_kb(count)} | {count / payments:,.0f} | {index.serves}{rule} |"
            )
    of = dict(measured)
    for title, cases in SECTIONS.items():
        lines += [
            "",
            f"### {title}",
            "",
            "| statement | pages | months | locks | indexes | reads all, and why |",
            "| --- | ---: | ---: | ---: | --- | --- |",
        ]
        lines += [_line(case, of[case]) for case in cases]
    lines += usual(*costs, measured)
    return "\n".join(lines) + "\n"


def usual(without: Cost, costs: Cost, measured: Sequence[tuple[Case, Found]]) -> list[str]:
    """Return the table of usual indexes, with what they would cost."""
    pages = {case.name: found.buffers for case, found in measured}
    lines = [
        "",
        "### Usual indexes, and what is here instead",
        "",
        "| index on payments | bytes per payment | the query | here | pages here |",
        "| --- | ---: | --- | --- | ---: |",
    ]
    for each, size in zip(USUAL, costs.index_bytes, strict=True):
        shown = ", ".join(f"{pages[name]:,}" for name in each.cases) or "-"
        lines.append(
            f"| `{each.definition}` | {size:,.0f} | {each.query} | {each.here} | {shown} |"
        )
    return [
        *lines,
        "",
        f"With all nine, {sum(costs.index_bytes):,.0f} bytes more for each payment; each update "
        f"of a payment writes {costs.wal_bytes:,.0f} bytes of log instead of "
        f"{without.wal_bytes:,.0f}, and {costs.heap_only:.0%} of the updates are heap-only "
        f"instead of {without.heap_only:.0%}.",
    ]


def _line(case: Case, found: Found) -> str:
    shown = ", ".join(f"`{name}`" for name in sorted(found.indexes))
    whole = ", ".join(f"`{name}`" for name in sorted(found.read_whole))
    because = case.because if found.read_whole or len(found.months) > 12 or case.because else ""
    reads = f"{whole}: {because}" if whole else because
    return (
        f"| {case.name} | {found.buffers:,} | {len(found.months - {'default'})} | {found.locks}"
        f" | {shown} | {reads} |"
    )


def _kb(count: float) -> str:
    return f"{count / 1000:,.0f} kB"


async def write(
    connection: Any, measured: Sequence[tuple[Case, Found]], payments: int, months: int
) -> None:
    """Put the figures into docs/database.md."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    costs = await measure(connection)
    made = text(await sizes(connection), measured, costs, payments, months)
    PAGE.write_text(before + BEGIN + made + END + rest.split(END)[1], "utf-8")
