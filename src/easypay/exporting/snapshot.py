"""One snapshot of the database, on a connection of its own.

An export shows the payments as they were at one moment, however long it takes. The connection is
none of those that payments, lists or the resolver use. It takes nothing but reading locks, on one
month's table after another, and names the months, so a month that nobody reads can be archived.

While a snapshot is held, PostgreSQL keeps every row version that has been replaced since. So an
export has a time limit, which the server keeps too.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.db.connections import SESSION, Connector, Wanted
from easypay.db.failures import is_passing
from easypay.db.partitions import attached, month_start
from easypay.db.pooler import DropsOnCancel
from easypay.exporting import statement
from easypay.payments.lists import Span

log = logging.getLogger(__name__)

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 4.0
_CLOSE_S: Final = 1.0
_SLACK_S: Final = 5.0
"""The server ends what the export should have ended itself so long ago."""
_SESSION: Final = {
    **SESSION,
    # Rows in the order of an index, one month's first row at once, and one core.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "0",
    "lock_timeout": "2000",
    "TimeZone": "UTC",
    # If this host vanishes, the server must not keep the snapshot.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_DEFAULT: Final = "payments_default"

# One lock for each export that a merchant may run at once, whichever gateway runs it. It ends with
# the transaction, so a gateway that dies keeps none. A replica has locks of its own.
_CLAIM: Final = """
    SELECT slot FROM generate_series(1, $2) AS slot
     WHERE pg_try_advisory_xact_lock(hashtextextended('easypay export ' || $1 || ' ' || slot, 0))
     LIMIT 1
"""
# Whether payments are written now, by any gateway. Behind a pooler sessions cannot be told apart.
_FORGET: Final = "SELECT pg_stat_clear_snapshot()"
BUSY: Final = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
         WHERE application_name ~ '^easypay (begin|follow-up|record|pooled)'
           AND pid <> pg_backend_pid()
           AND (state IN ('active', 'disabled')
                OR state_change > clock_timestamp() - interval '0.3 s'))
"""


class Snapshot:
    """An open snapshot. Close it, or cut it off, in any case."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._transaction = connection.transaction(isolation="repeatable_read")

    @classmethod
    async def open(cls, dsn: str, *, limit_s: float, wanted: Wanted = "read-write") -> "Snapshot":
        """Connect and take the snapshot. It lives for at most `limit_s`. `wanted`: the kind of
        server, as for a `Connector`.

        Raises CannotConnect, or TimeoutError if the server does not answer.
        """
        most_ms = str(int((limit_s + _SLACK_S) * 1000))
        connection = await Connector(dsn, wanted).connect(
            timeout=_CONNECT_S,
            connection_class=DropsOnCancel,
            statement_cache_size=0,
            server_settings={
                **_SESSION,
                "application_name": "easypay export",
                "statement_timeout": most_ms,
                "idle_in_transaction_session_timeout": most_ms,
            },
        )
        try:
            found = cls(connection)
            async with asyncio.timeout(_ANSWER_S):
                await found._transaction.start()
                # Here, because a pooled connection looks first whether the server takes writes.
                await connection.execute("SET TRANSACTION READ ONLY")
        except BaseException:
            connection.terminate()
            raise
        return found

    async def claim(self, merchant_id: UUID, at_most: int) -> bool:
        """Whether this is one of at most so many exports of the merchant. Raises TimeoutError."""
        async with asyncio.timeout(_ANSWER_S):
            return await self.connection.fetchval(_CLAIM, str(merchant_id), at_most) is not None

    async def parts(self, span: Span) -> list[tuple[str, Span]]:
        """Return the tables that have the rows of a span, in its order, each with its part.

        They are the months' own. If a row lies outside of every month, all are read through the
        parent table, in their order.
        """
        names = await attached(self.connection)
        if _DEFAULT in names and await self._has_rows(_DEFAULT, span):
            return [("payments", span)]
        found = []
        for name in sorted(names, reverse=span.newest_first):
            if name.startswith("payments_") and name != _DEFAULT:
                low, high = _bounds(name)
                part = Span(
                    span.merchant_id,
                    span.mode,
                    max(span.floor, low),
                    min(span.below, high),
                    span.newest_first,
                )
                if not part.empty:
                    found.append((name, part))
        return found

    async def edge(self, table: str, part: Span, rows: int) -> UUID | None:
        """Return the id of the row number `rows` of a part; None if it has fewer."""
        found: UUID | None = await self.connection.fetchval(statement.edge_sql(table, part, rows))
        return found

    async def payments_are_written(self) -> bool:
        """Whether a gateway has written payments within the last 0.3 s."""
        await self.connection.execute(_FORGET)
        return bool(await self.connection.fetchval(BUSY))

    async def close(self) -> None:
        """End the snapshot and the connection, or drop it if the server does not answer."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._transaction.rollback()
                await self.connection.close()
        except Exception as error:
            log.warning(
                "the connection of an export could not be closed, so it is cut off: %s: %s",
                type(error).__name__,
                error,
                exc_info=not is_passing(error),
            )
            self.cut()

    def cut(self) -> None:
        """Drop the connection: the server ends the statement when it notices."""
        self.connection.terminate()

    async def _has_rows(self, table: str, span: Span) -> bool:
        """Whether a table has rows of a span. Its lock is given back: to take a month out, or to
        make one, PostgreSQL locks the default partition."""
        inner = self.connection.transaction()
        await inner.start()
        found = await self.edge(table, span, 1) is not None
        await inner.rollback()
        return found


def _bounds(table: str) -> tuple[UUID, UUID]:
    """Return the lowest id of a month's table, and that of the month after."""
    year, month = table.removeprefix("payments_").split("_")
    start = datetime(int(year), int(month), 1, tzinfo=UTC)
    return ids.lowest_id_at(start), ids.lowest_id_at(month_start(start, 1))
