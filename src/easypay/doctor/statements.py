"""Checks of statements: which are slower than the targets, and which read whole tables."""

import re
from typing import Any, Final

from easypay.doctor.findings import Finding, Level, Thresholds, level_of

_TURN_ON: Final = (
    'to see slow statements: psql -c "ALTER SYSTEM SET shared_preload_libraries = '
    "'pg_stat_statements'\", restart PostgreSQL, then psql -c 'CREATE EXTENSION pg_stat_statements'"
)
_THERE: Final = """
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')
       AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%'
"""
# Only what clients run again and again; what a person or a migration ran is not held to a target.
_SLOW: Final = """
    SELECT regexp_replace(query, '\\s+', ' ', 'g') AS query, calls, mean_exec_time AS mean_ms,
           rows::float8 / calls AS rows_each
      FROM {schema}.pg_stat_statements
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND toplevel AND calls >= $1 AND mean_exec_time >= $2
       AND query ~* '^\\s*(with|select|insert|update|delete)'
     ORDER BY mean_exec_time * calls DESC LIMIT 20
"""
_COMPLEX: Final = re.compile(r"^\s*with\b|\bjoin\b|\bgroup by\b|\bunion\b|\bover\b", re.IGNORECASE)
_WRITES: Final = re.compile(r"\b(insert into|update|delete from)\b", re.IGNORECASE)
_BATCH_ROWS: Final = 10
_MOST_SHOWN: Final = 5
_SECRET: Final = re.compile(r"'(?:[^']|'')*'")


def kind_of(query: str, rows_each: float) -> str:
    """Return which target a statement has: `simple`, `complex` or `batch`.

    A batch writes many rows at once. A complex one joins, groups or has several steps.
    """
    if _WRITES.search(query) and rows_each >= _BATCH_ROWS:
        return "batch"
    return "complex" if _COMPLEX.search(query) else "simple"


async def slow_statements(db: Any, limits: Thresholds) -> list[Finding]:
    """Are statements slower than the targets?"""
    if not await db.fetchval(_THERE):
        return [
            Finding(
                "slow statements", Level.OK, "not known: pg_stat_statements is off", "", _TURN_ON
            )
        ]
    schema = await db.fetchval(
        "SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n"
        " ON n.oid = e.extnamespace WHERE extname = 'pg_stat_statements'"
    )
    calls = int(limits["calls before a statement counts"].warn)
    fastest = limits["simple statement, ms"].warn
    found = []
    for row in await db.fetch(_SLOW.format(schema=schema), calls, fastest):
        kind = kind_of(row["query"], row["rows_each"])
        target = limits[f"{kind} statement, ms"]
        level = level_of(row["mean_ms"], target)
        if level:
            text = _SECRET.sub("'…'", row["query"])
            found.append(
                Finding(
                    "slow statements",
                    level,
                    f"{row['mean_ms']:.1f} ms on average, {row['calls']:,} times: {text[:160]}",
                    f"the target of a {kind} statement is {target.warn:.0f} ms",
                    "psql -c 'EXPLAIN (ANALYZE, BUFFERS) …' shows what it reads; docs/database.md "
                    "says which index serves what",
                )
            )
    shown = f"none of those that ran {calls} times or more"
    return found[:_MOST_SHOWN] or [Finding("slow statements", Level.OK, shown)]


_PLANS: Final = """
    SELECT quote_ident(current_user) AS role,
           concat_ws(',', current_setting('shared_preload_libraries'),
                     current_setting('session_preload_libraries')) LIKE '%auto_explain%' AS loaded,
           current_setting('auto_explain.log_min_duration', true) AS from_time
"""


async def plans_that_ran(db: Any, limits: Thresholds) -> list[Finding]:
    """Does the server log the plans of slow statements, and so the values in them?"""
    role, loaded, from_time = await db.fetchrow(_PLANS)
    if not loaded or from_time in (None, "-1"):
        return [
            Finding(
                "plans that ran",
                Level.OK,
                "not logged: auto_explain is off. Slow statements are logged by the gateways, with "
                "their plans for any values (EASYPAY_SLOW_STATEMENT_S)",
                "",
                f"as a superuser, for an hour: psql {_plans(role, 'SET')}, restart the gateways",
            )
        ]
    return [
        Finding(
            "plans that ran",
            Level.WARN,
            f"auto_explain logs the plans of statements that take {from_time} or longer",
            "it writes values into the plans, so PostgreSQL's log holds personal data",
            f"once you have seen enough: psql {_plans(role, 'RESET')} (or where else it is set), "
            "restart the gateways",
        )
    ]


def _plans(role: str, how: str) -> str:
    return " ".join(
        f'-c "ALTER ROLE {role} {how} {name}{value if how == "SET" else ""}"'
        for name, value in (
            ("session_preload_libraries", " = 'auto_explain'"),
            ("auto_explain.log_min_duration", " = '1s'"),
        )
    )


# Months count as one table. VACUUM and ANALYZE are not counted by PostgreSQL here.
_SCANS: Final = """
    SELECT coalesce(pg_partition_root(s.relid), s.relid)::regclass::text AS table,
           sum(seq_scan)::bigint AS scans, sum(seq_tup_read)::float8 AS rows_read,
           sum(idx_scan)::bigint AS by_index
      FROM pg_stat_user_tables s
     GROUP BY 1
    HAVING sum(seq_scan) >= $1
     ORDER BY 3 DESC
"""


async def sequential_scans(db: Any, limits: Thresholds) -> list[Finding]:
    """Is a big table read whole again and again, because an index is missing?"""
    scans = int(limits["sequential scans before they count"].warn)
    found = []
    for row in await db.fetch(_SCANS, scans):
        each = row["rows_read"] / row["scans"]
        level = level_of(each, limits["rows read by each sequential scan"])
        if level:
            found.append(
                Finding(
                    "missing index",
                    level,
                    f"{row['table']} was read whole {row['scans']:,} times, {each:,.0f} rows each",
                    "it gets slower with every payment, and it pushes other pages out of memory",
                    "pg_stat_statements names the statement; create the index that it needs with "
                    "CREATE INDEX CONCURRENTLY",
                )
            )
    found += await _foreign_keys(db)
    return found or [Finding("missing index", Level.OK, "no big table is read whole")]


_FOREIGN_KEYS: Final = """
    SELECT c.conrelid::regclass::text AS table, c.conname,
           (SELECT string_agg(quote_ident(attname), ', ' ORDER BY nth)
              FROM unnest(c.conkey) WITH ORDINALITY AS k(num, nth)
              JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.num) AS columns
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
     WHERE c.contype = 'f' AND t.relnamespace = 'public'::regnamespace
       AND t.reltuples >= $1 AND NOT EXISTS (
           SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indisvalid
              AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)
"""


async def _foreign_keys(db: Any) -> list[Finding]:
    return [
        Finding(
            "missing index",
            Level.WARN,
            f"{row['table']} ({row['columns']}): no index for foreign key {row['conname']}",
            "deleting or changing the row that it names reads the whole table",
            f'psql -c "CREATE INDEX CONCURRENTLY ON {row["table"]} ({row["columns"]})"',
        )
        for row in await db.fetch(_FOREIGN_KEYS, 10_000.0)
    ]
