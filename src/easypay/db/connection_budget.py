"""The connections that all gateways and workers need, checked against those of the server.

A gateway that finds no connection cannot record what it has charged. So each one checks at its
start: it refuses to start if its own connections are not free now, and warns if the server could
not give every gateway all of its connections at once. It counts gateways of other databases on the
same server too, and takes each for one with its own settings. Workers
are counted in the same way.

A read replica has connections of its own, counted there. Too few of them stop nothing: what finds
none is read from the primary.

Behind a pooler the gateways' connections cost the server nothing; the pooler's settings are the
limit then, and nothing is checked.
"""

import logging
from typing import Any, Final

import msgspec

from easypay.db.pooler import through_pooler
from easypay.errors import EasyPayError

log = logging.getLogger(__name__)

WATCH: Final = "easypay replica watch"
"""The session with which a gateway process watches the read replica."""
LEADING: Final = 5
"""The most that the one process that leads the feed of events opens besides."""
WORKER: Final = "easypay webhook claims"
"""A session that each worker has once."""
# A role that may not see others' sessions finds no type there; they count as clients.
_COUNT: Final = """
    SELECT current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
           count(*) FILTER (WHERE application_name = $1),
           count(*) FILTER (WHERE application_name LIKE 'easypay %'),
           count(*) FILTER (WHERE coalesce(application_name, '') NOT LIKE 'easypay %'),
           count(*) FILTER (WHERE application_name = $2)
      FROM pg_stat_activity
     WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL)
"""


class TooFewConnections(EasyPayError):
    """The server has fewer free connections than this process needs to start."""


class Budget(msgspec.Struct, frozen=True):
    """The server's connections, counted now. Reserved ones, for superusers, are not included."""

    allowed: int
    """How many connections clients may have: max_connections without the reserved ones."""
    gateways: int
    """Gateway processes that are connected now."""
    easypay: int
    """Connections of gateways and commands of EasyPay."""
    others: int
    """Connections of every other client."""
    for_each: int
    """The most that one gateway process makes, with the settings at hand."""
    pooled: bool
    """Whether we count through a pooler: then gateways do not show here, only the pooler's
    connections."""
    workers: int = 0
    """Worker processes that are connected now."""
    for_worker: int = 0
    """The most that one worker process makes, with the settings at hand."""

    @property
    def free(self) -> int:
        return max(0, self.allowed - self.easypay - self.others)

    @property
    def needed(self) -> int:
        """The most that the gateways, workers and other clients of now use together."""
        return _needed(self.gateways, self.for_each) + self.of_workers + self.others

    @property
    def of_workers(self) -> int:
        """The most that the workers of now use."""
        return self.workers * self.for_worker

    @property
    def fit(self) -> int:
        """How many gateway processes have room beside the workers and other clients of now."""
        return max(0, self.allowed - self.of_workers - self.others - LEADING) // self.for_each


def _needed(gateways: int, for_each: int) -> int:
    return gateways * for_each + LEADING if gateways else 0


async def count(
    connection: Any, for_each: int, for_worker: int = 0, *, known_by: str = "easypay begin 1"
) -> Budget:
    """Count the server's connections now. `for_each`: `settings.database_connections`.
    `for_worker`: `settings.worker_connections`. `known_by`: the name of a session that each gateway
    process has once."""
    counted = await connection.fetchrow(_COUNT, known_by, WORKER)
    allowed, gateways, easypay, others, workers = counted
    pooled = through_pooler(connection)
    return Budget(allowed, gateways, easypay, others, for_each, pooled, workers, for_worker)


async def check_at_start(connection: Any, for_each: int, for_worker: int = 0) -> None:
    """Check the budget for one more gateway process, which has only this connection yet.

    Raises TooFewConnections if the others that it needs are not free. Logs a warning if they are,
    but the server could not give every gateway and worker all of its connections.
    """
    budget = await count(connection, for_each, for_worker)
    if budget.pooled:
        log.info("the database is reached through a pooler: each transaction brings its settings")
        return
    gateways = budget.gateways + 1
    needed = _needed(gateways, for_each)
    figures = (
        f"the server gives clients {budget.allowed} connections, others use {budget.others}, and "
        f"{gateways} gateway processes need up to {needed} ({for_each} each: "
        "6 x EASYPAY_GROUPS_IN_FLIGHT + EASYPAY_DATABASE_POOL_SIZE + "
        "EASYPAY_DATABASE_READING_CONNECTIONS + EASYPAY_EXPORTS + 2 for statistics;"
        f" and {LEADING} for the one that leads the feed), and {budget.workers} workers up to "
        f"{budget.of_workers}"
    )
    advice = (
        "raise max_connections, lower these settings, run fewer processes, or put PgBouncer "
        "between (docs/operations.md)"
    )
    if budget.free < for_each - 1:
        raise TooFewConnections(
            f"too few connections to the database to start: {budget.free} are free. Now {figures}."
            f" Do one of these: {advice}"
        )
    if needed + budget.of_workers + budget.others > budget.allowed:
        log.warning("the database has too few connections for all: %s. %s", figures, advice)


async def check_replica(connection: Any, for_each: int) -> None:
    """Log a warning if a read replica cannot give every gateway process that reads it all of its
    connections. `for_each`: `settings.replica_connections`."""
    budget = await count(connection, for_each, known_by=WATCH)
    needed = budget.gateways * for_each
    if needed + budget.others > budget.allowed:
        log.warning(
            "the read replica has too few connections for all: it gives clients %d, others use %d, "
            "and %d gateway processes need up to %d (%d each). Raise its max_connections, or lower "
            "EASYPAY_DATABASE_READING_CONNECTIONS. Meanwhile some lists come from the primary",
            *(budget.allowed, budget.others, budget.gateways, needed, for_each),
        )
