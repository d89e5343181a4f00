"""Writes one month of a seed, in one transaction: all of it is there, or nothing.

What happens to a payment in a later month, such as its refund, is written with the payment. So the
later months must be there first, and months are written from the newest to the oldest.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from easypay import ids
from easypay.db import binary_copy, partitions
from easypay.db.binary_copy import row_start, uuid
from easypay.db.partitions import FULL, month_start, tables_of
from easypay.seeding import rows as columns
from easypay.seeding.days import unix_us
from easypay.seeding.plan import Plan
from easypay.seeding.rows import Rows
from easypay.seeding.shops import shops
from easypay.seeding.stories import Teller

KEYS_KEPT: Final = timedelta(days=30)
"""As the purge would leave them."""
_CHUNK: Final = 30_000
"""Payments that are made and sent together: some 40 MB. Each COPY may leave a few empty pages."""
_POLL_S: Final = 0.05
_COLUMNS: Final = {
    "payments": columns.PAYMENTS,
    "operations": columns.OPERATIONS,
    "events": columns.EVENTS,
}
_PRESENT_FILL: Final = {
    "payments": partitions.FILLFACTOR["payments"],
    "operations": 70,
    "events": FULL,
}
"""How full the gateway leaves the pages of the present month. An operation's page has room for
replies when the operation begins; here the reply is there at once."""

Wrote = Callable[[int], None]
"""Called with how many more payments were written."""


class Writer:
    """Writes months of one plan over one connection."""

    def __init__(self, connection: Any, plan: Plan, wrote: Wrote) -> None:
        self._connection = connection
        self._plan = plan
        self._wrote = wrote
        self._days = plan.days()
        self._teller = Teller(
            plan.seed, shops(plan.merchants, plan.seed), unix_us(plan.until), plan.payments
        )

    async def write(self, month: datetime) -> None:
        """Write a month. Waits until the tables of the months after it exist."""
        if tables_of(month)["payments"] in await partitions.attached(self._connection):
            await self._into_existing(month)
        else:

            async def fill(tables: Mapping[str, str]) -> None:
                await self._fill(month, tables, freeze=True)

            await partitions.make_closed_month(self._connection, month, fill)

    async def _into_existing(self, month: datetime) -> None:
        """Write into tables that exist: the present month's, and those of months before it."""
        tables = tables_of(month)
        present = month == month_start(self._plan.until)
        async with self._connection.transaction():
            await self._connection.execute("SET LOCAL lock_timeout = '5s'")
            for parent, name in tables.items():
                fill = _PRESENT_FILL[parent] if present else FULL
                await self._set_fill(name, fill)
            await self._fill(month, tables, freeze=False)
            if present:  # nobody else has seen the other fill factors
                for parent, name in tables.items():
                    await self._set_fill(name, partitions.FILLFACTOR[parent])

    async def _set_fill(self, table: str, percent: int) -> None:
        await self._connection.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")

    async def _fill(self, month: datetime, tables: Mapping[str, str], *, freeze: bool) -> None:
        later = _Later(month_start(month, 1))
        made = Rows(unix_us(self._plan.until - KEYS_KEPT))
        for day in self._days[month]:
            for told in self._teller.day(day):
                made.add(told)
                if len(made.payments) >= _CHUNK:
                    # Whatever comes next happened at this moment or later.
                    await self._send(made, later, tables, _id_at(told.created_us), freeze=freeze)
                    made = Rows(unix_us(self._plan.until - KEYS_KEPT))
        await self._send(made, later, tables, later.month_end, freeze=freeze)
        for after, left in later.by_month().items():
            await self._wait_for(after)
            for parent, rows in left.items():
                await self._copy(parent, tables_of(after)[parent], rows, freeze=False)

    async def _send(
        self, made: Rows, later: "_Later", tables: Mapping[str, str], end: bytes, *, freeze: bool
    ) -> None:
        """Copy what was made, and what became due before the id `end`."""
        await self._copy("payments", tables["payments"], made.payments, freeze=freeze)
        for parent, rows in (("operations", made.operations), ("events", made.events)):
            due = later.until(end, parent, rows)
            await self._copy(parent, tables[parent], due, freeze=freeze)
        await binary_copy.copy(self._connection, "idempotency_keys", columns.KEYS, made.keys)
        await binary_copy.copy(
            self._connection, "unresolved_operations", columns.UNRESOLVED, made.unresolved
        )
        self._wrote(len(made.payments))

    async def _copy(self, parent: str, table: str, rows: list[bytes], *, freeze: bool) -> None:
        await binary_copy.copy(self._connection, table, _COLUMNS[parent], rows, freeze=freeze)

    async def _wait_for(self, month: datetime) -> None:
        """Wait until another process has made a later month."""
        name = tables_of(month)["events"]  # attached last
        while name not in await partitions.attached(self._connection):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)


class _Later:
    """Rows of operations and events that are not due yet, in the order of their ids."""

    def __init__(self, next_month: datetime) -> None:
        self._next_month = next_month
        self.month_end = ids.lowest_id_at(next_month).bytes
        self._rows: dict[str, list[bytes]] = {"operations": [], "events": []}

    def until(self, end: bytes, parent: str, more: list[bytes]) -> list[bytes]:
        """Take in more rows. Return those of this month with ids below `end`, in order."""
        rows = self._rows[parent]
        rows += more
        rows.sort()
        return self._taken(parent, min(end, self.month_end))

    def _taken(self, parent: str, end: bytes) -> list[bytes]:
        rows = self._rows[parent]
        at = bisect_left(rows, row_start(_COLUMNS[parent]) + uuid(end))
        self._rows[parent] = rows[at:]
        return rows[:at]

    def by_month(self) -> dict[datetime, dict[str, list[bytes]]]:
        """Return what is left, by month, the next month first."""
        found: dict[datetime, dict[str, list[bytes]]] = {}
        month = self._next_month
        while any(self._rows.values()):
            end = ids.lowest_id_at(month_start(month, 1)).bytes
            found[month] = {parent: self._taken(parent, end) for parent in self._rows}
            month = month_start(month, 1)
        return found


def _id_at(us: int) -> bytes:
    return (us // 1000 << 80).to_bytes(16, "big")
