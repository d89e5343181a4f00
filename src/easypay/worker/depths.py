"""How much is in each work list, and how old it is, copied into the metrics."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.failures import is_passing
from easypay.observability.metrics import Instruments
from easypay.worker.registry import Listed

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0
_PART_OF_TIME: Final = 0.02
"""Long lists are read less often: reading takes at most this part of the time."""


async def watch(pool: Any, lists: Sequence[Listed], instruments: Instruments) -> None:
    """Read the depth of every list every five seconds, until cancelled."""
    while True:
        began = monotonic()
        try:
            for listed in lists:
                depth = await work_list.depth(pool, listed.work_list)
                rows = instruments.work_rows
                rows.set(depth.ready, listed.name, "ready")
                rows.set(depth.waiting, listed.name, "waiting")
                rows.set(depth.parked, listed.name, "parked")
                instruments.work_age.set(depth.oldest_s, listed.name)
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("the depths of the work lists are not known: %s", error)
        await asyncio.sleep(max(EVERY_S, (monotonic() - began) / _PART_OF_TIME))
