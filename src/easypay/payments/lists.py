"""Lists: pages of payments, refunds and what belongs to a payment, on the months' own tables.

A page costs the same however many payments and months there are. Reading starts in the first month
of the range and widens: two months, then twelve more, then all others through the parent table. So
a page takes one statement if its rows are recent, and never more than three. The statements name
the months' tables, so a connection plans each of them once, and they lock few tables.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import replace

from easypay import ids
from easypay.clock import monotonic
from easypay.db.partitions import Months
from easypay.db.reading import Reading
from easypay.mode import Mode
from easypay.payments.model import OPERATION_VIEW_COLUMNS, Operation, operation_of
from easypay.payments.views import EVENT_VIEW_COLUMNS, PAYMENT_VIEW_COLUMNS

WIDTHS: Final = (2, 12)
"""How many months the first statements of a page read. The statement after them reads the rest."""
FEW: Final = 24
"""Rows of any months that are read by their ids as `few_rows_sql` does. A usual page has 21."""
MOST_COUNTED: Final = 10_000
"""Totals are exact up to here. Counting costs about 0.1 ms for each thousand rows."""
_MOST_BY_NAME: Final = sum(WIDTHS)
_MOST_TEXTS: Final = 1000
_STREAM_S: Final = 60.0
_MOST_STREAMS: Final = 10_000
STREAM: Final = "SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2"

Rows = list[asyncpg.Record]


class Span(msgspec.Struct, frozen=True):
    """Which rows of a merchant and mode a list has, by their ids: `floor <= id < below`."""

    merchant_id: UUID
    mode: Mode
    floor: UUID
    below: UUID
    newest_first: bool = True

    def up_to(self, edge: UUID) -> "Span":
        """Return the part that is read before `edge`."""
        if self.newest_first:
            return replace(self, floor=max(edge, self.floor))
        return replace(self, below=min(edge, self.below))

    def after(self, edge: UUID) -> "Span":
        """Return the part that is read after `edge`."""
        if self.newest_first:
            return replace(self, below=min(edge, self.below))
        return replace(self, floor=max(edge, self.floor))

    def starting_with(self, row: UUID) -> "Span":
        """Return the part whose first row is `row`."""
        if self.newest_first:
            return replace(self, below=ids.of_number(row.int + 1))
        return replace(self, floor=row)

    def continuing(self, last: UUID) -> "Span":
        """Return the part after the row `last`."""
        if self.newest_first:
            return replace(self, below=min(last, self.below))
        return replace(self, floor=max(ids.of_number(last.int + 1), self.floor))

    @property
    def empty(self) -> bool:
        """Whether no id can lie in it."""
        return self.floor >= self.below


class Table(msgspec.Struct, frozen=True):
    """What a list reads: `where` uses $1 merchant, $2 mode and, from $6 on, its own arguments."""

    name: str
    columns: str
    where: str = "merchant_id = $1 AND mode = $2"


class Counted(NamedTuple):
    """How many rows a span has. If not `exact`, it has more than `total`."""

    total: int
    exact: bool
    starts_at: UUID | None
    """The id of the row at the position that was asked for; None if there are not so many."""


async def _never_known(span: Span) -> None:
    return None


class Total(NamedTuple):
    """How many rows there are. If not `exact`, there are at least so many."""

    number: int
    exact: bool


@dataclass(frozen=True)
class Source:
    """Where a list's rows come from: a whole table (`Lists.source`), or a search whose ids
    `Lists.by_ids` turns into rows."""

    rows: Callable[[Span, int], Awaitable[Rows]]
    """Returns the first rows of a span, in its order, at most so many."""
    count: Callable[[Span, int], Awaitable[Counted]]
    """Counts a span's rows and finds the one at a position, counted from 1."""
    total: Callable[[Span], Awaitable["Total | None"]] = _never_known
    """Tells how many rows a span has that are too many to be counted; None if nothing can tell."""


