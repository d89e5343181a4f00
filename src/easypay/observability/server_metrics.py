"""The figures of PostgreSQL and the shared cache, read by one process for all.

Each part is a statement of its own, with a time limit: what one version or one user may not read is
left out, and the rest is there.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import asyncpg

from easypay import ids
from easypay.cache.connection import CacheUnavailable
from easypay.cache.figures import info_of
from easypay.cache.url import CacheUrl
from easypay.db.failures import is_passing
from easypay.db.lease import Lease
from easypay.observability.host_metrics import Figure
from easypay.observability.metric_registry import Family
from easypay.observability.metrics import Instruments

log = logging.getLogger(__name__)

_LEASES: Final = 3
"""A lease is as long as so many rounds."""
_RELEASE_S: Final = 1.0
_LIMITS: Final = """
    SELECT set_config('statement_timeout', '3s', true), set_config('lock_timeout', '300ms', true)
"""


class Part(NamedTuple):
    """A statement with one row, and which metric and label each of its columns is."""

    sql: str
    columns: Mapping[str, tuple[str, ...]]


PARTS: Final = (
    Part(
        """
        SELECT count(*) FILTER (WHERE state = 'active'
                                  AND wait_event_type IS DISTINCT FROM 'Lock') AS active,
               count(*) FILTER (WHERE state = 'idle') AS idle,
               count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS open,
               count(*) FILTER (WHERE state = 'active' AND wait_event_type = 'Lock') AS waiting,
               coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float8
                   AS oldest
          FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND datname = current_database()
           AND pid <> pg_backend_pid()
        """,
        {
            "active": ("sessions", "active"),
            "idle": ("sessions", "idle"),
            "open": ("sessions", "idle_in_transaction"),
            "waiting": ("sessions", "waiting"),
            "oldest": ("oldest_transaction_seconds",),
        },
    ),
    Part(
        """
        SELECT count(*) FILTER (WHERE granted) AS held,
               count(*) FILTER (WHERE NOT granted) AS waiting
          FROM pg_locks WHERE pid <> pg_backend_pid()
        """,
        {"held": ("locks", "held"), "waiting": ("locks", "waiting")},
    ),
    Part(
        """
        SELECT count(*) AS replicas,
               coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, sent_lsn))),
                        0)::float8 AS behind
          FROM pg_stat_replication WHERE state <> 'backup'
        HAVING pg_has_role('pg_read_all_stats', 'USAGE')  -- to all others it shows no replica
        """,
        {"replicas": ("replicas",), "behind": ("replication_lag_bytes",)},
    ),
    Part(
        """
        SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::float8 AS kept
          FROM pg_replication_slots
        """,
        {"kept": ("slot_kept_bytes",)},
    ),
    Part(
        """
        SELECT coalesce(sum(n_live_tup), 0)::float8 AS live,
               coalesce(sum(n_dead_tup), 0)::float8 AS dead
          FROM pg_stat_user_tables
        """,
        {"live": ("rows", "live"), "dead": ("rows", "dead")},
    ),
    Part(
        """
        SELECT pg_database_size(datname) AS bytes, age(datfrozenxid) AS age
          FROM pg_database WHERE datname = current_database()
        """,
        {"bytes": ("database_bytes",), "age": ("transaction_id_age",)},
    ),
    Part(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS wal",
        {"wal": ("wal_bytes_total",)},
    ),
    Part(
        """
        SELECT blks_hit, blks_read, xact_commit, xact_rollback, deadlocks, temp_bytes
          FROM pg_stat_database WHERE datname = current_database()
        """,
        {
            "blks_hit": ("blocks_total", "hit"),
            "blks_read": ("blocks_total", "read"),
            "xact_commit": ("transactions_total", "committed"),
            "xact_rollback": ("transactions_total", "rolled_back"),
            "deadlocks": ("deadlocks_total",),
            "temp_bytes": ("temporary_bytes_total",),
        },
    ),
)
_CHECKPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "timed": ("checkpoints_total", "timed"),
    "requested": ("checkpoints_total", "requested"),
    "seconds": ("checkpoint_seconds_total",),
}
_SINCE_17: Final = Part(
    """
    SELECT num_timed AS timed, num_requested AS requested,
           (write_time + sync_time) / 1000 AS seconds
      FROM pg_stat_checkpointer
    """,
    _CHECKPOINTS,
)
_BEFORE_17: Final = Part(
    """
    SELECT checkpoints_timed AS timed, checkpoints_req AS requested,
           (checkpoint_write_time + checkpoint_sync_time) / 1000 AS seconds
      FROM pg_stat_bgwriter
    """,
    _CHECKPOINTS,
)

_INFO: Final[Mapping[str, tuple[str, ...]]] = {
    "used_memory": ("memory_bytes", "used"),
    "maxmemory": ("memory_bytes", "allowed"),
    "connected_clients": ("clients",),
    "keys": ("keys",),
    "replication_lag": ("replication_lag_bytes",),
    "total_commands_processed": ("commands_total",),
    "keyspace_hits": ("lookups_total", "hit"),
    "keyspace_misses": ("lookups_total", "miss"),
    "evicted_keys": ("evicted_total",),
    "total_net_input_bytes": ("network_bytes_total", "receive"),
    "total_net_output_bytes": ("network_bytes_total", "transmit"),
}
"""Which line of INFO is which metric; `cache.figures` adds the keys and the lag."""


def _figures(
    families: Mapping[str, Family],
    columns: Mapping[str, tuple[str, ...]],
    values: Mapping[str, Any],
) -> list[Figure]:
    return [
        Figure(families[metric], float(values[column]), tuple(labels))
        for column, (metric, *labels) in columns.items()
        if values.get(column) is not None
    ]


async def read_postgres(pool: Any, families: Mapping[str, Family]) -> list[Figure]:
    """Return what PostgreSQL says of itself. Raises the errors of a connection that is lost."""
    found: list[Figure] = []
    async with pool.acquire() as connection:
        version = connection.get_server_version().major
        for part in (*PARTS, _SINCE_17 if version >= 17 else _BEFORE_17):
            try:
                async with connection.transaction(readonly=True):
                    await connection.fetchrow(_LIMITS)
                    row = await connection.fetchrow(part.sql)
            except asyncpg.PostgresError as error:
                if is_passing(error) and connection.is_closed():
                    raise
                log.debug("a figure of PostgreSQL cannot be read: %s", error)
                continue
            if row is not None:
                found += _figures(families, part.columns, dict(row))
    return found


async def read_valkey(url: CacheUrl, families: Mapping[str, Family]) -> list[Figure]:
    """Return what the shared cache says of itself; nothing if it does not answer."""
    try:
        return _figures(families, _INFO, await info_of(url))
    except CacheUnavailable as error:
        log.debug("the figures of the shared cache cannot be read: %s", error)
        return []


class ServerMetrics:
    """Reads the figures every so many seconds, while it has the lease."""

    def __init__(
        self, pool: Any, instruments: Instruments, *, every_s: float, cache: CacheUrl | None
    ) -> None:
        self._pool = pool
        self._instruments = instruments
        self._every_s = every_s
        self._cache = cache
        self._lease = Lease("server metrics", ids.new_id(), _LEASES * every_s)
        self._shown: dict[tuple[str, tuple[str, ...]], Figure] = {}

    async def run(self) -> None:
        """Read until cancelled. Then another process may read at once."""
        try:
            while True:
                await self._try()
                await asyncio.sleep(self._every_s)
        finally:
            with suppress(Exception):  # then the lease ends by itself
                async with asyncio.timeout(_RELEASE_S):
                    await self._lease.release(self._pool)

    async def _try(self) -> None:
        try:
            await self.turn()
        except Exception as error:
            if not is_passing(error):
                raise
            self._show([])
            log.warning("the figures of the database are not known: %s", error)

    async def turn(self) -> None:
        """Read once, if no other process does."""
        found: list[Figure] = []
        if await self._lease.take(self._pool) is not None:
            found = await read_postgres(self._pool, self._instruments.postgres)
            if self._cache is not None:
                found += await read_valkey(self._cache, self._instruments.valkey)
        self._show(found)

    def _show(self, found: list[Figure]) -> None:
        """Show these. What was shown before and is not known any more becomes 0; a counter stays,
        for the highest of all processes counts."""
        for figure in found:
            self._shown[figure.family.name, figure.labels] = figure
            figure.family.set(figure.value, *figure.labels)
        known = {(figure.family.name, figure.labels) for figure in found}
        for key, figure in list(self._shown.items()):
            if key not in known and figure.family.kind != "seen":
                figure.family.set(0, *figure.labels)
                del self._shown[key]
