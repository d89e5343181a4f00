"""What follows the feed: each reader folds events into a table of its own, in their order.

A reader is one statement. `$1` is the number of the last event it has read, `$2` of the last to
read now. It moves its row of `feed_readers` from `$1` to `$2`, writes what follows from the events
between them, and returns a row; or does nothing if another process was quicker. So each event is
folded exactly once, whoever dies when.
"""

from typing import Any, Final

import msgspec

from easypay.db.connections import Lane

Runner = Any

_POSITIONS: Final = "SELECT last_seq FROM feed_readers WHERE name = $1"
_HEAD: Final = "SELECT last_seq FROM feed_head"


class Reader(msgspec.Struct, frozen=True):
    """A reader's name in `feed_readers`, its statement, and the most events of one statement."""

    name: str
    sql: str
    most: int


class Follower:
    """Runs one reader's statement over a connection of its own."""

    def __init__(self, reader: Reader, dsn: str, *, limit_s: float) -> None:
        self.name = reader.name
        self._most = reader.most
        self._lane = Lane(
            dsn, f"feed {reader.name}", lambda _: reader.sql, lookups=True, limit_s=limit_s
        )
        self._position: int | None = None

    async def catch_up(self, runner: Runner, head: int) -> None:
        """Read up to the number `head`."""
        if self._position is None:
            self._position = await runner.fetchval(_POSITIONS, self.name)
        while self._position < head:
            until = min(head, self._position + self._most)
            if not await self._lane.fetch((self._position, until)):
                self._position = await runner.fetchval(_POSITIONS, self.name)
                continue
            self._position = until

    async def close(self) -> None:
        """Forget where it was, and close the connection."""
        self._position = None
        await self._lane.close()


async def head(runner: Runner) -> int:
    """Return the number of the newest event of the feed."""
    found: int = await runner.fetchval(_HEAD)
    return found
