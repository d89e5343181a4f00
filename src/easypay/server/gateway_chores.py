"""What a gateway does now and then beside its requests."""

import asyncio
from typing import Any

from easypay.compaction import run as compaction
from easypay.compaction.compact import Done
from easypay.customers.expiring import tell_of_expiring
from easypay.db.partitions import Months
from easypay.observability.metrics import Instruments
from easypay.payments.chores import Chore, chores, keep_doing, sign_of_life
from easypay.settings import Settings


def start(
    settings: Settings, pool: Any, months: Months, instruments: Instruments
) -> list[asyncio.Task[None]]:
    """Start them all. Each goes on by itself until it is cancelled."""

    async def tell() -> None:
        async with pool.acquire() as connection:
            await tell_of_expiring(connection)

    def compacted(done: Done) -> None:
        instruments.compacted.add()
        instruments.compaction_saved.add(by=done.bytes_before - done.bytes_after)

    all_chores = [
        *chores(
            pool,
            months,
            months_ahead=settings.partitions_ahead_months,
            key_days=settings.idempotency_key_days,
            customer_event_days=settings.customer_event_days,
        ),
        compaction.chore(
            pool,
            settings.database_url.get_secret_value(),
            key_days=settings.idempotency_key_days,
            watcher=compacted,
        ),
        Chore("telling of cards that expire soon", tell, 86_400, 600),
        sign_of_life(pool),
    ]
    return [asyncio.create_task(keep_doing(chore)) for chore in all_chores]
