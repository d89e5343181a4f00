"""An event loop that stands still is found, with the place where it stands."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from easypay.observability.blocked_loop import BlockedLoop
from easypay.server.background import kept_running
from harness.waiting import until


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


def count_up(seconds: float) -> int:
    end, n = time.thread_time() + seconds, 0
    while time.thread_time() < end:
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


def block_as_a_callback() -> None:
    time.sleep(0.4)


async def block_as_a_task() -> None:
    time.sleep(0.4)


@pytest.mark.parametrize("block", [block_as_a_callback, block_as_a_task])
async def test_it_is_found_where_nothing_was_called_yet(
    block: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The watch runs a few calls deep, as in a gateway; what blocks is right above the loop."""
    found: list[None] = []
    run = BlockedLoop(lambda: found.append(None)).run
    watching = asyncio.create_task(kept_running("the watch", run))
    await asyncio.sleep(0.2)
    if asyncio.iscoroutinefunction(block):
        await asyncio.create_task(block())
    else:
        asyncio.get_running_loop().call_soon(block)

    async def was_found() -> bool:
        return bool(found)

    with caplog.at_level(logging.WARNING, "easypay.observability.blocked_loop"):
        await until(was_found, within_s=5)
    watching.cancel()
    await asyncio.wait([watching])
    assert found == [None]


STOPPED = """
import asyncio
from easypay.observability.blocked_loop import BlockedLoop
async def main():
    watching = asyncio.create_task(BlockedLoop(lambda: print("blocked", flush=True)).run())
    await asyncio.sleep(0.2)
    print("ready", flush=True)
    await asyncio.to_thread(input)
    await asyncio.sleep(0.2)
asyncio.run(main())
"""


async def test_a_process_that_was_stopped_blocked_nothing() -> None:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STOPPED), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert running.stdout is not None
    assert await asyncio.wait_for(running.stdout.readline(), 30) == b"ready\n"
    running.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    running.send_signal(signal.SIGCONT)
    said, _ = await asyncio.wait_for(running.communicate(b"go on\n"), 30)
    assert (running.returncode, said) == (0, b"")


CROWDED = """
import asyncio, os, subprocess, sys, threading, time
from easypay.observability.blocked_loop import BlockedLoop
async def main():
    core = {min(os.sched_getaffinity(0))}
    busy = [sys.executable, "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(busy) for _ in range(3)]
    for other in others:
        os.sched_setaffinity(other.pid, core)
    watching = asyncio.create_task(BlockedLoop(lambda: print("blocked", flush=True)).run())
    await asyncio.sleep(0.2)
    os.sched_setaffinity(0, core)
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    end, longest, before = time.thread_time() + 0.02, 0.0, time.monotonic()
    while time.thread_time() < end:
        await asyncio.sleep(0)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    watching.cancel()
    await asyncio.wait([watching])
    for other in others:
        other.kill()
        other.wait()
    print("longest", longest)
asyncio.run(main())
"""


async def test_a_loop_that_gets_no_core_is_not_blocked() -> None:
    """Its thread is ready all the time, but other processes have the only core it may use."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CROWDED), stdout=subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(running.communicate(), 60)
    words = said.decode().split()
    assert words[:-1] == ["longest"], words
    assert float(words[-1]) > 0.15


class Card:
    """What a request has in hand while it blocks the loop."""


def stand_still_with_a_card(cards: "weakref.WeakSet[Card]") -> None:
    card = Card()
    cards.add(card)
    stand_still(0.4)


async def test_what_blocked_is_not_kept_in_memory() -> None:
    """The thread that looks forgets the frames it saw, for they hold the request and its card."""
    found: list[None] = []
    watching = asyncio.create_task(BlockedLoop(lambda: found.append(None)).run())
    await asyncio.sleep(0.2)
    cards: weakref.WeakSet[Card] = weakref.WeakSet()
    stand_still_with_a_card(cards)

    async def was_found() -> bool:
        return bool(found)

    await until(was_found, within_s=30)
    kept = list(cards)
    watching.cancel()
    await asyncio.wait([watching])
    assert kept == []
