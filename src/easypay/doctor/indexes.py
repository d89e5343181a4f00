"""Checks of indexes: missing, invalid, unused, duplicate and bloated ones."""

from typing import Any, Final

from easypay.db.indexes import INDEXES
from easypay.doctor.findings import Finding, Level, Thresholds, level_of, size

_VALID: Final = """
    SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS table,
           c.relkind = 'I' AS is_parent
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE NOT i.indisvalid AND c.relnamespace = 'public'::regnamespace
       AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                        WHERE p.index_relid = i.indexrelid)
     ORDER BY 1
"""
_NAMES: Final = """
    SELECT c.relname FROM pg_class c
     WHERE c.relkind IN ('i', 'I') AND c.relnamespace = 'public'::regnamespace
       AND NOT c.relispartition
"""
# All months of an index count together.
_USE: Final = """
    SELECT coalesce(h.inhparent, s.indexrelid)::regclass::text AS name,
           sum(s.idx_scan)::bigint AS scans, sum(pg_relation_size(s.indexrelid))::float8 AS bytes,
           bool_or(i.indisunique) AS is_unique
      FROM pg_stat_user_indexes s
      JOIN pg_index i ON i.indexrelid = s.indexrelid
      LEFT JOIN pg_inherits h ON h.inhrelid = s.indexrelid
     WHERE s.schemaname = 'public'
     GROUP BY 1 HAVING sum(s.idx_scan) = 0
     ORDER BY 3 DESC
"""
# The same table, method, columns in the same order, and condition; or the first columns of it.
_SAME: Final = """
    WITH known AS (
        SELECT i.indexrelid, i.indrelid, c.relam, i.indisunique, i.indnkeyatts, i.indisprimary,
               string_to_array(i.indkey::text, ' ') AS keys,
               string_to_array(i.indclass::text, ' ') AS classes,
               coalesce(pg_get_expr(i.indexprs, i.indrelid), '') AS expressions,
               coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS condition
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
    )
    SELECT a.indexrelid::regclass::text AS name, b.indexrelid::regclass::text AS other,
           a.keys = b.keys AS is_same
      FROM known a JOIN known b
        ON a.indrelid = b.indrelid AND a.indexrelid <> b.indexrelid AND a.relam = b.relam
       AND a.expressions = b.expressions AND a.condition = b.condition AND a.expressions = ''
       AND b.keys[1:cardinality(a.keys)] = a.keys
       AND b.classes[1:cardinality(a.classes)] = a.classes
     WHERE NOT a.indisunique
        OR (a.keys = b.keys AND a.indisunique AND b.indisunique AND NOT a.indisprimary
            AND (b.indisprimary OR a.indexrelid > b.indexrelid))
     ORDER BY 1
"""
# What a B-tree should have: its entries, each with its header, pointer and keys, on pages that are
# nine tenths full. Repeated keys take less, so an index never looks more bloated than it is.
_BLOAT: Final = """
    WITH trees AS (
        SELECT i.indexrelid, i.indrelid, c.reltuples::float8 AS entries,
               pg_relation_size(i.indexrelid)::float8 AS bytes, i.indkey::int2[] AS keys
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
         WHERE c.relkind = 'i' AND c.relnamespace = 'public'::regnamespace AND i.indexprs IS NULL
           AND c.reltuples >= 0 AND pg_relation_size(i.indexrelid) >= $1
    ), expected AS (
        SELECT t.*, (8192 + t.entries * (12 + 8 * ceil(w.width / 8.0)) / 0.9 * 1.02)::float8 AS fair
          FROM trees t
         CROSS JOIN LATERAL (
            SELECT coalesce(sum(s.avg_width), 16) AS width
              FROM unnest(t.keys) AS k(num)
              JOIN pg_attribute a ON a.attrelid = t.indrelid AND a.attnum = k.num
              JOIN pg_class c ON c.oid = t.indrelid
              JOIN pg_stats s ON s.schemaname = 'public' AND s.tablename = c.relname
               AND s.attname = a.attname AND NOT s.inherited) AS w
    )
    SELECT indexrelid::regclass::text AS name, bytes, fair FROM expected
     WHERE bytes >= fair + $1
     ORDER BY bytes - fair DESC LIMIT 20
"""


async def valid_indexes(db: Any, limits: Thresholds) -> list[Finding]:
    """Is every index there, and valid?"""
    there = {row[0] for row in await db.fetch(_NAMES)}
    found = [
        Finding(
            "indexes",
            Level.BAD,
            f"{name} on {index.table} is missing",
            f"it serves: {index.serves}",
            "easypay migrate; if it says that all is there, the index was dropped by hand: create "
            "it again as the migration does",
        )
        for name, index in INDEXES.items()
        if name not in there
    ]
    for row in await db.fetch(_VALID):
        mend = (
            "easypay migrate goes on with it"
            if row["is_parent"]
            else f"psql -c 'REINDEX INDEX CONCURRENTLY {row['name']}'"
        )
        found.append(
            Finding(
                "invalid index",
                Level.BAD,
                f"{row['name']} on {row['table']} is invalid",
                "it costs every write and serves no query; its building was interrupted",
                mend,
            )
        )
    return found or [Finding("indexes", Level.OK, f"all {len(INDEXES)} are there and valid")]


async def unused_indexes(db: Any, limits: Thresholds) -> list[Finding]:
    """Is there an index of somebody else that no query has used?"""
    found = []
    for row in await db.fetch(_USE):
        level = level_of(row["bytes"], limits["unused index, bytes"])
        if level and not row["is_unique"] and row["name"] not in INDEXES:
            found.append(
                Finding(
                    "unused index",
                    level,
                    f"{row['name']} ({size(row['bytes'])}) was never used since the statistics "
                    "began",
                    "it costs every write, and on a column that changes it ends heap-only updates",
                    f"psql -c 'DROP INDEX {row['name']}', after a week that includes your reports",
                )
            )
    return found or [Finding("unused index", Level.OK, "none beside EasyPay's own")]


async def duplicate_indexes(db: Any, limits: Thresholds) -> list[Finding]:
    """Do two indexes serve the same?"""
    found = [
        Finding(
            "duplicate index",
            Level.WARN,
            f"{row['name']} is {'the same as' if row['is_same'] else 'the beginning of'} "
            f"{row['other']}",
            "each write pays for both, and one is enough",
            f"psql -c 'DROP INDEX {row['name']}'",
        )
        for row in await db.fetch(_SAME)
        if row["name"] not in INDEXES
    ]
    return found or [Finding("duplicate index", Level.OK, "none")]


async def bloated_indexes(db: Any, limits: Thresholds) -> list[Finding]:
    """Does an index take much more room than its entries need?"""
    least = int(limits["bloat before it counts, bytes"].warn)
    found = []
    for row in await db.fetch(_BLOAT, least):
        times = row["bytes"] / row["fair"]
        level = level_of(times, limits["bloat of an index, times"])
        if level:
            found.append(
                Finding(
                    "bloated index",
                    level,
                    f"{row['name']} has {size(row['bytes'])}; its entries need about "
                    f"{size(row['fair'])}",
                    "empty pages push others out of memory, and each look-up reads more",
                    f"psql -c 'REINDEX INDEX CONCURRENTLY {row['name']}'; look for what kept "
                    "vacuum away",
                )
            )
    return found or [Finding("bloated index", Level.OK, "none")]
