"""What every process watches of itself, gateway or worker: each runs as long as the process."""

import asyncio
from functools import partial

from easypay.observability import host_metrics
from easypay.observability.blocked_loop import BlockedLoop
from easypay.observability.metrics import Instruments
from easypay.server.background import kept_running


def start(instruments: Instruments) -> list[asyncio.Task[None]]:
    """Start the watches of this process. They run until cancelled."""
    runs = {
        "the watch of the event loop": BlockedLoop(instruments.blocked.add).run,
        "the figures of the host": partial(host_metrics.keep_reading, instruments),
    }
    return [asyncio.create_task(kept_running(name, run)) for name, run in runs.items()]
