"""A background task that fails is logged and restarted."""

import asyncio
import logging

import pytest

from easypay.server.background import kept_running


async def test_a_task_that_fails_is_restarted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()
    failures = [OSError(24, "Too many open files")]

    async def run() -> None:
        if failures:
            raise failures.pop()
        begun.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.CRITICAL, "easypay.server.background"):
        task = asyncio.create_task(kept_running("the watch", run))
        await asyncio.wait_for(begun.wait(), 30)
    assert "the watch failed" in caplog.text
    assert "Too many open files" in caplog.text
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
