"""Month partitions of payments, operations and events, made ahead of time.

A UUIDv7 begins with its millisecond, so a month is a range of ids. A default partition catches
what should never happen (a clock far off); anything in it is an alarm. New partitions are made
beside the parent and attached, which takes no lock that stops readers or writers of the others.
"""

from datetime import UTC, datetime
from typing import Any, Final

from easypay import ids

PARTITIONED: Final = ("payments", "operations", "events")

# Each payment and operation is rewritten once, when its outcome is known: leave room in the page,
# so that the new version stays there and no index is touched (a heap-only update).
_FILLFACTOR: Final = {"payments": 70, "operations": 60, "events": 100}


def month_start(moment: datetime, months: int = 0) -> datetime:
    """The first instant (UTC) of the month `months` after the one `moment` lies in."""
    index = moment.astimezone(UTC).year * 12 + moment.astimezone(UTC).month - 1 + months
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


async def ensure(connection: Any, *, at: datetime, months_ahead: int) -> list[str]:
    """Make the partitions from last month to `months_ahead` months after `at`.

    Returns the names of those it made. Idempotent, and safe from several processes at once.
    """
    made: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('easypay partitions'))")
        await connection.execute("SET LOCAL lock_timeout = '2s'")
        present = {
            row["relname"]
            for row in await connection.fetch(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY ($1)",
                list(PARTITIONED),
            )
        }
        for table in PARTITIONED:
            wanted: list[tuple[str, str]] = [(f"{table}_default", "DEFAULT")]
            for month in range(-1, months_ahead + 1):
                low, high = month_start(at, month), month_start(at, month + 1)
                bounds = f"'{ids.lowest_id_at(low)}') TO ('{ids.lowest_id_at(high)}'"
                wanted.append((f"{table}_{low:%Y_%m}", f"FOR VALUES FROM ({bounds})"))
            for name, bounds in wanted:
                if name not in present:
                    await _make(connection, table, name, bounds)
                    made.append(name)
    return made


async def _make(connection: Any, table: str, name: str, bounds: str) -> None:
    await connection.execute(
        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        f" WITH (fillfactor = {_FILLFACTOR[table]})"
    )
    await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} {bounds}")


async def strays(connection: Any) -> dict[str, int]:
    """How many rows lie in each default partition. Anything but zero is an alarm."""
    return {
        table: await connection.fetchval(f"SELECT count(*) FROM {table}_default")
        for table in PARTITIONED
    }
