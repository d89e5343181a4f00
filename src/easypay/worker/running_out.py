"""What runs out slowly: disks and API keys. A worker looks once a minute, for the metrics."""

import asyncio
import logging
import os
from typing import Any, Final

from easypay.db import server_disk
from easypay.db.failures import is_passing
from easypay.observability.metrics import Instruments

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0
FAR: Final = 3650.0
"""Days until the first key ends, if none does."""
# A key that was made for less is meant to end: `easypay listen` makes such keys.
KEYS: Final = """
    SELECT min(extract(epoch FROM expires_at - db_now()) / 86400)::float8
      FROM api_keys
     WHERE revoked_at IS NULL AND expires_at > db_now()
       AND expires_at - created_at > interval '7 days'
"""


async def watch(pool: Any, instruments: Instruments) -> None:
    """Look until cancelled. What the database refuses for a while is looked at again."""
    while True:
        try:
            await look(pool, instruments)
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("what runs out is not known: %s", error)
        await asyncio.sleep(EVERY_S)


async def look(pool: Any, instruments: Instruments) -> None:
    """Read the disks and the keys once."""
    used = instruments.disk_used
    used.set(server_disk.ratio_of(os.statvfs("/")), "host")
    async with pool.acquire() as connection:
        database = await server_disk.used_ratio(connection)
        days = await connection.fetchval(KEYS)
    if database is not None:
        used.set(database, "database")
    instruments.key_days.set(FAR if days is None else days)
