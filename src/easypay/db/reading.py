"""The connections for reading: lists, look-ups by clients, statistics, exports.

They are apart from those that money needs. However many clients read, and however long a reading
statement takes, a payment, a replay and the resolver find a connection of their own. So many
statements run at once, so many wait for their turn, and all others are refused at once.

Every connection keeps its statements prepared, with generic plans. Plans never sort a whole month:
rows come from an index in their order, and reading stops when the page is full.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from easypay.clock import stopwatch
from easypay.db.connections import Lane, Wanted
from easypay.db.failures import ConnectionLost
from easypay.errors import DatabaseUnavailable, Overloaded

_STATEMENT_SHARE: Final = 0.75
"""The part of the time limit after which the server itself ends a statement: see `Lane`."""
_SESSION: Final = {
    "enable_bitmapscan": "off",
    "enable_sort": "off",  # an index gives the order wherever one can
    "max_parallel_workers_per_gather": "0",  # one core for each connection, and rows in order
}

Rows = list[asyncpg.Record]
Watcher = Callable[[str, float], None]
"""Called after each statement with its text and how long the database took, in seconds."""


def _nobody(sql: str, took_s: float) -> None:
    pass


class Reading:
    """A few connections, in turn for whoever reads. It can stand where a pool is expected.

    `connections` statements run at once and `queue` more may wait. `patience_s` is how long a
    caller waits in all, for its turn and the answer; `limit_s` how long the answer may take.
    `wanted`: the kind of server that the connections must lead to.
    """

    def __init__(
        self,
        dsn: str,
        *,
        connections: int,
        queue: int,
        limit_s: float,
        patience_s: float,
        watcher: Watcher = _nobody,
        wanted: Wanted = "read-write",
    ) -> None:
        self._lanes = [
            Lane(
                dsn,
                f"reading {number + 1}",
                lambda sql: sql,
                lookups=True,
                limit_s=limit_s,
                settings=_SESSION,
                wanted=wanted,
            )
            for number in range(connections)
        ]
        self._free = list(self._lanes)
        self._queue = queue
        self._turns: deque[asyncio.Future[Lane]] = deque()
        self._limit_s = limit_s
        self._patience_s = patience_s
        self._watcher = watcher

    @property
    def waiting(self) -> int:
        """How many statements wait for a connection."""
        return len(self._turns)

    @property
    def busy(self) -> int:
        """How many statements run."""
        return len(self._lanes) - len(self._free)

    async def fetch(self, sql: str, *arguments: object) -> Rows:
        """Run a statement that only reads, and return its rows.

        Raises Overloaded if too many wait or no turn comes in time, DatabaseUnavailable if the
        statement takes too long, TimeoutError or ConnectionLost if the server is away, and
        UndefinedTableError if a month's table is gone.
        """
        lane = self._free.pop() if self._free else None
        try:
            if lane is not None and lane.answers(sql, within_s=self._patience_s):
                return await self._run(lane, sql, arguments)  # a second timer would cost calls
            async with asyncio.timeout(self._patience_s):
                lane = lane or await self._turn()
                return await self._run(lane, sql, arguments)
        except TimeoutError:
            if lane is None:
                raise self._refused() from None
            raise
        finally:
            if lane is not None:
                self._give(lane)

    async def _run(self, lane: Lane, sql: str, arguments: tuple[object, ...]) -> Rows:
        begun = stopwatch()
        try:
            try:
                return await lane.fetch(arguments, sql)
            except ConnectionLost as lost:
                if isinstance(lost.__cause__, TimeoutError):
                    raise
                async with asyncio.timeout(self._patience_s):
                    return await lane.fetch(arguments, sql)  # it was idle: the server restarted
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
            raise DatabaseUnavailable(
                "The database took more than "
                f"{self._limit_s * _STATEMENT_SHARE:g} s to read this, and was stopped. Repeat the "
                "request later, or ask for less: a shorter time or a smaller page.",
                retry_after_s=2,
            ) from error
        finally:
            self._watcher(sql, stopwatch() - begun)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        """Return the first row, or None. Raises what `fetch` raises."""
        rows = await self.fetch(sql, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """Return the first column of the first row, or None. Raises what `fetch` raises."""
        row = await self.fetchrow(sql, *arguments)
        return None if row is None else row[0]

    async def close(self, within_s: float = 1.0) -> None:
        """Close the connections; drop those that do not close in time."""
        await asyncio.gather(*(lane.close(within_s) for lane in self._lanes))

    async def _turn(self) -> Lane:
        """Wait for a connection, after all who came before."""
        if len(self._turns) >= self._queue:
            raise self._refused()
        turn: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give(turn.result())  # it came in the moment in which its caller left
            elif turn in self._turns:
                self._turns.remove(turn)
            raise

    def _give(self, lane: Lane) -> None:
        """Hand a free connection to the one that has waited longest."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(lane)
                return
        self._free.append(lane)

    def _refused(self) -> Overloaded:
        return Overloaded(
            f"{len(self._lanes)} requests are reading and {len(self._turns)} wait for their turn. "
            "Nothing was read. Repeat the request; wait longer each time.",
            retry_after_s=1,
        )
