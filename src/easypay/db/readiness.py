"""Would a payment work now? The answer of `/readyz`, at a cost that does not grow with the probes.

It checks that the pool reaches a server that takes writes (no standby, not read only) and has
tables for the present month; that a commit reaches its disk and its synchronous standby; and that
the lanes of `begin` and `record` reach the server and can write there. It does not check for a full
disk: a begin that failed because of one counts against the database for 5 s.

Probes share one check, which is valid for a second. A real write, of 50 bytes of log and no row,
is made at most every five seconds. No probe waits for more than a second.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from easypay.clock import monotonic
from easypay.db import partitions
from easypay.db.group_commit import GroupCommitter

_COUNTS_FOR_S: Final = 1.0
_WRITE_EVERY_S: Final = 5.0
_WITHIN_S: Final = 1.0
_ONLY_READS: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
_WRITE: Final = "SELECT pg_logical_emit_message(true, 'easypay', 'ready?')"


class Readiness:
    """Whether this process can write payments. `committers` are those that it needs."""

    def __init__(self, pool: Any, committers: Sequence[GroupCommitter[Any, Any]]) -> None:
        self._pool = pool
        self._committers = committers
        self._looking: asyncio.Task[str | None] | None = None
        self._good_until = -math.inf
        self._write_at = -math.inf

    async def why_not(self) -> str | None:
        """Return in words why payments cannot be written, or None."""
        if monotonic() < self._good_until:
            return None
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            async with asyncio.timeout(_WITHIN_S):
                return await asyncio.shield(self._looking)
        except TimeoutError:
            return "the database does not answer"

    def close(self) -> None:
        """Cancel a running check."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> str | None:
        begun = monotonic()
        try:
            why = await self._look_at_server()
            for committer in self._committers:
                why = why or await committer.why_not()
        except Exception as error:  # noqa: BLE001 - every error is a reason
            return f"the database cannot be used: {type(error).__name__}"
        if why is None:
            self._good_until = begun + _COUNTS_FOR_S
        return why

    async def _look_at_server(self) -> str | None:
        async with self._pool.acquire() as connection:
            if await connection.fetchval(_ONLY_READS):
                raise asyncpg.ReadOnlySQLTransactionError("the server takes no writes")
            if not await partitions.has_present_month(connection):
                return "there is no table for the present month"
            if monotonic() >= self._write_at:
                await connection.fetchval(_WRITE)
                self._write_at = monotonic() + _WRITE_EVERY_S
        return None
