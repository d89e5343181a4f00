"""Tasks that last as long as the process: none ends without a log line."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0


async def kept_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a task that should never end, until cancelled. If it ends, log that and restart it."""
    while True:
        try:
            await run()
            log.critical("%s ended by itself; it is restarted", name)
        except Exception:
            log.critical("%s failed; it is restarted", name, exc_info=True)
        await asyncio.sleep(PAUSE_S)
