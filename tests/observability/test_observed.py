"""What is measured by function, and which statements are logged with their plan."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from easypay import ids
from easypay import observed as module
from easypay.db.pool import Pool, open_pool
from easypay.errors import DatabaseUnavailable
from easypay.mode import Mode
from easypay.observability.call_metrics import MeasuredPool
from easypay.observability.metrics import Instruments
from easypay.observability.slow_statements import SlowStatements
from easypay.observed import observe_with, observed
from easypay.payments import statements
from easypay.payments.model import PaymentKey
from harness import Stack, until


@pytest.fixture
def metrics() -> Iterator[Instruments]:
    before, made = module._sink[0], Instruments()
    observe_with(made.functions.observe)
    yield made
    observe_with(before)


@observed("some work")
async def work(what: str) -> str:
    if what == "fail":
        raise ValueError(what)
    await asyncio.sleep(0 if what == "end" else 60)
    return what


async def test_each_way_to_end_is_measured(metrics: Instruments) -> None:
    assert await work("end") == "end"
    with pytest.raises(ValueError, match="fail"):
        await work("fail")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work("hang"), 0.01)
    own = metrics.registry.cells.own()
    counted = {
        labels[1]: sum(cells[:-1])
        for (name, labels), cells in own.items()
        if name == "easypay_function_duration_seconds"
    }
    assert counted == {"ok": 1, "error": 1, "cancelled": 1}


def calls_of(run: Any) -> int:
    """Count the calls that a coroutine makes, without those of an event loop."""
    counted = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    coroutine = run()
    sys.setprofile(count)
    try:
        with pytest.raises(StopIteration):
            coroutine.send(None)
    finally:
        sys.setprofile(None)
    return counted


async def test_it_costs_a_call_as_many_steps_as_it_says(metrics: Instruments) -> None:
    async def nothing() -> None:
        pass

    measured = observed("nothing")(nothing)
    await measured()  # the cell of the histogram is there
    more = calls_of(measured) - calls_of(nothing)
    assert more == 6, "the coroutine, two clocks, the histogram, its cell and its bisection"


@pytest.fixture
async def plain(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database, size=2)
    yield opened
    await opened.close()


@asynccontextmanager
async def logged(
    slow: SlowStatements, pool: Any, caplog: pytest.LogCaptureFixture, lines: int
) -> AsyncIterator[list[str]]:
    """Log slow statements; at the end of the block wait for so many lines."""
    running = asyncio.create_task(slow.run(pool))
    try:
        with caplog.at_level(logging.WARNING, "easypay.observability.slow_statements"):
            yield caplog.messages

            async def all_are_there() -> bool:
                return len(caplog.messages) >= lines

            await until(all_are_there, within_s=30)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_slow_statement_is_logged_once_with_its_plan_and_without_values(
    plain: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowStatements(0.05)
    pool = MeasuredPool(plain, Instruments(), slow.saw)
    sql = "SELECT pg_sleep(0.1), (SELECT count(*) FROM merchants WHERE name = $1)"
    async with logged(slow, pool, caplog, 1):
        for _ in range(2):
            await pool.fetch(sql, "Jane's shop")
    (line,) = caplog.messages
    assert line.startswith("a statement took ")
    assert "Scan on merchants" in line or "Scan using" in line
    assert "(name = $1)" in line
    assert "Jane" not in str(caplog.messages)


async def test_no_statement_hides_another_of_its_table(
    plain: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowStatements(0.05)
    async with logged(slow, plain, caplog, 2):
        slow.saw("SELECT name FROM payments_2026_01", 1)
        slow.saw("SELECT name FROM payments_2026_02", 1)  # the same, in another month
        slow.saw("SELECT id FROM payments", 1)
    assert ["SELECT name" in line for line in caplog.messages] == [True, False]


async def test_a_slow_group_is_logged_whether_it_succeeds_or_fails(
    database: str, plain: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for a lock, in the end for too long. Its plan is the one of its own session, and is
    asked for once the lock is gone: whoever plans waits for it, too."""
    slow = SlowStatements(0.05)
    lane = statements.lane(statements.READ, database, limit_s=1)
    committer = statements.group_committer(
        statements.READ, [lane], month_of=lambda _: "", size=8, limit=None, patience_s=3
    )
    slow.watch(committer)
    sought = PaymentKey(ids.new_id(), Mode.TEST, ids.new_id())
    assert await committer.submit(sought) is None
    async with plain.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseUnavailable):
            await committer.submit(sought)
    async with logged(slow, plain, caplog, 1):
        pass
    await committer.close()
    (line,) = caplog.messages
    assert "a statement took 0." in line
    assert "Index Scan" in line
    assert "Seq Scan on payments" not in line


async def test_a_gateway_watches_its_groups(shared_stack: Stack) -> None:
    watching = await shared_stack.gateway(slow_statement_s="0.000001")
    shop = await shared_stack.shop(watching)

    async def its_plan_is_logged() -> bool:
        await shop.paid()  # now and then too many statements wait for their plans
        return "Insert on idempotency_keys" in watching.logs()

    await until(its_plan_is_logged, within_s=30)
    await shop.client.aclose()
    assert watching.terminate() == 0


def test_a_quick_statement_costs_a_comparison_and_zero_turns_it_off() -> None:
    off = SlowStatements(0)
    off.saw("SELECT 1", 1e9)
    assert off._met.empty()
