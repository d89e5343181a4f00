"""Checks of tables: heap-only updates, vacuum and analyze, the age of transaction ids."""

from typing import Any, Final

from easypay.doctor.findings import Finding, Level, Thresholds, level_of

_HOT: Final = """
    SELECT root, sum(n_tup_upd)::float8 AS updates, sum(n_tup_hot_upd)::float8 AS hot
      FROM pg_stat_user_tables s
     CROSS JOIN LATERAL (SELECT pg_partition_root(s.relid)::regclass::text AS root) r
     WHERE root IN ('payments', 'operations')
     GROUP BY root ORDER BY root
"""
# When autovacuum comes: the table's own settings, or the server's.
_LATE: Final = """
    WITH known AS (
        SELECT s.relid::regclass::text AS name, n_dead_tup::float8 AS dead,
               n_mod_since_analyze::float8 AS changed, greatest(c.reltuples, 0)::float8 AS rows,
               coalesce((SELECT jsonb_object_agg(option_name, option_value)
                           FROM pg_options_to_table(c.reloptions)), '{}') AS own
          FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    ), due AS (
        SELECT *, coalesce((own->>'autovacuum_vacuum_threshold')::float8,
                           current_setting('autovacuum_vacuum_threshold')::float8)
                  + rows * coalesce((own->>'autovacuum_vacuum_scale_factor')::float8,
                           current_setting('autovacuum_vacuum_scale_factor')::float8) AS vacuum_at,
               coalesce((own->>'autovacuum_analyze_threshold')::float8,
                        current_setting('autovacuum_analyze_threshold')::float8)
                  + rows * coalesce((own->>'autovacuum_analyze_scale_factor')::float8,
                           current_setting('autovacuum_analyze_scale_factor')::float8) AS analyze_at
          FROM known
    )
    SELECT name, dead, changed, dead / vacuum_at AS dead_times,
           changed / analyze_at AS changed_times
      FROM due WHERE greatest(dead, changed) >= $1
     ORDER BY greatest(dead / vacuum_at, changed / analyze_at) DESC
"""
_STOPS_WRITES: Final = 2_000_000_000
"""Transactions after which PostgreSQL takes no more writes, roughly."""
_AGES: Final = """
    SELECT c.oid::regclass::text AS name,
           greatest(age(c.relfrozenxid), mxid_age(c.relminmxid)) AS age
      FROM pg_class c
     WHERE c.relkind IN ('r', 'm', 't') AND c.relfrozenxid <> '0'
     ORDER BY 2 DESC LIMIT 1
"""


async def heap_only_updates(db: Any, limits: Thresholds) -> list[Finding]:
    """Do updates of payments and operations leave the indexes alone?"""
    found = []
    for row in await db.fetch(_HOT):
        if row["updates"] < limits["updates before the share counts"].warn:
            continue
        touched = 1 - row["hot"] / row["updates"]
        level = level_of(touched, limits["updates that touch indexes, share"])
        shown = f"{row['root']}: {1 - touched:.1%} of {row['updates']:,.0f} updates are heap-only"
        why = "each other update writes all indexes once more: twice the work and the log"
        mend = (
            f"look for an index on a column that changes (psql -c '\\d {row['root']}') and drop "
            "it, or for a fill factor that was changed; end old snapshots"
        )
        found.append(
            Finding("heap-only updates", level, shown, why, mend)
            if level
            else Finding("heap-only updates", level, shown)
        )
    return found or [Finding("heap-only updates", Level.OK, "too few updates to say")]


async def vacuum(db: Any, limits: Thresholds) -> list[Finding]:
    """Do vacuum and analyze keep up?"""
    found = []
    rows = await db.fetch(_LATE, limits["rows before lateness counts"].warn)
    for row in rows:
        level = level_of(row["dead_times"], limits["dead rows, times what calls autovacuum"])
        if level:
            found.append(
                Finding(
                    "vacuum",
                    level,
                    f"{row['name']} has {row['dead']:,.0f} dead rows, {row['dead_times']:.0f} "
                    "times as many as call autovacuum",
                    "autovacuum is off, too slow, or held back by an old snapshot or a lock",
                    f"psql -c 'VACUUM (VERBOSE, ANALYZE) {row['name']}' says what it cannot remove",
                )
            )
        level = level_of(row["changed_times"], limits["changed rows, times what calls autoanalyze"])
        if level:
            found.append(
                Finding(
                    "analyze",
                    level,
                    f"{row['name']} has {row['changed']:,.0f} changed rows since its statistics",
                    "PostgreSQL plans with wrong numbers and may choose to read whole tables",
                    f"psql -c 'ANALYZE {row['name']}'",
                )
            )
    return found or [Finding("vacuum", Level.OK, "vacuum and analyze keep up")]


async def wraparound(db: Any, limits: Thresholds) -> list[Finding]:
    """How near are the transaction ids to their end?"""
    name, age = await db.fetchrow(_AGES)
    share = age / _STOPS_WRITES
    level = level_of(share, limits["age of transaction ids, share of what stops writes"])
    shown = f"the oldest is {age:,} transactions old, {share:.0%} of what stops writes"
    if not level:
        return [Finding("transaction ids", level, shown)]
    return [
        Finding(
            "transaction ids",
            level,
            f"{shown} ({name})",
            "at 100% PostgreSQL takes no more writes until the table is vacuumed",
            f"end old snapshots first, then psql -c 'VACUUM (FREEZE, VERBOSE) {name}'",
        )
    ]
