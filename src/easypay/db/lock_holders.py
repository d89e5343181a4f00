"""Who holds a lock on a table for long: waiting for it would only make payments wait in vain."""

from collections.abc import Sequence
from typing import Any, Final

_HOLDERS: Final = """
    SELECT DISTINCT a.pid || coalesce(' (' || nullif(a.application_name, '') || ')', '')
      FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.relation = ANY ($1::text[]::regclass[]) AND l.granted AND a.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND a.backend_type = 'client backend' AND a.xact_start < clock_timestamp() - interval '1 s'
"""


async def long_holders(connection: Any, tables: Sequence[str]) -> list[str]:
    """Return the clients whose transaction is older than a second and holds one of the tables, as
    `4711 (pg_dump)`."""
    return [row[0] for row in await connection.fetch(_HOLDERS, tables)]
