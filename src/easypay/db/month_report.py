"""The months that a database has tables for: how large, how full, and how far ahead."""

from datetime import datetime
from typing import Any, Final

import msgspec

from easypay.db import compacted_months, partitions
from easypay.db.compacted_months import CompactedMonth
from easypay.db.partitions import PARTITIONED, month_start, suffix_of, tables_of


class MonthSize(msgspec.Struct, frozen=True):
    """The tables of one month."""

    month: str
    """`2026_11`, as the names of the tables end."""
    begins: datetime
    ends: datetime
    rows: dict[str, int]
    """By table: estimated, as of the last vacuum or analyze."""
    bytes: dict[str, int]
    """By table, with indexes."""
    full: dict[str, float | None]
    """By table: the share of its pages that rows take. None: not known, or no rows."""
    missing: list[str]
    """Tables that the month should have."""
    compacted: CompactedMonth | None
    """When its operations were rewritten, and what that saved."""


class Report(msgspec.Struct, frozen=True):
    """All months, and whether somebody must act."""

    months: list[MonthSize]
    default_rows: dict[str, int]
    """Rows outside every month, by table, counted up to a thousand."""
    reach: datetime
    """Payments have tables of their month until then, without a gap from now on."""
    horizon_days: float
    months_ahead: int
    wanted_ahead: int
    alarms: list[str]


# The mean length of a row comes from the statistics; each row has a header and a line pointer.
_TABLES: Final = """
    SELECT c.relname AS name, greatest(c.reltuples, 0)::bigint AS rows,
           pg_total_relation_size(c.oid) AS bytes,
           CASE WHEN c.reltuples > 0 AND c.relpages > 0 AND s.width > 0
                THEN least(1, c.reltuples * (s.width + 32) / (c.relpages * 8168.0)) END AS full
      FROM pg_class c
      LEFT JOIN LATERAL (
        SELECT sum(avg_width * (1 - null_frac)) AS width FROM pg_stats
         WHERE schemaname = 'public' AND tablename = c.relname) s ON true
     WHERE c.oid IN (SELECT inhrelid FROM pg_inherits
                      WHERE inhparent = ANY ($1::text[]::regclass[]))
"""


async def report(connection: Any, *, wanted_ahead: int) -> Report:
    """Return what is there. `wanted_ahead`: how many months after this one there should be."""
    now = await connection.fetchval("SELECT db_now()")
    rows = await connection.fetch(_TABLES, list(PARTITIONED))
    tables = {row["name"]: row for row in rows}
    months = partitions.Months()
    await months.load(connection)
    reach = months.reach(now)
    due = [month_start(now, ahead) for ahead in range(-1, wanted_ahead + 1)]
    starts = set(await partitions.months_of(connection))
    compacted = {each.month: each for each in await compacted_months.every(connection)}
    found = [_month(start, tables, compacted) for start in sorted(starts.union(due))]
    strays = await partitions.strays(connection)
    missing = [month for month in found if month.missing and month.begins in due]
    return Report(
        months=found,
        default_rows=strays,
        reach=reach,
        horizon_days=round((reach - now).total_seconds() / 86_400, 1),
        months_ahead=sum(1 for start in starts if now < start < reach),
        wanted_ahead=wanted_ahead,
        alarms=_alarms(missing, strays),
    )


def _month(
    start: datetime, tables: dict[str, Any], compacted: dict[str, CompactedMonth]
) -> MonthSize:
    names = tables_of(start)
    there = {table: tables[name] for table, name in names.items() if name in tables}
    return MonthSize(
        month=suffix_of(start),
        begins=start,
        ends=month_start(start, 1),
        rows={table: row["rows"] for table, row in there.items()},
        bytes={table: row["bytes"] for table, row in there.items()},
        full={
            table: None if row["full"] is None else round(float(row["full"]), 2)
            for table, row in there.items()
        },
        missing=[table for table in names if table not in there],
        compacted=compacted.get(suffix_of(start)),
    )


def _alarms(missing: list[MonthSize], strays: dict[str, int]) -> list[str]:
    found = [
        f"{month.month} has no table for {', '.join(month.missing)}: a running gateway makes it "
        "within the hour; its log says why it could not"
        for month in missing
    ]
    return found + [
        f"{count}{'+' if count >= 1000 else ''} rows of {table} lie outside every month: a clock "
        "is far off, or their month was missing when they came"
        for table, count in strays.items()
        if count
    ]
