"""What is measured by function, and which statements are logged with their plan."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from easypay import observed as module
from easypay.db.pool import open_pool
from easypay.observability.call_metrics import MeasuredPool
from easypay.observability.metrics import Instruments
from easypay.observability.slow_statements import SlowStatements
from easypay.observed import observe_with, observed
from harness import until


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


async def test_a_slow_statement_is_logged_once_with_its_plan_and_without_values(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowStatements(0.05)
    plain = await open_pool(database, size=2)
    pool = MeasuredPool(plain, Instruments(), slow.saw)
    running = asyncio.create_task(slow.run(pool))
    sql = "SELECT pg_sleep(0.1), (SELECT count(*) FROM merchants WHERE name = $1)"
    try:
        with caplog.at_level(logging.WARNING, "easypay.observability.slow_statements"):
            for _ in range(2):
                await pool.fetch(sql, "Jane's shop")

            async def logged() -> bool:
                return bool(caplog.messages)

            await until(logged, within_s=30)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await plain.close()
    (line,) = caplog.messages
    assert line.startswith("a statement took ")
    assert "Scan on merchants" in line or "Scan using" in line
    assert "(name = $1)" in line
    assert "Jane" not in str(caplog.messages)


def test_a_quick_statement_costs_a_comparison_and_zero_turns_it_off() -> None:
    off = SlowStatements(0)
    off.saw("SELECT 1", 1e9)
    assert off._met.empty()