_OWN: Final = "merchant_id = $1 AND mode = $2"
PAYMENTS: Final = Table("payments", PAYMENT_VIEW_COLUMNS)
REFUNDS: Final = Table("operations", OPERATION_VIEW_COLUMNS, f"{_OWN} AND kind = 'refund'")
OPERATIONS_OF_PAYMENT: Final = Table(
    "operations",
    OPERATION_VIEW_COLUMNS,
    f"{_OWN} AND payment_id = $6 AND ($7::text IS NULL OR kind = $7)",
)
EVENTS_OF_PAYMENT: Final = Table("events", EVENT_VIEW_COLUMNS, f"{_OWN} AND payment_id = $6")
_PROCESSORS: Final = Table("payments", "id, processor")
_OPERATIONS: Final = Table("operations", OPERATION_VIEW_COLUMNS)


def page_sql(table: Table, months: Sequence[str], *, newest_first: bool) -> str:
    """Return the statement of a page on some months' tables, or on the parent if there are none.

    Its arguments are merchant, mode, floor, below, limit and those of `table.where`. Months are
    read one after another until the page is full.
    """
    order = "DESC" if newest_first else "ASC"
    return _one_after_another(
        f"SELECT {table.columns} FROM {table.name}{month}"
        f" WHERE {table.where} AND id >= $3 AND id < $4 ORDER BY id {order} LIMIT $5"
        for month in months or [""]
    )


def _one_after_another(statements: Iterable[str]) -> str:
    """Return statements with LIMIT $5 as one, which stops when it has so many rows.

    PostgreSQL runs the parts in this order. Sorting all of them would read all of them.
    """
    first, *others = statements
    if not others:
        return first
    return f"{' UNION ALL '.join(f'({each})' for each in (first, *others))} LIMIT $5"


def count_sql(table: Table, months: Sequence[str], *, newest_first: bool) -> str:
    """Return the statement that counts what `page_sql` would read, and finds its row number $6."""
    ids_only = replace(table, columns="id")
    return (
        "SELECT count(*)::int, (array_agg(id) FILTER (WHERE position = $6))[1]"
        " FROM (SELECT id, row_number() OVER () AS position"
        f" FROM ({page_sql(ids_only, months, newest_first=newest_first)}) AS page) AS counted"
    )


def rows_sql(table: Table, months: Sequence[str]) -> str:
    """Return the statement that reads rows by their ids.

    Its arguments are merchant, mode, and the ids of each of the months; all ids if there are none
    to name. Then each id is looked up by itself: only so does PostgreSQL look into its month alone.
    """
    if not months:
        return (
            f"SELECT found.* FROM unnest($3::uuid[]) AS wanted(id) CROSS JOIN LATERAL"
            f" (SELECT {table.columns} FROM {table.name} AS t"
            f" WHERE {table.where} AND t.id = wanted.id LIMIT 1) AS found"
        )
    return " UNION ALL ".join(
        f"SELECT {table.columns} FROM {table.name}{month} WHERE {table.where} AND id = ANY (${n})"
        for n, month in enumerate(months, start=3)
    )


@lru_cache(maxsize=16)
def few_rows_sql(table: Table) -> str:
    """Return the statement that reads at most FEW rows by their ids, of any months.

    Its arguments are merchant, mode and FEW ids, some of them twice if there are fewer. With each
    id as an argument of its own PostgreSQL knows the months when the statement begins, and opens no
    others: it takes half of what `rows_sql` does through the parent. But it looks for every id in
    each of them, so this is for few ids.
    """
    wanted = ", ".join(f"${place}" for place in range(3, 3 + FEW))
    return f"SELECT {table.columns} FROM {table.name} WHERE {table.where} AND id IN ({wanted})"


