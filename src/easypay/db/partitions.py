"""Month partitions of payments, operations and events, made ahead of time.

A UUIDv7 begins with its millisecond, so a month is a range of ids. A default partition catches
rows of clocks that are far off; any row in it is an alarm. New partitions are made beside the
parent and attached, which takes no lock that stops readers or writers of the others. The database's
clock decides which month it is: gateway clocks may be off, and rows go where their ids belong.
Whoever detaches a month must rename its tables: running gateways address them by name.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import ids
from easypay.db.failures import Failure, failure_of
from easypay.errors import EasyPayError

PARTITIONED: Final = ("payments", "operations", "events")

_LOCK_TIMEOUT: Final = "2s"
_YEAR: Final = 12
_FEW: Final = 4
_DEADLOCKS: Final = 3
"""How often a month is tried again at once after a deadlock."""
_ATTACHING: Final = 10
"""How often a filled month is tried to attach: to fill it again would take much longer."""

# Each payment and operation is updated once, when its outcome is known, a whole group at a time.
# Each page must have room for the second version of every row (an operation's holds the stored
# reply and is four times as large). Then the new version stays on its page and no index changes (a
# heap-only update). With PostgreSQL's default fill factor, half of the updates were not heap-only.
FILLFACTOR: Final = {"payments": 42, "operations": 15, "events": 100}
FULL: Final = 100
"""The fill factor of a month that is over. Its rows are inserted in their last version; with the
room for a second version they would take up to six times the space."""


_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtext('easypay partitions'))"


def month_start(moment: datetime, months: int = 0) -> datetime:
    """Return the first instant (UTC) of the month that is `months` after the month of `moment`."""
    index = moment.astimezone(UTC).year * 12 + moment.astimezone(UTC).month - 1 + months
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


def bounds_of(month: datetime) -> str:
    """Return the bounds of a month's tables, as ATTACH PARTITION wants them."""
    low, high = ids.lowest_id_at(month), ids.lowest_id_at(month_start(month, 1))
    return f"FOR VALUES FROM ('{low}') TO ('{high}')"


def suffix_of(month: datetime) -> str:
    """Return how the tables of a month end: `2026_11`."""
    return f"{month:%Y_%m}"


def tables_of(month: datetime) -> dict[str, str]:
    """Return the month's table of each of PARTITIONED: `{"payments": "payments_2026_11", ...}`."""
    return {table: f"{table}_{suffix_of(month)}" for table in PARTITIONED}


def within_months(column: str, values: Iterable[UUID]) -> str:
    """Return the SQL condition that a column of ids lies in the months of these ids, at least one.

    A statement on a parent table that says so is planned over those months alone, and locks only
    their tables and indexes. The bounds are part of the text, not arguments: with arguments
    PostgreSQL may choose a generic plan, which locks every month. Whole months keep the texts few.
    """
    known = list(values)
    low, high = ids.moment_of(min(known)), ids.moment_of(max(known))
    first, end = ids.lowest_id_at(month_start(low)), ids.lowest_id_at(month_start(high, 1))
    return f"{column} >= '{first}' AND {column} < '{end}'"


async def months_of(connection: Any) -> list[datetime]:
    """Return the starts of the months that have at least one table, the oldest first."""
    names = (name.split("_", 1)[1] for name in await attached(connection))
    return [
        datetime(int(suffix[:4]), int(suffix[5:]), 1, tzinfo=UTC)
        for suffix in sorted(set(names) - {"default"})
    ]


def _number(suffix: str) -> int:
    """Return the months of `_2026_11` since the year 0."""
    return 12 * int(suffix[1:5]) + int(suffix[6:]) - 1


