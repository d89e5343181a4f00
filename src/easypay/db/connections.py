"""Connections: dedicated ones for prepared statements, and a small pool for everything else.

A `Lane` is one connection that runs one prepared statement, again and again: asyncpg's pool
would send a RESET at every release, which costs more than the statement. Plans are generic: made
once, not for every group. The session prefers index lookups, because every hot statement is a
lookup by key: so the plan is the same on an empty database and a full one, and rows are locked in
the order in which they were asked for.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg

from easypay.errors import DatabaseUnavailable


class ConnectionLost(Exception):
    """The connection went away, and with it the answer: the statement may have committed."""


LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # A connection cut between two states of the protocol; a server that turned read-only.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.TooManyConnectionsError,
    OSError,
    TimeoutError,
)

_SESSION = {
    "jit": "off",
    "statement_timeout": "10000",
    "idle_in_transaction_session_timeout": "10000",
}
_LOOKUPS = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
CONNECT_TIMEOUT_S: Final = 5.0
_MOST_VARIANTS: Final = 32


class Lane:
    """One dedicated connection and its prepared statement, in as many variants as are asked for.

    `sql` gives the statement's text for a variant; the variant "" must always work. `lookups` is
    for statements that find rows by key, as opposed to those that only insert.
    """

    def __init__(self, dsn: str, name: str, sql: Callable[[str], str], *, lookups: bool) -> None:
        self._dsn = dsn
        self._sql = sql
        self._settings = {
            **_SESSION,
            **(_LOOKUPS if lookups else {}),
            "application_name": f"easypay {name}",
            "plan_cache_mode": "force_generic_plan",
        }
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._statements: dict[str, Any] = {}

    async def fetch(self, arguments: Sequence[object], variant: str = "") -> list[asyncpg.Record]:
        """Run the statement once, in a transaction of its own: one round trip, one commit.

        Raises ConnectionLost where the answer, and perhaps the commit, is lost. Other database
        errors pass through and mean that nothing was written.
        """
        try:
            statement = self._statements.get(variant) or await self._prepare(variant)
            rows: list[asyncpg.Record] = await statement.fetch(*arguments)
        except asyncpg.UndefinedTableError:
            if not variant:
                raise
            return await self.fetch(arguments)  # a month was detached: the parent knows
        except LOST as error:
            self._discard()
            raise ConnectionLost(f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            self._discard()  # the protocol is between two states: start afresh
            raise
        return rows

    async def open(self) -> None:
        """Connect and prepare."""
        await self._prepare("")

    async def _prepare(self, variant: str) -> Any:
        if self._connection is None:
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                server_settings=self._settings,
                target_session_attrs="read-write",
            )
        if len(self._statements) >= _MOST_VARIANTS:
            self._statements.clear()
        statement = await self._connection.prepare(self._sql(variant))
        self._statements[variant] = statement
        return statement

    async def close(self) -> None:
        """Say goodbye to the server."""
        connection, self._connection = self._connection, None
        self._statements.clear()
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except LOST:
                connection.terminate()

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        self._statements.clear()
        if connection is not None:
            connection.terminate()


async def _leave_session(connection: Any) -> None:
    """Nothing here changes a session (advisory locks and settings end with their transaction), so
    nothing need be reset: asyncpg's own would be a round trip more for every statement."""


async def open_pool(dsn: str, *, size: int) -> "asyncpg.Pool[asyncpg.Record]":
    """A small pool for cold reads, the resolver and administration.

    Raises DatabaseUnavailable where no connection can be made.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=10,
            reset=_leave_session,
            server_settings={**_SESSION, "application_name": "easypay pool"},
        )
    except LOST as error:
        raise DatabaseUnavailable(f"cannot connect to the database: {error}") from error
