"""Checks of what is EasyPay's own: the schema, the months ahead, the feed."""

from collections.abc import Callable
from typing import Any, Final

from easypay.db import migrate, month_report
from easypay.doctor.findings import Finding, Level, Thresholds, level_of, size, span
from easypay.errors import EasyPayError

Check = Callable[[Any, Thresholds], Any]
_MOST_COUNTED: Final = 10_000
_MARKS: Final = """
    SELECT month, read_below FROM feed_months
     WHERE to_regclass('events_' || month) IS NOT NULL
       AND month IN ('default', to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'),
                     to_char(now() AT TIME ZONE 'UTC' - interval '1 month', 'YYYY_MM'))
"""
# The block range index finds them. Transactions that were open at the last look are left out.
_NOT_NUMBERED: Final = """
    SELECT count(*) AS events,
           coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS seconds
      FROM (SELECT created_at FROM events_{month}
             WHERE written_by::text::bigint >= $1 LIMIT $2) AS new
"""
_MAKE_MONTHS: Final = "start a gateway, which makes them at once; its log says if it cannot"
_STRAYS: Final = "docs/runbook.md, at `rows outside every month`"
_READERS: Final = """
    SELECT r.name, h.last_seq - r.last_seq AS behind FROM feed_readers r CROSS JOIN feed_head h
     ORDER BY 2 DESC
"""
_LEADER: Final = """
    SELECT EXISTS (SELECT FROM leases WHERE name = 'feed' AND leased_until > now())
"""


_NOT_COMPACTED: Final = """
    SELECT right(c.relname, 7) AS month, pg_total_relation_size(c.oid) AS bytes
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'operations'::regclass AND c.relname ~ '^operations_[0-9]{4}_[0-9]{2}$'
       AND NOT 'fillfactor=100' = ANY (coalesce(c.reloptions, '{}'))
       AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month'
           + make_interval(days => $1) < now()
     ORDER BY 1
"""


async def schema(db: Any, limits: Thresholds) -> list[Finding]:
    """Has the database every migration of this version?"""
    try:
        await migrate.require_schema(db)
    except EasyPayError as error:
        why = "gateways of this version do not start on it"
        return [Finding("schema", Level.BAD, error.detail, why, "easypay migrate")]
    return [Finding("schema", Level.OK, "every migration is applied")]


def months(wanted_ahead: int) -> Check:
    """Return the check of the months, of which `wanted_ahead` should be ready."""

    async def check(db: Any, limits: Thresholds) -> list[Finding]:
        found = await month_report.report(db, wanted_ahead=wanted_ahead)
        limit = limits["days until the months run out"]
        days = found.horizon_days
        level = Level.BAD if days < limit.bad else Level.WARN if days < limit.warn else Level.OK
        shown = f"tables for {days:.0f} days, {found.months_ahead} months ahead"
        why = "payments of a month without tables are slow, and hard to move later"
        findings = [
            Finding("months", level, shown, why, _MAKE_MONTHS)
            if level
            else Finding("months", level, shown)
        ]
        for alarm in found.alarms:
            what, _, reason = alarm.partition(": ")
            stray = "outside every month" in what
            findings.append(
                Finding("rows outside months", Level.BAD, what, reason, _STRAYS)
                if stray
                else Finding("months", Level.BAD, what, why, _MAKE_MONTHS)
            )
        return findings

    return check


def compaction(key_days: int) -> Check:
    """Return the check of the months that are over. Keys give their answer for `key_days`."""

    async def check(db: Any, limits: Thresholds) -> list[Finding]:
        days = limits["days that a month may wait to be compacted"].warn
        least = limits["month that waits to be compacted, bytes"].warn
        rows = await db.fetch(_NOT_COMPACTED, key_days + int(days))
        late = [row for row in rows if row["bytes"] >= least]
        if not late:
            return [Finding("old months", Level.OK, "every month that is due is compacted")]
        shown = f"{len(late)} months could be compacted for {days:.0f} days and were not"
        return [
            Finding(
                "old months",
                Level.WARN,
                f"{shown}, such as {late[0]['month']}: their operations take "
                f"{size(sum(row['bytes'] for row in late))}",
                "stored replies that nobody can ask for any more, and room for updates that do not "
                "come, take about five times the space of the operations",
                f"easypay db compact {late[0]['month']}, which says what keeps a month as it is",
            )
        ]

    return check


async def feed(db: Any, limits: Thresholds) -> list[Finding]:
    """Does every event get its place in the feed, and do the readers follow?"""
    events, seconds = 0, 0.0
    for mark in await db.fetch(_MARKS):
        sql = _NOT_NUMBERED.format(month=mark["month"])
        row = await db.fetchrow(sql, mark["read_below"], _MOST_COUNTED)
        events, seconds = events + row["events"], max(seconds, row["seconds"])
    level = level_of(seconds, limits["feed behind, seconds"])
    shown = f"{events}{'+' if events >= _MOST_COUNTED else ''} events wait for their place"
    found = []
    if level:
        leads = await db.fetchval(_LEADER)
        found.append(
            Finding(
                "feed",
                level,
                f"{shown}, the oldest for {span(seconds)}; "
                f"{'a gateway leads' if leads else 'no gateway leads'}",
                "webhooks, lists with filters and statistics do not see them",
                "look for `the feed waits for the database` in the gateways' logs; end old "
                "transactions"
                if leads
                else "start a gateway: systemctl start easypay@8000",
            )
        )
    for row in await db.fetch(_READERS):
        level = level_of(row["behind"], limits["reader of the feed behind, events"])
        webhooks = row["name"] == "webhooks"
        if level:
            found.append(
                Finding(
                    "feed",
                    level,
                    f"reader {row['name']} is {row['behind']:,} events behind",
                    "merchants are told late" if webhooks else "what it fills shows an old state",
                    f"it catches up by itself while a {'worker' if webhooks else 'gateway'} runs; "
                    "look for its errors in the log",
                )
            )
    return found or [Finding("feed", Level.OK, shown)]
