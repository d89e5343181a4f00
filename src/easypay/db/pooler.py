"""Connections through a pooler in transaction mode, such as PgBouncer.

There each transaction gets whichever connection to the server is free. Nothing may be left behind
in a session: no setting, no prepared statement, no advisory lock. So every statement runs in a
transaction that brings its own settings, and is parsed and planned again:

    directly      the statement                             1 round trip, settings of the session
    pooled lane   BEGIN and settings, statement, COMMIT     3 round trips
    pooled pool   the same, and a look at the types         4 round trips

Settings of a role would save two round trips. But a role cannot give lanes and pool different time
limits. And whoever uses the same pool can change the session's `synchronous_commit`: then payments
would be acknowledged that are not on disk. In the transaction every setting holds for certain.

What a pooler reports about the server (standby, read only) may be old, so each transaction looks
itself whether it can write.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

APPLICATION_NAME: Final = "easypay pooled"
"""One name for all: PgBouncer sets it on the server whenever it changes, in a round trip."""
_WHO: Final = "SELECT pg_backend_pid()"
_TAKES_WRITES: Final = (
    # Not `transaction_read_only`: a transaction may ask for that itself.
    "DO $$ BEGIN"
    " IF pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool THEN"
    " RAISE read_only_sql_transaction USING MESSAGE = 'the server behind the pooler only reads';"
    " END IF; END $$"
)


class DropsOnCancel(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is dropped when a statement is cancelled.

    asyncpg asks the server to cancel, over another connection, and the next statement (such as a
    ROLLBACK) waits until that is confirmed. A server that is gone confirms nothing, and one that is
    there ends the statement at its own timeout.
    """

    __slots__ = ()

    def _cancel_current_command(self, *_: Any) -> None:
        self._loop.call_soon(self.terminate)


class PooledConnection(DropsOnCancel):
    """A connection to a pooler. It must be made with `statement_cache_size=0`.

    Outside of a transaction each statement gets one of its own. A cursor needs `transaction()`.
    """

    __slots__ = ("_begin_more", "_within_s")
    pooled = True

    def set_up(self, settings: Mapping[str, str], within_s: float | None) -> None:
        """Set what every transaction brings with it, and the time limit of those made here (None:
        there is none)."""
        sets = (
            f"SET LOCAL {name} = '{value}'"
            for name, value in settings.items()
            if name != "application_name"
        )
        self._begin_more = "; ".join(("", *sets, _TAKES_WRITES))
        self._within_s = within_s

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Run a statement. A BEGIN, also that of `transaction()`, brings the settings with it."""
        if self.is_in_transaction():
            return await self._plain("execute", query, *args, timeout=timeout)
        if query.startswith("VACUUM"):  # refused in a transaction
            return await self._plain("execute", query, timeout=timeout)
        if query.startswith("BEGIN"):
            return await self._begin(query.rstrip(";"), timeout)
        return await self._in_transaction("execute", query, *args, timeout=timeout)

    async def one_message(self, script: str) -> Any:
        """Run statements that bring their own settings as one message, which is one transaction: no
        lock of it outlasts the message, whatever becomes of this process."""
        return await self._plain("execute", script)

    async def executemany(self, *args: Any, **options: Any) -> Any:
        """Run a statement once for each of its arguments, all of them or none."""
        return await self._in_transaction("executemany", *args, **options)

    async def fetch(self, *args: Any, **options: Any) -> Any:
        """Return all rows of a statement."""
        return await self._in_transaction("fetch", *args, **options)

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        """Return the first row of a statement, or None."""
        return await self._in_transaction("fetchrow", *args, **options)

    async def fetchval(self, *args: Any, **options: Any) -> Any:
        """Return the first value of a statement's first row, or None."""
        return await self._in_transaction("fetchval", *args, **options)

    async def lane_statement(self, sql: str, timeout: float) -> "LaneStatement":
        """Return a statement for a lane. The server is asked once for its types."""
        return LaneStatement(self, await self.alone(lambda: self.prepare(sql, name=""), timeout))

    async def alone(self, work: Any, within_s: float | None) -> Any:
        """Run `work()` in a transaction of its own. Raises TimeoutError.

        A failure of the server is rolled back. After any other error, also a cancellation, nobody
        knows how far the transaction is: the connection is dropped.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._begin("BEGIN", None)
                try:
                    result = await work()
                except asyncpg.PostgresError:
                    await self._plain("execute", "ROLLBACK")
                    raise
                await self._plain("execute", "COMMIT")
                return result
        except asyncpg.PostgresError:
            raise
        except BaseException:
            self.terminate()
            raise

    async def _in_transaction(self, method: str, *args: Any, **options: Any) -> Any:
        if self.is_in_transaction():
            return await self._plain(method, *args, **options)
        within_s = options.get("timeout") or self._within_s
        return await self.alone(lambda: self._plain(method, *args, **options), within_s)

    async def _plain(self, method: str, *args: Any, **options: Any) -> Any:
        return await getattr(super(), method)(*args, **options)

    async def _begin(self, begin: str, timeout: float | None) -> Any:
        try:
            return await self._plain("execute", begin + self._begin_more, timeout=timeout)
        except BaseException:
            self.terminate()  # the transaction may be open, and has not all of its settings
            raise


class LaneStatement:
    """A lane's statement behind a pooler: it goes to the server with its text each time."""

    def __init__(self, connection: PooledConnection, statement: Any) -> None:
        self._connection = connection
        self._statement = statement

    async def fetch(self, *arguments: object, timeout: float) -> Any:
        """Run the statement once, in a transaction of its own. Raises TimeoutError."""
        return await self._connection.alone(lambda: self._statement.fetch(*arguments), timeout)


def through_pooler(connection: Any) -> bool:
    """Whether this connection was made for a pooler. (asyncpg's classes make isinstance say yes of
    every connection.)"""
    return getattr(connection, "pooled", False)


async def is_pooled(connection: Any) -> bool:
    """Whether something stands between: the server that answers is not the one that was named at
    the login. (A pooler makes up the process number that it names there.)

    Raises ReadOnlySQLTransactionError if the server behind a pooler takes no writes.
    """
    if through_pooler(connection):
        answers = await connection.fetchval(_WHO)
    else:  # unnamed: a pooler must not keep it
        answers = await (await connection.prepare(_WHO, name="")).fetchval()
    return bool(answers != connection.get_server_pid())
