"""Where lists, statistics and exports are read: from the replica while it is known to be up to
date, or else from the primary.

    one payment, refund, operation or key; whatever decides about money    the primary, always
    lists of payments and refunds, duplicates, statistics, exports         `ReadPlaces`

All statements of one request read the same server. If the replica is lost meanwhile, or its own
recovery cancels a statement, the whole request is read once more from the primary.

A page that continues another one must not be older than that one, or it would miss rows that lie
between. So a cursor carries how much of the log the page before could have seen at most, and the
replica serves the next page only if it has replayed as much.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import asyncpg

from easypay.clock import monotonic
from easypay.db.connections import Wanted
from easypay.db.failures import CannotConnect, is_passing
from easypay.db.reading import Reading
from easypay.db.replica import PRIMARY_POSITION, REPLICA_POSITION, Replica, ReplicaLost
from easypay.db.shared_reads import SharedReads
from easypay.errors import EasyPayError
from easypay.payments.lists import Lists

log = logging.getLogger(__name__)

_WARN_EVERY_S: Final = 60.0
Result = TypeVar("Result")
Name = Literal["primary", "replica"]
UNKNOWN: Final = 0
"""The position of a page of which it is not known how much of the log it has seen."""


@dataclass(frozen=True, slots=True)
class ReadPlace:
    """One server, and the connections for reading it."""

    name: Name
    dsn: str
    wanted: Wanted
    """For a connection of your own, such as an export's: `Connector(dsn, wanted)`."""
    reading: Reading
    lists: Lists
    questions: Any
    """The pool for statistics, which need several statements in one transaction."""

    async def position(self) -> int:
        """Return how much of the log a statement that has ended here could have seen at most."""
        sql = PRIMARY_POSITION if self.name == "primary" else REPLICA_POSITION
        return int(await self.reading.fetchval(sql) or UNKNOWN)

    async def close(self, within_s: float) -> None:
        """Close its connections; drop those that do not close in time."""
        await asyncio.gather(self.reading.close(within_s), self.questions.close(within_s))


class ReadPlaces:
    """Chooses between the primary and the replica, if there is one.

    `watch` is called after each request with where it was read: `primary`, `replica`, or
    `repeated`, which is the primary after the replica.
    """

    def __init__(
        self,
        primary: ReadPlace,
        replica: ReadPlace | None = None,
        state: Replica | None = None,
        watch: Callable[[str], None] = lambda _: None,
    ) -> None:
        assert (replica is None) == (state is None)
        self.primary = primary
        self.replica = replica
        self.shared = SharedReads()
        self._state = state
        self._watch = watch
        self._warn_at = 0.0

    @property
    def all(self) -> list[ReadPlace]:
        """The primary, and the replica if there is one."""
        return [self.primary] if self.replica is None else [self.primary, self.replica]

    def now(self) -> ReadPlace:
        """Return where to read lists from now, for those that bring a connection of their own.

        Ask again before each piece of work. If the replica fails meanwhile, do the piece again on
        `primary`.
        """
        if self.replica is not None and self._state is not None and self._state.usable:
            return self.replica
        return self.primary

    def as_of(self, place: ReadPlace) -> datetime | None:
        """Return the moment, by the database's clock, up to which everything that was committed
        can be read there; None on the primary, where that is now. Ask before you read."""
        return None if self._state is None or place is self.primary else self._state.as_of

    async def read(
        self,
        ask: Callable[[ReadPlace], Awaitable[Result]],
        *,
        exact: bool = False,
        after: int | None = None,
    ) -> Result:
        """Return what `ask` returns for the place to read. It may be called twice.

        `exact`: only the primary will do. `after`: the position of the page before, if there was
        one. Raises what `ask` raises.
        """
        if self.replica is None or self._state is None:
            return await ask(self.primary)
        place = "primary"
        if self._state.usable and not exact and after != UNKNOWN:
            try:
                async with self._state.watched():
                    if after is None or await self._has(self.replica, after):
                        answer = await ask(self.replica)
                        self._watch("replica")
                        return answer
            except Exception as error:
                if not _is_the_replicas(error):
                    self._watch("replica")
                    raise
                self._lost(error)
                place = "repeated"
        self._watch(place)
        return await ask(self.primary)

    def _lost(self, error: Exception) -> None:
        """Note that a request must be read again, from the primary.

        One lost connection says nothing about the others: the replica's recovery may have ended it.
        A server that went away also cuts the connection over which it is watched.
        """
        assert self._state is not None
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, CannotConnect) or isinstance(error.__cause__, CannotConnect):
            self._state.leave_out("nobody can connect to it", f": {what}")
        elif not isinstance(error, ReplicaLost) and monotonic() >= self._warn_at:
            self._warn_at = monotonic() + _WARN_EVERY_S
            log.warning("the read replica could not answer, so the primary was read: %s", what)

    async def position(self, place: ReadPlace) -> int:
        """Return the position for the cursor of a page that was just read there."""
        if self.replica is None:
            return UNKNOWN
        try:
            return await place.position()
        except Exception as error:
            if not is_passing(error):
                log.warning("how much of the log a page has seen is not known", exc_info=error)
            return UNKNOWN

    async def _has(self, replica: ReadPlace, position: int) -> bool:
        """Whether the replica has replayed so much of the log."""
        assert self._state is not None
        return self._state.replayed >= position or await replica.position() >= position


def _is_the_replicas(error: Exception) -> bool:
    """Whether the primary may well answer what the replica did not. Not if the request is at fault,
    if too many read, or if the statement takes too long: on the primary it would, too."""
    if isinstance(error, ReplicaLost):
        return True
    if isinstance(error, EasyPayError):
        # Replaying a change of the schema locks the tables that it changes.
        return isinstance(error.__cause__, asyncpg.LockNotAvailableError)
    slow = (asyncpg.QueryCanceledError, TimeoutError)
    return not isinstance(error, slow) and not isinstance(error.__cause__, slow)
