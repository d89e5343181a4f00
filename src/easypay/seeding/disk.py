"""Is there room for a seed on the database's disk?"""

from typing import Final

from easypay.seeding.days import unix_us
from easypay.seeding.month import KEYS_KEPT
from easypay.seeding.plan import Plan

BYTES_PER_PAYMENT: Final = 1_450
"""Tables and indexes, measured over a million payments."""
BYTES_PER_RECENT_PAYMENT: Final = 3_000
"""What comes on top while its key and its stored replies are kept, also measured."""
_MARGIN: Final = 1.15


def needed(plan: Plan, wal_bytes: int) -> int:
    """Return the bytes that a seed takes, with the server's write-ahead log (`wal_bytes`)."""
    from_us = unix_us(plan.until - KEYS_KEPT)
    recent = sum(
        day.payments for its in plan.days().values() for day in its if day.start_us >= from_us
    )
    rows = plan.payments * BYTES_PER_PAYMENT + recent * BYTES_PER_RECENT_PAYMENT
    return int(rows * _MARGIN) + wal_bytes
