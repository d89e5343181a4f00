"""A worker that finds queues: how fast it empties them, before and beside a snapshot."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from easypay.db import work_list
from easypay.db.claim_window import EVER_S, LATE_S
from easypay.payments.queue_rows import QUEUED
from easypay.webhooks import queue as webhook_queue
from easypay_bench import stack as stacks
from easypay_bench.stack import Merchant, Stack
from easypay_bench.work.bars import Burst, Snapshot
from easypay_bench.work.programs import Receivers, asked, mint, pay

_ENDS_S: Final = 120.0
_LEAST_PER_S: Final = 20
"""Events that a busy machine delivers: how long they are waited for."""
_PAUSE_S: Final = 0.1
"""Beside a snapshot this question reads all rows that are gone."""
EVENTS: Final = 3
"""Of a queued payment that succeeds: it is pending, is sent, and is captured."""
_EMPTY: Final = """
    SELECT NOT EXISTS (SELECT FROM queued_operations)
       AND NOT EXISTS (SELECT FROM webhook_deliveries)
"""
_BEGUN: Final = (
    "SELECT EXISTS (SELECT FROM queued_operations WHERE merchant_id = $1 AND attempt > 0)"
)
RATE: Final = """
    SELECT count(*)::float8 / extract(epoch FROM max(finished_at) - min(begun_at))::float8
      FROM (SELECT * FROM operations WHERE merchant_id = $1 ORDER BY id DESC LIMIT $2) AS o
"""
"""Operations per second among a merchant's last ones: from the first begin to the last end."""
_ENDPOINT: Final = "SELECT id FROM webhook_endpoints WHERE merchant_id = $1"
_RECENT_S: Final = 2.0
_SAW: Final = "SELECT count(*) FROM payments"


async def value(dsn: str, sql: str, *arguments: object) -> Any:
    """Return the first value that a statement gives, over a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


async def emptied(stack: Stack) -> None:
    """Wait until both lists are empty. Raises LoadFailed."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        await asked(
            lambda: connection.fetchval(_EMPTY),
            _ENDS_S,
            "a worker did not empty its lists",
            _PAUSE_S,
        )
    finally:
        await connection.close()


async def begun(stack: Stack, merchant: Merchant) -> None:
    """Wait until a worker has begun with a merchant's newest operations. Raises LoadFailed."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        await asked(
            lambda: connection.fetchval(_BEGUN, merchant.id), _ENDS_S, "no worker began to send"
        )
    finally:
        await connection.close()


async def beside_snapshot(
    stack: Stack,
    merchant: Merchant,
    receivers: Receivers,
    *,
    payments: int,
    rounds: int,
    rate: float,
    held_s: float,
    say: Callable[[str], None],
) -> Snapshot:
    """Measure bursts, hold a snapshot open for `held_s` seconds under a load of queued payments,
    and measure as many while it is held, and after its end. The merchant has an endpoint."""

    async def bursts(when: str) -> list[Burst]:
        found = [await _burst(stack, merchant, receivers, payments) for _ in range(rounds)]
        say(
            f"{when}: "
            + ", ".join(f"{b.queued_per_s:,.0f} and {b.deliveries_per_s:,.0f}/s" for b in found)
        )
        return found

    await _burst(stack, merchant, receivers, payments)  # it warms up
    before = await bursts("before the snapshot")
    holder = await asyncpg.connect(stack.database_url)
    try:
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await holder.fetchval(_SAW)
        say(f"a snapshot is held for {held_s:g} s")
        tokens = await mint(stack, merchant, int(rate * held_s))
        with stacks.worker(stack):
            count = len(tokens)
            await pay(stack, [merchant], count, rate=rate, tokens=tokens, queued=True)
            await _delivered(receivers, count)
        await receivers.take()
        beside = await bursts("beside it")
        await holder.execute("ROLLBACK")
        await holder.execute("VACUUM queued_operations, webhook_deliveries")
    finally:
        await holder.close()
    return Snapshot(held_s, before, beside, await bursts("after its end"))


async def _burst(stack: Stack, merchant: Merchant, receivers: Receivers, payments: int) -> Burst:
    """Queue payments while no worker runs, and let one empty both lists."""
    tokens = await mint(stack, merchant, payments)
    pages = await _pages(stack, merchant)
    await pay(stack, [merchant], payments, tokens=tokens, queued=True)
    with stacks.worker(stack):
        await _delivered(receivers, payments)
        await emptied(stack)
    came = await receivers.take()
    return Burst(
        await value(stack.database_url, RATE, merchant.id, payments),
        len(came.late_ms) / came.seconds,
        *pages,
    )


async def _delivered(receivers: Receivers, payments: int) -> None:
    """Wait until all events of so many payments were delivered. Raises LoadFailed."""
    events = payments * EVENTS
    await receivers.until(events, _ENDS_S + events / _LEAST_PER_S)


async def _pages(stack: Stack, merchant: Merchant) -> Sequence[int]:
    """Return how many pages one claim reads from each list: of what is recent, and of all."""
    connection: Any = await asyncpg.connect(stack.database_url)
    queued = work_list.claim_sql(QUEUED)
    webhooks: tuple[Any, ...] = ([], [], 16, 40.0, 1000)
    try:
        endpoint = await connection.fetchval(_ENDPOINT, merchant.id)
        recent = ([merchant.id], [endpoint], [_RECENT_S])
        return [
            await _pages_of(connection, queued, 100, 60.0, LATE_S, 0.0),
            await _pages_of(connection, queued, 100, 60.0, EVER_S, 0.0),
            await _pages_of(connection, webhook_queue.CLAIM_RECENT, *webhooks, *recent),
            await _pages_of(connection, webhook_queue.CLAIM, *webhooks),
        ]
    finally:
        await connection.close()


async def _pages_of(connection: Any, sql: str, *arguments: object) -> int:
    transaction = connection.transaction()
    await transaction.start()
    try:
        for joins in ("seqscan", "hashjoin", "mergejoin"):  # as in a lane
            await connection.execute(f"SET LOCAL enable_{joins} = off")
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"
        text = await connection.fetchval(explained, *arguments)
    finally:
        await transaction.rollback()
    plan = msgspec.json.decode(text)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
