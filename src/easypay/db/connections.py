"""Connections: dedicated ones for prepared statements, and how every connection is made.

A `Lane` is one connection that runs one prepared statement again and again: asyncpg's pool would
send a RESET at every release, which costs more than the statement. Plans are generic: made once,
not for every group. Every hot statement is a lookup by key, so the session prefers index lookups:
the plan is the same on an empty and a full database, and rows are locked in the order of the group.

Behind a pooler such as PgBouncer a lane keeps its connection to the pooler only (pooler.py).

A peer that vanished must hold nobody up, so every wait has a limit, and a connection that reaches
its limit is dropped at once:

    connect       3 s for each host of the DSN
    lane          1.5 s for a lock, 3 s for the statement, 4 s for its answer. A client waits
                  5 s for the database (settings), so a payment on a dead connection is repeated
                  over a new one while its client still waits.
    reading       a lane for lists; its limits are settings (reading.py)
    pool          10 s for the statement, 12 s for its answer, 5 s for a free connection (pool.py)
    idle          the kernel probes an idle peer after 5 s, and gives up after 4 probes
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from easypay.db.failures import CannotConnect, ConnectionLost, Failure, failure_of
from easypay.db.pooler import APPLICATION_NAME, PooledConnection, is_pooled, through_pooler

LOST = (
    ConnectionLost,
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
"""Every error that means that the database is unreachable; `failures` distinguishes more."""

SESSION: Final = {
    "jit": "off",
    "idle_in_transaction_session_timeout": "10000",
    # A commit is on disk before it is answered, whatever the server, the database or the role has
    # configured. With a synchronous standby it is on the standby's disk, too.
    "synchronous_commit": "on",
}
LOOKUPS: Final[Mapping[str, str]] = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
}
"""For sessions whose statements find rows by key."""
CONNECT_TIMEOUT_S: Final = 3.0
ANSWER_WITHIN_S: Final = 4.0
"""A lane's time limit for an answer. It doubles each time in a row that it is reached, so that
commits that hang because a synchronous standby is away do not fill the server with connections."""
_MOST_PATIENT_S: Final = 60.0
_MOST_SQL: Final = 250_000
"""How many characters of statements a lane keeps prepared. PostgreSQL needs about 140 times as
many bytes: 35 MB for each connection at most."""


Wanted = Literal["read-write", "standby", "any"]
"""Which server a connection must lead to: one that takes writes, a standby, or either."""


class Connector:
    """Makes connections to whichever host of a DSN takes writes, or is what else is `wanted`.

    Each host has its own time limit, so that one that swallows packets does not use up the time of
    all. The host that worked last time is tried first.
    """

    def __init__(self, dsn: str, wanted: Wanted = "read-write") -> None:
        self._wanted = wanted
        self._hosts = one_host_each(dsn)
        self._poolers: set[str] = set()

    async def connect(
        self,
        *_: Any,
        timeout: float = CONNECT_TIMEOUT_S,
        server_settings: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Any:
        """Return a connection to such a server: a PooledConnection behind a pooler.

        `server_settings` hold either way. Every failure raises CannotConnect.
        """
        failed: list[str] = []
        for dsn in tuple(self._hosts):
            try:
                async with asyncio.timeout(timeout):
                    connection = await self._connect(dsn, dict(server_settings or {}), more)
            except Exception as error:  # noqa: BLE001 - every error is a reason
                failed.append(f"{type(error).__name__}: {error}")
            else:
                self._hosts.remove(dsn)
                self._hosts.insert(0, dsn)
                _keep_alive(connection)
                return connection
        raise CannotConnect("; ".join(failed))

    async def _connect(self, dsn: str, settings: dict[str, str], more: dict[str, Any]) -> Any:
        """Find out whether a pooler stands there. What stood there last time is tried first."""
        for pooled in (True, False) if dsn in self._poolers else (False, True):
            if pooled and self._wanted != "read-write":
                raise CannotConnect("a pooler stands there: name the server itself")
            try:
                if pooled:
                    connection = await _pooled(dsn, settings, more)
                else:
                    connection = await _direct(dsn, settings, more, self._wanted)
            except asyncpg.ProtocolViolationError:
                if pooled:
                    raise
                continue  # PgBouncer refuses every setting: "unsupported startup parameter"
            try:
                if await is_pooled(connection) == pooled:
                    (self._poolers.add if pooled else self._poolers.discard)(dsn)
                    return connection
            except BaseException:
                connection.terminate()
                raise
            connection.terminate()
        raise CannotConnect("what stands there changed meanwhile")


async def _direct(dsn: str, settings: dict[str, str], more: dict[str, Any], wanted: Wanted) -> Any:
    return await asyncpg.connect(
        dsn,
        target_session_attrs=wanted,
        server_settings=settings,
        **more,
    )


async def _pooled(dsn: str, settings: dict[str, str], more: dict[str, Any]) -> Any:
    connection = await asyncpg.connect(
        dsn,
        server_settings={"application_name": APPLICATION_NAME, "client_encoding": "UTF8"},
        **more | {"connection_class": PooledConnection, "statement_cache_size": 0},
    )
    connection.set_up(settings, more.get("command_timeout"))
    return connection


def one_host_each(dsn: str) -> list[str]:
    """Return one DSN for each host of a DSN: `postgresql://u@a:1,b:2/d` names two hosts."""
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "," in hosts:
        return [urlunsplit(parts._replace(netloc=login + at + host)) for host in hosts.split(",")]
    if "," not in query.get("host", ""):
        return [dsn]
    named = query["host"].split(",")
    ports = query.get("port", "").split(",")
    ports = ports if len(ports) == len(named) else ports[:1] * len(named)
    return [
        urlunsplit(parts._replace(query=urlencode(query | {"host": host, "port": port})))
        for host, port in zip(named, ports, strict=True)
    ]


def _keep_alive(connection: Any) -> None:
    """Let the kernel find out that an idle peer is gone, before a payment finds out."""
    carried = connection._transport.get_extra_info("socket")
    if carried is None or carried.family == getattr(socket, "AF_UNIX", None):
        return
    with suppress(OSError):
        carried.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", 5),
            ("TCP_KEEPINTVL", 2),
            ("TCP_KEEPCNT", 4),
            ("TCP_USER_TIMEOUT", 10_000),  # milliseconds without an acknowledgement
        ):
            if hasattr(socket, option):
                carried.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class Lane:
    """One dedicated connection and its prepared statement, in as many variants as are needed.

    `sql` returns the statement's text for a variant. The variant "" is run if another one names a
    table that is gone; if its text is empty, UndefinedTableError is raised instead. `lookups` is
    true if the statement finds rows by key, false if it only inserts. `hash_joins`: it also joins
    parts of its own group; then each look-up by key must be a subquery that gives one value, which
    no hash join can serve. `limit_s` is how long an answer may take; the server cancels the
    statement somewhat earlier. `settings` are added to those of the session. `wanted`: the kind of
    server that it must lead to.
    """

    def __init__(
        self,
        dsn: str,
        name: str,
        sql: Callable[[str], str],
        *,
        lookups: bool,
        hash_joins: bool = False,
        limit_s: float = ANSWER_WITHIN_S,
        settings: Mapping[str, str] | None = None,
        wanted: Wanted = "read-write",
    ) -> None:
        self._connector = Connector(dsn, wanted)
        self.sql = sql
        self.planned: Mapping[str, str] = {
            **(LOOKUPS if lookups else {}),
            **({"enable_hashjoin": "on"} if hash_joins else {}),
        }
        """The settings of its plans."""
        self._least_limit_s = self._limit_s = limit_s
        self._settings = {
            **SESSION,
            **self.planned,
            "statement_timeout": str(int(limit_s * 750)),
            # By default 1.5 s: PostgreSQL reports deadlocks as such after 1 s.
            "lock_timeout": str(int(limit_s * 375)),
            "application_name": f"easypay {name}",
            "plan_cache_mode": "force_generic_plan",
            **(settings or {}),
        }
        self._connection: Any = None
        self._statements: dict[str, Any] = {}
        self._kept_sql = 0

    async def fetch(self, arguments: Sequence[object], variant: str = "") -> list[asyncpg.Record]:
        """Run the statement once, in a transaction of its own: one round trip, one commit.

        Raises ConnectionLost if the answer is lost; the commit may have happened. Other database
        errors pass through and mean that nothing was written.
        """
        try:
            statement = self._statements.get(variant) or await self._prepare(variant)
            rows: list[asyncpg.Record] = await statement.fetch(*arguments, timeout=self._limit_s)
        except asyncpg.UndefinedTableError:
            if not variant or self.sql("") == "":
                raise
            return await self.fetch(arguments)  # a month was detached: use the parent table
        except asyncio.CancelledError:
            self._discard()  # the protocol is between two states: use a new connection
            raise
        except Exception as error:
            if failure_of(error) is not Failure.GONE:
                raise
            if isinstance(error, TimeoutError):
                self._limit_s = min(2 * self._limit_s, _MOST_PATIENT_S)
            self._discard()
            raise ConnectionLost(f"{type(error).__name__}: {error}") from error
        self._limit_s = self._least_limit_s
        return rows

    def answers(self, variant: str, *, within_s: float) -> bool:
        """Whether it is ready to run a variant, and would not wait longer for the answer."""
        return variant in self._statements and self._limit_s <= within_s

    async def open(self) -> None:
        """Connect and prepare the statement."""
        await self._prepare("")

    async def _prepare(self, variant: str) -> Any:
        if self._connection is None:
            self._connection = await self._connector.connect(server_settings=self._settings)
        sql = self.sql(variant)
        while self._statements and self._kept_sql + len(sql) > _MOST_SQL:
            oldest = next(iter(self._statements))
            self._kept_sql -= len(self.sql(oldest))
            del self._statements[oldest]
        if through_pooler(self._connection):
            prepare: Any = self._connection.lane_statement
        else:
            prepare = self._connection.prepare
        # The limit holds for letting go of a statement, too: asyncpg sets none for that.
        async with asyncio.timeout(self._limit_s):
            statement = await prepare(sql, timeout=self._limit_s)
        self._statements[variant] = statement
        self._kept_sql += len(sql)
        return statement

    async def close(self, within_s: float = 1.0) -> None:
        """Close the connection, or drop it if the server does not answer."""
        connection, self._connection = self._connection, None
        self._statements.clear()
        self._kept_sql = 0
        if connection is not None:
            try:
                await connection.close(timeout=min(within_s, 1.0))
            except LOST:
                connection.terminate()

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        self._statements.clear()
        self._kept_sql = 0
        if connection is not None:
            connection.terminate()
