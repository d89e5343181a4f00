"""Is there room on the disk of the database server?"""

import os
from pathlib import Path
from typing import Any

import asyncpg


async def wal_bytes(connection: Any) -> int:
    """Return how much write-ahead log the server normally keeps."""
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