def children_sql(months: Sequence[str]) -> str:
    """Return the statement that reads the oldest operations of each of several payments.

    Its arguments are merchant, mode, payments, the kind or NULL, and how many of each payment.
    """
    of_one = _one_after_another(
        f"SELECT {OPERATION_VIEW_COLUMNS} FROM operations{month} WHERE {_OWN}"
        " AND payment_id = i.payment_id AND ($4::text IS NULL OR kind = $4) ORDER BY id LIMIT $5"
        for month in months or [""]
    )
    return f"SELECT o.* FROM unnest($3::uuid[]) AS i(payment_id) CROSS JOIN LATERAL ({of_one}) AS o"


class Lists:
    """Reads pages. `months` are the gateway's, renewed by a chore."""

    def __init__(self, reading: Reading, months: Months) -> None:
        self._reading = reading
        self._months = months
        self._texts: dict[tuple[object, ...], str] = {}
        self._streams: dict[tuple[UUID, str], tuple[int, float]] = {}

    async def page(self, table: Table, span: Span, limit: int, *more: object) -> Rows:
        """Return the first `limit` rows of a span, in at most three statements.

        `more`: the arguments of `table.where` from $6 on.
        """
        rows: Rows = []
        for part, months in self._widening(span):
            rows += await self._on_months(
                partial(page_sql, table, newest_first=span.newest_first),
                ("page", table, span.newest_first),
                months,
                *(span.merchant_id, span.mode, part.floor, part.below, limit - len(rows)),
                *more,
            )
            if len(rows) >= limit:
                break
        return rows

    async def count(self, table: Table, span: Span, position: int) -> Counted:
        """Count a span's rows, up to MOST_COUNTED, and find the one at `position` (from 1)."""
        total, found = 0, None
        for part, months in self._widening(span, WIDTHS[:1]):
            ((counted, there),) = await self._on_months(
                partial(count_sql, table, newest_first=span.newest_first),
                ("count", table, span.newest_first),
                months,
                *(span.merchant_id, span.mode, part.floor, part.below, MOST_COUNTED + 1 - total),
                position - total,
            )
            total, found = total + counted, found or there
            if total > MOST_COUNTED:
                break
        return Counted(min(total, MOST_COUNTED), total <= MOST_COUNTED, found)

    def source(self, table: Table) -> Source:
        """Return a whole table as the source of a list."""
        return Source(partial(self.page, table), partial(self.count, table))

    def _widening(
        self, span: Span, widths: Sequence[int] = WIDTHS
    ) -> Iterator[tuple[Span, list[str]]]:
        """Yield the parts of a span in reading order, each with the months to name for it."""
        for width in (*widths, 0):
            if span.empty:
                return
            months, edge = self._months.first(
                span.floor, span.below, count=width, newest_first=span.newest_first
            )
            if not months:
                yield span, []
                return
            yield span.up_to(edge), months
            span = span.after(edge)

    async def by_ids(
        self, table: Table, merchant_id: UUID, mode: Mode, wanted: Collection[UUID]
    ) -> dict[UUID, asyncpg.Record]:
        """Return rows by their ids, in one statement. Ids that lead to none are left out."""
        if not wanted:
            return {}
        of_month: defaultdict[str, list[UUID]] = defaultdict(list)
        for each in wanted:
            of_month[self._months.of(each)].append(each)
        named = self._months.window(of_month)
        try:
            if named:
                by_month = [of_month[month] for month in named]
                text_of = partial(rows_sql, table)
                rows = await self._fetch(text_of, (table,), named, merchant_id, mode, *by_month)
            else:
                rows = await self._of_any_month(table, merchant_id, mode, list(wanted))
        except asyncpg.UndefinedTableError:  # a month was detached just now
            if not named:
                raise
            rows = await self._of_any_month(table, merchant_id, mode, list(wanted))
        return {row["id"]: row for row in rows}

    async def _of_any_month(
        self, table: Table, merchant_id: UUID, mode: Mode, wanted: list[UUID]
    ) -> Rows:
        """Read rows by their ids through the parent table."""
        if len(wanted) > FEW:
            text_of = partial(rows_sql, table)
            return await self._fetch(text_of, (table,), [], merchant_id, mode, wanted)
        padded = wanted + wanted[-1:] * (FEW - len(wanted))
        return await self._reading.fetch(few_rows_sql(table), merchant_id, mode, *padded)

    async def stream(self, merchant_id: UUID, mode: Mode) -> int | None:
        """Return the number that a merchant's payments have in the search table, or None before the
        first of them. It never changes, but a failover can lose it; so it is kept for a minute.
        """
        key = merchant_id, mode
        stream, until = self._streams.get(key, (None, 0.0))
        if monotonic() >= until:
            stream = await self._reading.fetchval(STREAM, *key)
            if len(self._streams) >= _MOST_STREAMS:
                self._streams.clear()
            if stream is not None:
                self._streams[key] = stream, monotonic() + _STREAM_S
        return stream

    async def fetch(self, sql: str, *arguments: object) -> Rows:
        """Run a statement that finds rows for a list, over the connections of lists. A connection
        plans each text once, for any values."""
        return await self._reading.fetch(sql, *arguments)

    def month_of(self, low: UUID, high: UUID) -> str:
        """Return the month of all ids from `low` to `high`, as its tables' names end; empty if they
        need the parent table."""
        first, last = self._months.of(low), self._months.of(high)
        return first if first == last else ""

    async def operation(
        self, merchant_id: UUID, mode: Mode, operation_id: UUID
    ) -> Operation | None:
        """Return one operation, without its stored reply, or None."""
        rows = await self.by_ids(_OPERATIONS, merchant_id, mode, [operation_id])
        return operation_of(rows[operation_id]) if rows else None

    async def processors_of(
        self, merchant_id: UUID, mode: Mode, payments: Collection[UUID]
    ) -> dict[UUID, str]:
        """Return the names of the processors that took these payments, in one statement."""
        rows = await self.by_ids(_PROCESSORS, merchant_id, mode, payments)
        return {payment_id: row["processor"] for payment_id, row in rows.items()}

    async def operations_of(
        self,
        merchant_id: UUID,
        mode: Mode,
        payments: Sequence[UUID],
        *,
        kind: str | None,
        limit: int,
        since: UUID,
        until: UUID,
    ) -> dict[UUID, list[Operation]]:
        """Return the oldest operations of each payment, at most `limit`, all in one statement.

        `since`, `until`: bounds of the operations' ids.
        """
        months, edge = self._months.first(since, until, count=_MOST_BY_NAME, newest_first=False)
        rows = await self._on_months(
            children_sql,
            ("children",),
            months if edge >= until else [],
            *(merchant_id, mode, list(payments), kind, limit),
        )
        found: dict[UUID, list[Operation]] = defaultdict(list)
        for row in rows:
            operation = operation_of(row)
            found[operation.payment_id].append(operation)
        return found

    async def _on_months(
        self,
        text_of: Callable[[Sequence[str]], str],
        key: tuple[object, ...],
        months: Sequence[str],
        *arguments: Any,
    ) -> Rows:
        """Run a statement on some months' tables, or on the parents if there are none to name.

        If a month was detached just now, its table is gone: then the parents are read.
        """
        try:
            return await self._fetch(text_of, key, months, *arguments)
        except asyncpg.UndefinedTableError:
            if not months:
                raise
            return await self._fetch(text_of, key, [], *arguments)

    async def _fetch(
        self,
        text_of: Callable[[Sequence[str]], str],
        key: tuple[object, ...],
        months: Sequence[str],
        *arguments: Any,
    ) -> Rows:
        full_key = (*key, *months)
        text = self._texts.get(full_key)
        if text is None:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            text = self._texts[full_key] = text_of(months)
        return await self._reading.fetch(text, *arguments)