class Months:
    """Which month's partitions an id lies in, for statements that name them directly.

    A statement on a month's own table plans and runs in the same time however many months exist.
    Through the parent, each statement opens and locks every month.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._suffixes: list[str] = []

    async def load(self, connection: Any) -> None:
        """Read which months are attached to all of PARTITIONED."""
        present = await attached(connection)
        months = sorted(
            name.removeprefix("payments_")
            for name in present
            if name.startswith("payments_") and name != "payments_default"
        )
        whole = [m for m in months if all(f"{table}_{m}" in present for table in PARTITIONED)]
        starts = [datetime(int(m[:4]), int(m[5:]), 1, tzinfo=UTC) for m in whole]
        edges = [
            (ids.lowest_id_at(start).int, f"_{m}") for start, m in zip(starts, whole, strict=True)
        ]
        ends = [(ids.lowest_id_at(month_start(start, 1)).int, "") for start in starts]
        known = dict(ends) | dict(edges)
        self._starts = sorted(known)
        self._suffixes = [known[start] for start in self._starts]

    def of(self, value: UUID) -> str:
        """Return `_2026_11` for an id of that month; empty if it needs the parent table."""
        index = bisect_right(self._starts, value.int) - 1
        return self._suffixes[index] if index >= 0 else ""

    def window(self, months: Collection[str]) -> list[str]:
        """Return the months to name in a statement that reads rows of these: no others if they are
        at most two neighbours, or else the year from January or July on that has them all. Nothing
        if there is no such year, or one of them needs the parent table.

        So there are few different statements, and a connection has most of them prepared.
        """
        if "" in months or not months:
            return []
        numbers = [_number(each) for each in months]
        first, last = min(numbers), max(numbers)
        if last - first > 1:
            first -= first % 6
            if last - first >= _YEAR:
                return []
            last = first + _YEAR - 1
        return [each for each in self._suffixes if each and first <= _number(each) <= last]

    def between(self, low: UUID, high: UUID) -> list[str] | None:
        """Return the months (`_2026_11`) of all ids from `low` to `high`; None if they are more
        than _FEW, or if some of it needs the parent table."""
        first, last = (bisect_right(self._starts, each.int) - 1 for each in (low, high))
        found = self._suffixes[first : last + 1] if first >= 0 else [""]
        return None if "" in found or len(found) > _FEW else found

    def from_to(self, first: str, last: str) -> list[str]:
        """Return the months that are known from one to another, both included, in their order."""
        return [month for month in self._suffixes if month and first <= month <= last]

    def reach(self, at: datetime) -> datetime:
        """Return the end of the months that follow `at` without a gap; `at` itself if its month is
        missing."""
        end = at
        while self.of(ids.lowest_id_at(end)):
            end = month_start(end, 1)
        return end

    def first(
        self, floor: UUID, below: UUID, *, count: int, newest_first: bool
    ) -> tuple[list[str], UUID]:
        """Return the first `count` months of the ids `floor <= id < below`, in reading order, and
        the id at which they end: the rest lies beyond it.

        Fewer months if the range or the known months end there. No month at all if the first id
        lies in none: then the whole range needs the parent table.
        """
        step = -1 if newest_first else 1
        start = below.int - 1 if newest_first else floor.int
        index = bisect_right(self._starts, start) - 1
        found: list[str] = []
        end = start + 1 if newest_first else start
        while len(found) < count and 0 <= index < len(self._starts) and self._suffixes[index]:
            if (newest_first and end <= floor.int) or (not newest_first and end >= below.int):
                break
            found.append(self._suffixes[index])
            end = self._starts[index if newest_first else index + 1]
            index += step
        return found, ids.of_number(end)


class MonthsMissing(EasyPayError):
    """Some partitions could not be made; all others exist."""


async def ensure(connection: Any, *, months_ahead: int, at: datetime | None = None) -> list[str]:
    """Make the partitions from last month to `months_ahead` months after `at`, or after now.

    Returns the names of those it made. Idempotent, and safe from several processes at once. If a
    month cannot be made, because a row of it lies in the default partition, the others still are.
    Raises MonthsMissing at the end, or at once if a lock is not available (a dump is running).
    """
    at = at or await connection.fetchval("SELECT now()")
    wanted = [("default", "DEFAULT")]
    for month in (0, *range(1, months_ahead + 1), -1):  # the most urgent first
        low = month_start(at, month)
        wanted.append((suffix_of(low), bounds_of(low)))
    present = await attached(connection)
    made: list[str] = []
    failed: list[str] = []
    for suffix, bounds in wanted:
        if all(f"{table}_{suffix}" in present for table in PARTITIONED):
            continue
        try:
            made += await _make_month(connection, suffix, bounds)
        except asyncpg.PostgresError as error:
            if failure_of(error) is Failure.GONE:
                raise
            failed.append(f"{suffix} ({error})")
            if isinstance(error, asyncpg.LockNotAvailableError):
                break  # the lock's holder blocks the other months, too
    if failed:
        raise MonthsMissing(f"partitions could not be made: {'; '.join(failed)}")
    return made


async def _make_month(connection: Any, suffix: str, bounds: str) -> list[str]:
    """Make what is missing of one month. Attaching a table and the statements of a running gateway
    can wait for each other; the server then ends one of them, and nothing of it is left."""
    for _ in range(_DEADLOCKS):
        with suppress(asyncpg.DeadlockDetectedError):
            return await _make_all(connection, suffix, bounds)
    return await _make_all(connection, suffix, bounds)


async def _make_all(connection: Any, suffix: str, bounds: str) -> list[str]:
    """Make the missing partitions of one month, or the missing default partitions."""
    made: list[str] = []
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute(_ONE_AT_A_TIME)
        present = await attached(connection)
        for table in PARTITIONED:
            name = f"{table}_{suffix}"
            if name not in present:
                await _make(connection, table, name, bounds)
                made.append(name)
    return made


Fill = Callable[[Mapping[str, str]], Awaitable[None]]
"""Copies rows into new tables, given by the names of their parents."""


async def make_closed_month(connection: Any, month: datetime, fill: Fill) -> None:
    """Make a month that is over, with all its rows, in one transaction.

    `fill` gets the tables' names and copies rows in their last version into them, through
    `connection`; it may copy with FREEZE. The pages become full, indexes are built once at the
    end, and nobody sees the tables before they are whole. Running payments are not held up.

    The caller must not be in a transaction. Raises asyncpg.DuplicateTableError if tables of that
    month exist, MonthsMissing if they could not be attached, and what `fill` raises; then nothing
    of it is left.
    """
    low, high = month_start(month), month_start(month, 1)
    names = tables_of(low)
    async with connection.transaction():
        for table, name in names.items():
            # With this condition attaching does not need to read the rows.
            await connection.execute(
                f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS,"
                f" CONSTRAINT in_month CHECK (id >= '{ids.lowest_id_at(low)}'"
                f" AND id < '{ids.lowest_id_at(high)}')) WITH (fillfactor = {FULL})"
            )
        await fill(names)
        for table, name in names.items():
            await build_indexes(connection, table, name)
        await _attach_filled(connection, names, bounds_of(low))


async def build_indexes(connection: Any, table: str, name: str) -> None:
    """Build the indexes that the parent `table` has for `name`."""
    rows = await connection.fetch(
        "SELECT pg_get_indexdef(i.indexrelid) AS index, pg_get_constraintdef(c.oid) AS constraint"
        "  FROM pg_index i LEFT JOIN pg_constraint c"
        "    ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u')"
        " WHERE i.indrelid = $1::text::regclass",
        table,
    )
    for index, constraint in rows:
        if constraint is not None:
            await connection.execute(f"ALTER TABLE {name} ADD {constraint}")
        else:
            unique = "UNIQUE " if index.startswith("CREATE UNIQUE") else ""
            method = index[index.index(" USING ") :]
            await connection.execute(f"CREATE {unique}INDEX ON {name}{method}")


async def _attach_filled(connection: Any, names: Mapping[str, str], bounds: str) -> None:
    """Attach filled tables. Statements of running gateways may have to end first."""
    for tries_left in reversed(range(_ATTACHING)):
        try:
            async with connection.transaction():  # a savepoint: a failure leaves the rows
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                await connection.execute(_ONE_AT_A_TIME)
                for table, name in names.items():
                    await connection.execute(
                        f"ALTER TABLE {table} ATTACH PARTITION {name} {bounds}"
                    )
                    await connection.execute(f"ALTER TABLE {name} DROP CONSTRAINT in_month")
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
            if not tries_left:
                month = names[PARTITIONED[0]].removeprefix(f"{PARTITIONED[0]}_")
                raise MonthsMissing(
                    f"the tables of {month} could not be attached, because something holds a lock "
                    f"on {', '.join(PARTITIONED)}: {error}. A dump or a long transaction does "
                    "that. Try again when it has ended."
                ) from error
        else:
            return


async def has_present_month(connection: Any) -> bool:
    """Whether all tables have a partition for the current month, by the database's clock."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhrelid IN ("
        "SELECT to_regclass(name || to_char(now() AT TIME ZONE 'UTC', '_YYYY_MM'))"
        " FROM unnest($1::text[]) AS name)",
        list(PARTITIONED),
    )
    return found == len(PARTITIONED)


async def attached(connection: Any) -> set[str]:
    """Return the names of all partitions, the default ones too."""
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY ($1)",
        list(PARTITIONED),
    )
    return {row["relname"] for row in rows}


async def _make(connection: Any, table: str, name: str, bounds: str) -> None:
    await connection.execute(
        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        f" WITH (fillfactor = {FILLFACTOR[table]})"
    )
    await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} {bounds}")


async def strays(connection: Any) -> dict[str, int]:
    """Return how many rows lie in each default partition, counted up to a thousand. Any row is an
    alarm."""
    return {
        table: await connection.fetchval(
            f"SELECT count(*) FROM (SELECT FROM {table}_default LIMIT 1000) AS found"
        )
        for table in PARTITIONED
    }
