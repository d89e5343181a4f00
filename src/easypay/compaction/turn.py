"""One compaction at a time on a database, by a lease, so it also holds behind a pooler.

The lease is prolonged while the work goes on. If it is lost nevertheless, the work ends: every
transaction that writes asks `must_hold` first, and so does the swap.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from easypay import ids
from easypay.db.connections import LOST
from easypay.db.lease import Lease, hold
from easypay.errors import EasyPayError

NAME: Final = "compaction"
_LEASE_S: Final = 60.0
_PROLONG_S: Final = 15.0


_LOST: Final = (
    "the lease of the compaction was lost, because the database did not answer for a minute. The "
    "month is as it was; run the command again"
)


class AnotherRuns(EasyPayError):
    """Another process compacts months of this database."""


class LeaseLost(EasyPayError):
    """Another process has taken over meanwhile."""

    def __init__(self, detail: str = _LOST) -> None:
        super().__init__(detail)


@asynccontextmanager
async def taken(runner: Any) -> AsyncIterator[int]:
    """Take the lease, keep it for the length of the block, and yield its token.

    `runner` is a pool, or a connection that nobody else uses. Raises AnotherRuns.
    """
    lease = Lease(NAME, ids.new_id(), _LEASE_S)
    token = await lease.take(runner)
    if token is None:
        raise AnotherRuns(
            "another process compacts months of this database, or did so less than a minute ago "
            "and was killed. Try again when it has ended, or in a minute"
        )
    prolonging = asyncio.create_task(_prolong(lease, runner))
    try:
        yield token
    finally:
        prolonging.cancel()
        await asyncio.wait([prolonging])
        with suppress(*LOST):
            await lease.release(runner)


async def _prolong(lease: Lease, runner: Any) -> None:
    while True:
        await asyncio.sleep(_PROLONG_S)
        with suppress(*LOST, asyncpg.PostgresError):  # `must_hold` notices if it ends
            await lease.take(runner)


async def must_hold(connection: Any, token: int) -> None:
    """Make sure, in a transaction, that the lease is still ours until its end. Raises LeaseLost."""
    if not await hold(connection, NAME, token):
        raise LeaseLost
