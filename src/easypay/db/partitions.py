"""Month partitions of payments, operations and events, made ahead of time.

A UUIDv7 begins with its millisecond, so a month is a range of ids. A default partition catches
rows of clocks that are far off; any row in it is an alarm. New partitions are made beside the
parent and attached, which takes no lock that stops readers or writers of the others. The database's
clock decides which month it is: gateway clocks may be off, and rows go where their ids belong.
Whoever detaches a month must rename its tables: running gateways address them by name.
"""

from bisect import bisect_right
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
_DEADLOCKS: Final = 3
"""How often a month is tried again at once after a deadlock."""

# Each payment and operation is updated once, when its outcome is known, a whole group at a time.
# Each page must have room for the second version of every row (an operation's holds the stored
# reply and is four times as large). Then the new version stays on its page and no index changes (a
# heap-only update). With PostgreSQL's default fill factor, half of the updates were not heap-only.
_FILLFACTOR: Final = {"payments": 42, "operations": 15, "events": 100}


def month_start(moment: datetime, months: int = 0) -> datetime:
    """Return the first instant (UTC) of the month that is `months` after the month of `moment`."""
    index = moment.astimezone(UTC).year * 12 + moment.astimezone(UTC).month - 1 + months
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


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
        attached = await _attached(connection)
        months = sorted(
            name.removeprefix("payments_")
            for name in attached
            if name.startswith("payments_") and name != "payments_default"
        )
        whole = [m for m in months if all(f"{table}_{m}" in attached for table in PARTITIONED)]
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
        low, high = month_start(at, month), month_start(at, month + 1)
        bounds = f"'{ids.lowest_id_at(low)}') TO ('{ids.lowest_id_at(high)}'"
        wanted.append((f"{low:%Y_%m}", f"FOR VALUES FROM ({bounds})"))
    present = await _attached(connection)
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
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('easypay partitions'))")
        present = await _attached(connection)
        for table in PARTITIONED:
            name = f"{table}_{suffix}"
            if name not in present:
                await _make(connection, table, name, bounds)
                made.append(name)
    return made


async def has_present_month(connection: Any) -> bool:
    """Whether all tables have a partition for the current month, by the database's clock."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhrelid IN ("
        "SELECT to_regclass(name || to_char(now() AT TIME ZONE 'UTC', '_YYYY_MM'))"
        " FROM unnest($1::text[]) AS name)",
        list(PARTITIONED),
    )
    return found == len(PARTITIONED)


async def _attached(connection: Any) -> set[str]:
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY ($1)",
        list(PARTITIONED),
    )
    return {row["relname"] for row in rows}


async def _make(connection: Any, table: str, name: str, bounds: str) -> None:
    await connection.execute(
        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        f" WITH (fillfactor = {_FILLFACTOR[table]})"
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
