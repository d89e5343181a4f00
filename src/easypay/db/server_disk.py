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
    """Return the free bytes where the server keeps its data; None if that cannot be known."""
    found = await _disk(connection)
    return None if found is None else found.f_bavail * found.f_frsize


async def used_ratio(connection: Any) -> float | None:
    """Return the used part (0 to 1) of the server's disk; None if that cannot be known."""
    found = await _disk(connection)
    return None if found is None else ratio_of(found)


def ratio_of(disk: os.statvfs_result) -> float:
    """Return the used part (0 to 1) of a disk, as `df` shows it."""
    used = disk.f_blocks - disk.f_bfree
    return used / ((used + disk.f_bavail) or 1)


async def _disk(connection: Any) -> os.statvfs_result | None:
    """Return what is known of the disk on which the server keeps its data.

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
        return os.statvfs(row["at"])
    except (OSError, ValueError, IndexError, asyncpg.InsufficientPrivilegeError):
        return None
