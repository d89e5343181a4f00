"""Whether the read replica may be read now: how far behind it is, and how that is known.

Five times a second the primary is asked how far its log is on disk, and then the replica how much
of that log it has replayed. What the primary had at some moment, the replica has once it has
replayed as much: every payment that was committed by then. That moment is *reached*, and until
`limit_s` after it the replica may be read, as long as the connection over which it was asked lasts:
a server that crashes cuts it before it starts again, maybe with less than it had. So a replica that
is behind, silent, gone or cut off is left out by itself: nothing new is known about it. (The time
of the transaction that it replayed last says nothing: with an idle primary it is old although
nothing is missing.)

A server that is no standby of this primary is left out, too: one that was promoted, one of
another system or database, one whose log the primary does not have.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from easypay.clock import monotonic
from easypay.db import connection_budget
from easypay.db.connections import LOST, Connector
from easypay.db.migrate import SchemaMissing, require_schema
from easypay.db.pooler import DropsOnCancel

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.2
_CONNECT_WITHIN_S: Final = 1.0
_ANSWER_WITHIN_S: Final = 0.5
"""A replica that is silent for so long is left out, and whoever reads from it starts over."""
_AGAIN_S: Final = 1.0
"""The pause before a replica that was left out is connected to again."""
_MOST_SAMPLES: Final = 512

# The clock is read first: what was committed by that time is in the log up to the place read next.
PRIMARY_NOW: Final = """
    SELECT clock_timestamp(), (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
"""
_REPLICA_NOW: Final = """
    SELECT pg_is_in_recovery(), (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint
"""
_IDENTITY: Final = """
    SELECT s.system_identifier, d.oid::bigint
      FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
"""
PRIMARY_POSITION: Final = "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint"
REPLICA_POSITION: Final = "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint"
"""How much of the log there is, in bytes: of the primary on disk, of the replica replayed."""


class ReplicaLost(Exception):
    """The replica fell silent or left while it was being read. Nothing was decided: read again."""


class _Unfit(Exception):
    """The server that answers is not a replica that may be read."""


class _PrimaryAway(Exception):
    """The primary cannot be asked. That says nothing about the replica."""


class Sample(NamedTuple):
    """Where the primary was at some moment."""

    lsn: int
    """Its log on disk, in bytes."""
    at: float
    """This process's clock, in seconds, before the primary was asked."""
    moment: datetime
    """The database's clock."""


class Progress:
    """The latest moment of the primary that the replica has reached. Pure.

    At most `most` samples are kept. If the replica is so far behind that they do not fit, every
    second one is dropped: the moment is then known less exactly, and never too late.
    """

    def __init__(self, most: int = _MOST_SAMPLES) -> None:
        self._most = most
        self._ahead: list[Sample] = []
        self.reached: Sample | None = None

    def primary_is_at(self, sample: Sample) -> None:
        """Remember where the primary is now. If its log was longer before, another server has
        become the primary, and nothing is known any more."""
        before = self._ahead[-1] if self._ahead else self.reached
        if before is not None and sample.lsn < before.lsn:
            self._ahead.clear()
            self.reached = None
        if self._ahead and self._ahead[-1].lsn == sample.lsn:
            self._ahead[-1] = sample  # it wrote nothing since
            return
        if len(self._ahead) >= self._most:
            del self._ahead[1::2]
        self._ahead.append(sample)

    def replica_is_at(self, lsn: int) -> None:
        """Note how much of the log the replica has replayed."""
        passed = 0
        while passed < len(self._ahead) and self._ahead[passed].lsn <= lsn:
            self.reached = self._ahead[passed]
            passed += 1
        del self._ahead[:passed]


class Replica:
    """Follows one replica. `primary` is a pool of connections to the server that takes writes.

    `limit_s`: how far it may be behind, in seconds. `for_each`: the most connections to it that one
    process opens.
    """

    def __init__(self, dsn: str, primary: Any, *, limit_s: float, for_each: int) -> None:
        self._connector = Connector(dsn, "any")
        self._primary = primary
        self._limit_s = limit_s
        self._for_each = for_each
        self._connection: Any = None
        self._connect_at = 0.0
        self._progress = Progress()
        self._replayed = 0
        self._known_at = monotonic()
        self._left_out_because: str | None = ""
        """None while it is read; empty until it has been looked at."""
        self._readers: set[asyncio.Timeout] = set()

    @property
    def usable(self) -> bool:
        """Whether it is known to have everything that was committed `limit_s` ago."""
        reached = self._progress.reached
        return (
            reached is not None
            and not self._connection.is_closed()
            and monotonic() - reached.at <= self._limit_s
        )

    @property
    def lag_s(self) -> float:
        """How old the latest moment is that it is known to have reached, in seconds. Before there
        is one, the time since this process began to look."""
        return monotonic() - self._known_at

    @property
    def as_of(self) -> datetime | None:
        """That moment, by the database's clock. Everything committed by then can be read there."""
        reached = self._progress.reached
        return None if reached is None else reached.moment

    @property
    def replayed(self) -> int:
        """How much of the log it had replayed when it was last asked, in bytes; it has no less."""
        return self._replayed

    async def run(self) -> None:
        """Look at it again and again, until cancelled."""
        try:
            while True:
                due = monotonic() + _LOOK_EVERY_S
                await self._look_again()
                await asyncio.sleep(max(0.0, due - monotonic()))
        finally:
            self._forget()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Run a block that reads the replica. Raises ReplicaLost in it once the replica is left out
        because it is silent, gone or no replica; a reader does not find that out for seconds. Also
        raises it at the end if the server may have started again while it was read."""
        limit = asyncio.timeout(None)
        connection = self._connection
        try:
            async with limit:
                self._readers.add(limit)
                try:
                    yield
                finally:
                    self._readers.discard(limit)
            if connection is not self._connection or connection is None or connection.is_closed():
                raise ReplicaLost("the read replica went away while it was read")
        except TimeoutError:
            if limit.expired():
                raise ReplicaLost("the read replica was left out while it was read") from None
            raise

    def leave_out(self, why: str, detail: str = "") -> None:
        """Read it no more until a new connection shows that it may be read. Its readers are told.

        `why` is logged if it differs from the reason before.
        """
        self._forget()
        self._connect_at = monotonic() + _AGAIN_S
        now = asyncio.get_running_loop().time()
        for reader in self._readers:
            reader.reschedule(now)
        self._readers.clear()
        self._log_left_out(why, detail)

    async def _look_again(self) -> None:
        if self._connection is None and monotonic() < self._connect_at:
            return
        late, detail = f"it is more than {self._limit_s:g} s behind", ""
        try:
            await self._look()
        except _PrimaryAway as error:  # so the time for which it may be read runs out
            late, detail = "the primary cannot be asked how far it is", f": {error}"
        except _Unfit as error:
            self.leave_out(str(error))
        except (*LOST, asyncpg.PostgresError) as error:
            self.leave_out("it cannot be asked", f": {type(error).__name__}: {error}")
        if self.usable:
            if self._left_out_because:
                log.info("lists and statistics are read from the read replica again")
            self._left_out_because = None
        elif self._left_out_because is None or (
            not self._left_out_because and self.lag_s > self._limit_s + _CONNECT_WITHIN_S
        ):
            self._log_left_out(late, detail)

    async def _look(self) -> None:
        if self._connection is None:
            await self._connect()
        try:
            sample = await self._ask_primary()
        except _PrimaryAway:
            await self._ask_replica(self._connection)  # what is known of it holds while it answers
            raise
        if self._replayed > sample.lsn:
            raise _Unfit("it has replayed a log that the primary does not have")
        replayed = await self._ask_replica(self._connection)
        self._replayed = replayed
        self._progress.primary_is_at(sample)
        self._progress.replica_is_at(replayed)
        if self._progress.reached is not None:
            self._known_at = self._progress.reached.at

    async def _connect(self) -> None:
        """Connect, and see whether this is a replica of the primary with the schema of this
        version. What was known about an earlier connection is known no more."""
        identity = await self._of_primary(_IDENTITY)
        connection = await self._connector.connect(
            timeout=_CONNECT_WITHIN_S,
            connection_class=DropsOnCancel,
            command_timeout=_CONNECT_WITHIN_S,
            server_settings={"application_name": connection_budget.WATCH, "jit": "off"},
        )
        try:
            if await connection.fetchrow(_IDENTITY) != identity:
                raise _Unfit("it is another system or database than the primary's")
            self._replayed = await self._ask_replica(connection)
            await require_schema(connection)
            await connection_budget.check_replica(connection, self._for_each)
        except SchemaMissing as error:
            connection.terminate()
            raise _Unfit("it does not have the schema of this version yet") from error
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _ask_replica(self, connection: Any) -> int:
        """Return how much of the log it has replayed."""
        follows, replayed = await connection.fetchrow(_REPLICA_NOW, timeout=_ANSWER_WITHIN_S)
        if not follows:
            raise _Unfit("it is no standby: it was promoted, or never was one")
        return int(replayed or 0)

    async def _ask_primary(self) -> Sample:
        asked_at = monotonic()
        moment, lsn = await self._of_primary(PRIMARY_NOW)
        return Sample(lsn, asked_at, moment)

    async def _of_primary(self, sql: str) -> Any:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                return await self._primary.fetchrow(sql)
        except (*LOST, asyncpg.PostgresError) as error:
            raise _PrimaryAway(f"{type(error).__name__}: {error}") from error

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        self._progress = Progress()
        self._replayed = 0
        if connection is not None:
            connection.terminate()

    def _log_left_out(self, why: str, detail: str = "") -> None:
        if why != self._left_out_because:
            log.warning(
                "the read replica is left out, and the primary is read instead: %s%s", why, detail
            )
        self._left_out_because = why
