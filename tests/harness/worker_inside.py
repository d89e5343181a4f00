"""A worker of queued payments inside the test's own process: it holds few operations at a time, and
a test can tell it to stop and see what it returns."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

from easypay.settings import Settings
from easypay.worker.process import parts_of
from easypay.worker.queued_payments import QueuedPayments
from harness.processes import ENCRYPTION_KEY, QUICK
from harness.stack import Stack

AT_ONCE = 8


@asynccontextmanager
async def queue_worker_inside(
    stack: Stack, *, dsn: str | None = None, **over: str
) -> AsyncIterator[QueuedPayments]:
    """Send what is queued in a stack, for the length of the block. `dsn`: another way to reach its
    database; `over`: settings."""
    wire = stack.simulator.wire
    settings = {
        "database_url": dsn or stack.dsn,
        "encryption_key": ENCRYPTION_KEY,
        "authorize_net_test_url": wire,
        "authorize_net_live_url": wire,
        **QUICK,
        "processor_deadline_s": "5.0",
        **over,
    }
    environment = {f"EASYPAY_{name.upper()}": value for name, value in settings.items()}
    with mock.patch.dict(os.environ, environment):
        parts = await parts_of(Settings())  # type: ignore[call-arg]  # from the environment
    worker = QueuedPayments(parts, lambda _: None, at_once=AT_ONCE)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop(5.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for each in parts.processors.values():
            await each.close()
        await parts.pool.close(1.0)
