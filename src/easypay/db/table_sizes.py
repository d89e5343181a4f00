"""What is kept on disk, by table and index. All months of a table count as one."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec


class TableSize(msgspec.Struct, frozen=True):
    """The bytes of one table, all its months together."""

    table: str
    rows: int
    """Estimated, as of the last vacuum or analyze."""
    heap: int
    """The rows themselves, with their free space and visibility maps."""
    toast: int
    """Values that are too long for a page, with their index."""
    indexes: dict[str, int]
    """By the index's name on the parent table."""

    @property
    def total(self) -> int:
        return self.heap + self.toast + sum(self.indexes.values())


_SIZES: Final = """
    WITH leaves AS (
        SELECT c.oid, coalesce(pg_partition_root(c.oid), c.oid) AS root, c.reltoastrelid,
               greatest(c.reltuples, 0) AS rows
          FROM pg_class c
         WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
    ), indexes AS (
        SELECT l.root, coalesce(h.inhparent, i.indexrelid) AS name,
               sum(pg_total_relation_size(i.indexrelid)) AS bytes
          FROM leaves l
          JOIN pg_index i ON i.indrelid = l.oid
          LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
         GROUP BY 1, 2
    )
    SELECT l.root::regclass::text AS table, sum(l.rows)::bigint AS rows,
           sum(pg_table_size(l.oid) - toast.bytes)::bigint AS heap,
           sum(toast.bytes)::bigint AS toast,
           coalesce((SELECT jsonb_object_agg(i.name::regclass::text, i.bytes)
                       FROM indexes i WHERE i.root = l.root), '{}') AS indexes
      FROM leaves l
     CROSS JOIN LATERAL (SELECT CASE WHEN l.reltoastrelid = 0 THEN 0
                                ELSE pg_total_relation_size(l.reltoastrelid) END) AS toast(bytes)
     GROUP BY l.root
"""


async def sizes(connection: Any) -> list[TableSize]:
    """Return the sizes of all tables, the largest first."""
    found = [
        TableSize(
            row["table"],
            row["rows"],
            row["heap"],
            row["toast"],
            msgspec.json.decode(row["indexes"], type=dict[str, int]),
        )
        for row in await connection.fetch(_SIZES)
    ]
    return sorted(found, key=lambda size: (-size.total, size.table))


def payments_in(found: Sequence[TableSize]) -> int:
    """Return the number of payments, to divide sizes by: estimated, 0 if nothing was analyzed."""
    return next((size.rows for size in found if size.table == "payments"), 0)
