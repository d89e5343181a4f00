"""Lines are looked up by their numbers, whatever the table was like when PostgreSQL planned.

A new file is not analyzed for a minute, and connections keep their plans. With a plan that reads
all lines of a batch for each group of fifty, a file takes the square of its length.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest

from easypay import clock, ids
from easypay.batches import claims, store
from easypay.batches.claims import Group, LineEnd
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.db.work_list import Work
from easypay.mode import Mode
from harness import new_database

LONG: Final = 1_000
"""Lines of the file."""
GROUP: Final = 50
MERCHANT: Final = ids.new_id()
FEW: Final = 5 * GROUP
"""Rows that may be read for a group: each line some times."""
_FILL: Final = """
    WITH one AS (
        INSERT INTO batches (merchant_id, id, mode, key, name, format, on_error, state, lines,
            last_line, next_line, at_once, upload_until, running_since)
        VALUES ($1, $2, 'test', $2::uuid::text, '', 'jsonl', 'refuse', 'running', $3, $3, 201, 128,
            now() + interval '1 hour', now())
    ), groups AS (
        INSERT INTO batch_groups (merchant_id, batch_id, first_line, last_line, attempt)
        SELECT $1, $2, 50 * n + 1, 50 * n + 50, 1 FROM generate_series(0, 3) AS n
    )
    INSERT INTO batch_lines (merchant_id, batch_id, line, state, operation, request)
    SELECT $1, $2, n, 'waiting', 'void', '' FROM generate_series(1, $3) AS n
"""
_READ: Final = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'batch_lines'"


async def filled(connection: Any, lines: int) -> Group:
    """Write a batch that runs, of which four groups are claimed; return the second of them."""
    batch_id = ids.new_id()
    await connection.execute(_FILL, MERCHANT, batch_id, lines)
    batch = await store.find(connection, MERCHANT, Mode.TEST, batch_id)
    work = Work(
        (MERCHANT, batch_id, GROUP + 1), (2 * GROUP, False), 1, clock.now(), clock.now(), 0.0
    )
    return Group(batch, GROUP + 1, 2 * GROUP, False, work)


class OneConnection:
    """A pool of one connection, so that what its transaction has read can be counted."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self._connection


@pytest.fixture(scope="module")
async def dsn(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Any]:
    """A connection in a transaction that is undone: each case begins with no rows."""
    opened: Any = await asyncpg.connect(dsn)
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await opened.close()


async def begin(pool: Any, group: Group) -> None:
    lines = await claims.lines_of(pool, group)
    assert len(await claims.begin_lines(pool, group, [line.line for line in lines])) == GROUP


async def leave(pool: Any, group: Group) -> None:
    await claims.leave_lines(pool, group, range(group.first_line, group.last_line + 1), "open")


async def forget(pool: Any, group: Group) -> None:
    line, *_ = await claims.lines_of(pool, group)
    await claims.forget_tries(pool, group, line, set())


async def look_at_earlier(pool: Any, group: Group) -> None:
    found = await claims.earlier_lines(pool, group.batch, range(1, GROUP + 1))
    assert len(found) == GROUP


async def show_progress(pool: Any, group: Group) -> None:
    await store.progress(pool, group.batch)


async def order(pool: Any, group: Group) -> None:
    async with pool.acquire() as connection:
        lines = list(range(2, GROUP + 1))
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute(
            store.WAIT_FOR, *(MERCHANT, group.batch.id, lines, [line - 1 for line in lines])
        )


async def end(pool: Any, group: Group) -> None:
    async with pool.acquire() as connection:
        for name, value in Lane("", "plans", str, lookups=True)._settings.items():
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
        ends = [
            LineEnd(MERCHANT, group.batch.id, line, "done", None, None, "voided", None, 1, "USD")
            for line in range(group.first_line, group.last_line + 1)
        ]
        assert await connection.fetchval(claims.END_LINES, *claims.END.arguments(ends)) == GROUP


STEPS: Final = (begin, leave, forget, look_at_earlier, show_progress, order, end)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("analyzed", [False, True], ids=["never analyzed", "known as empty"])
async def test_a_group_reads_few_lines_of_a_long_file(
    connection: Any, step: Callable[[Any, Group], Awaitable[None]], plan: str, analyzed: bool
) -> None:
    await connection.execute(f"SET LOCAL plan_cache_mode = {plan}")
    if analyzed:
        await connection.execute("ANALYZE batch_lines")
    pool = OneConnection(connection)
    await step(pool, await filled(connection, 4 * GROUP))  # plans are made
    group = await filled(connection, LONG)
    before = await connection.fetchval(_READ)
    await step(pool, group)
    assert 0 < await connection.fetchval(_READ) - before <= FEW
