"""What every process watches of itself, gateway or worker: each runs as long as the process."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from easypay.observability import host_metrics
from easypay.observability.blocked_loop import BlockedLoop
from easypay.observability.error_kinds import ErrorKinds
from easypay.observability.metrics import Instruments
from easypay.observability.slow_statements import SlowStatements
from easypay.observed import observe_with
from easypay.server.background import kept_running


def start(instruments: Instruments, pool: Any, slow: SlowStatements) -> list[asyncio.Task[None]]:
    """Start the watches of this process. They run until cancelled."""
    observe_with(instruments.functions.observe)
    errors = ErrorKinds(instruments.errors.add, instruments.error_kinds.add)
    runs: dict[str, Callable[[], Awaitable[None]]] = {
        "the watch of the event loop": BlockedLoop(instruments.blocked.add).run,
        "the figures of the host": partial(host_metrics.keep_reading, instruments),
        "the kinds of errors": partial(errors.run, pool),
        "the plans of slow statements": partial(slow.run, pool),
    }
    return [asyncio.create_task(kept_running(name, run)) for name, run in runs.items()]
