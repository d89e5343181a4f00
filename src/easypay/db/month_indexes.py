"""Indexes on months that exist already, built without stopping anybody who writes.

A migration makes a new index on the parent table alone (`CREATE INDEX ... ON ONLY`), which takes
no time. `finish` then builds it for each month with CREATE INDEX CONCURRENTLY, and attaches it. If
it is interrupted, it goes on with what is missing when `easypay migrate` is run again.
"""

from typing import Any, Final

_UNFINISHED: Final = """
    SELECT i.indexrelid::regclass::text AS parent, m.inhrelid::regclass::text AS month,
           c.relname || right(t.relname, -length(p.relname)) AS name,
           pg_get_indexdef(i.indexrelid) AS sql
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'I'
      JOIN pg_class p ON p.oid = i.indrelid
      JOIN pg_inherits m ON m.inhparent = i.indrelid
      JOIN pg_class t ON t.oid = m.inhrelid
     WHERE NOT i.indisvalid AND p.relnamespace = 'public'::regnamespace
       AND NOT EXISTS (SELECT FROM pg_inherits a JOIN pg_index x ON x.indexrelid = a.inhrelid
                        WHERE a.inhparent = i.indexrelid AND x.indrelid = m.inhrelid)
     ORDER BY t.relname DESC
"""
_HALF_BUILT: Final = "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"


async def finish(connection: Any) -> list[str]:
    """Build what is missing of every index whose parent is not complete; the newest month first.

    Returns the names of the indexes that it attached. Raises the database's errors.
    """
    made = []
    for index in await connection.fetch(_UNFINISHED):
        name, columns = index["name"], index["sql"].partition(" USING ")[2]
        built = await connection.fetchval(_HALF_BUILT, name)
        if built:  # CREATE INDEX CONCURRENTLY was interrupted
            await connection.execute(f"DROP INDEX CONCURRENTLY {name}")
        if built is not False:
            await connection.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON {index['month']} USING {columns}"
            )
        await connection.execute(f"ALTER INDEX {index['parent']} ATTACH PARTITION {name}")
        made.append(name)
    return made
