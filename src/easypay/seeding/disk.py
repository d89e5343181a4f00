"""Is there room for a seed on the database's disk?"""

import os
from pathlib import Path
from typing import Any, Final

import asyncpg

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


async def wal_bytes(connection: Any) -> int:
    """Return how much write-ahead log the server keeps in the ordinary case."""
    found: int = await connection.fetchval("SELECT pg_size_bytes(current_setting('max_wal_size'))")
    return found


async def free(connection: Any) -> int | None:
    """Return the free bytes where the server keeps its data; None if that cannot be known.

    It can be known if the server runs on this machine and lets this user see where its data is.
    """
    try:
        row = await connection.fetchrow(
            "SELECT current_setting('data_directory') AS at,"
            " extract(epoch FROM pg_postmaster_start_time())::bigint AS started"
        )
        # It may be the path of a container, or of another machine behind a tunnel.
        lines = (Path(row["at"]) / "postmaster.pid").read_text().splitlines()
        if abs(int(lines[2]) - row["started"]) > 2:
            return None
        found = os.statvfs(row["at"])
    except (OSError, ValueError, IndexError, asyncpg.InsufficientPrivilegeError):
        return None
    return found.f_bavail * found.f_frsize
