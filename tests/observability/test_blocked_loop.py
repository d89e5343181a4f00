"""An event loop that stands still is found, with the place where it stands."""

import asyncio
import logging
import time

import pytest

from easypay.observability.blocked_loop import BlockedLoop
from harness.waiting import until


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


def count_up(seconds: float) -> int:
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        n += 1
    return n


@pytest.mark.parametrize("block", [stand_still, count_up])
async def test_it_is_logged_with_its_stack_once_a_minute(
    block: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(block)
    found: list[None] = []
    watching = asyncio.create_task(BlockedLoop(lambda: found.append(None)).run())
    with caplog.at_level(logging.WARNING, "easypay.observability.blocked_loop"):
        for wanted in (1, 2):
            await asyncio.sleep(0.2)
            block(0.4)

            async def was_found(wanted: int = wanted) -> bool:
                return len(found) >= wanted

            await until(was_found, within_s=30)
    watching.cancel()
    await asyncio.wait([watching])
    (line,) = caplog.messages
    assert "stood still for more than 0.1 s" in line
    assert f"{block.__name__} (observability/test_blocked_loop.py:" in line


async def test_a_busy_loop_that_turns_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    found: list[None] = []
    watching = asyncio.create_task(BlockedLoop(lambda: found.append(None)).run())
    with caplog.at_level(logging.WARNING, "easypay.observability.blocked_loop"):
        for _ in range(30):
            count_up(0.01)
            await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait([watching])
    assert found == [], caplog.messages
