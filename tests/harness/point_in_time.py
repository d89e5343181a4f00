"""A server whose log is archived, a base backup of it, and its recovery to a point in time."""

import shutil
from pathlib import Path

from easypay.db import embedded
from easypay.db import postgres_binaries as binaries
from easypay.db.embedded import USER, Cluster
from harness.sessions import connected
from harness.waiting import until

SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "min_wal_size": "32MB"}


def start_archiving(folder: Path) -> Cluster:
    """Start a new server that copies each finished piece of its log into `<home>/archive`."""
    place = binaries.choose(folder, None)
    archive = place.home / "archive"
    archive.mkdir()
    binaries.give(archive, place.identity)
    more = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f"}
    return embedded.start(folder, settings=SETTINGS | more)


def base_backup(cluster: Cluster, folder: Path) -> None:
    """Copy the running server, as the operator's page says."""
    place = binaries.choose(folder, None)
    login = f"host=127.0.0.1 port={cluster.port} user={USER} password={cluster.password}"
    to = place.home / "data"
    program = place.tools.directory / "pg_basebackup"
    options = ("-X", "none", "-c", "fast", "--no-sync", "--no-manifest")
    binaries.run(place.identity, [str(program), "-d", login, "-D", str(to), *options])
    shutil.copy2(cluster.home / "password", place.home / "password")
    binaries.give(place.home / "password", place.identity)


async def name_point(cluster: Cluster, name: str) -> None:
    """Give the present moment a name to which the log can be replayed."""
    async with connected(cluster.tcp_dsn) as connection:
        await connection.execute("SELECT pg_create_restore_point($1)", name)


async def archive_all(cluster: Cluster) -> None:
    """Wait until everything that was written so far is in the archive."""
    async with connected(cluster.tcp_dsn) as connection:
        last = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
    archived = cluster.home / "archive" / last

    async def is_there() -> bool:
        return archived.exists()

    await until(is_there, what=f"{archived} is archived")


async def recover(folder: Path, archive: Path, point: str) -> Cluster:
    """Start the copy, replay the archive up to the point, and let it take writes from there."""
    place = binaries.choose(folder, None)
    signal = place.home / "data" / "recovery.signal"
    signal.touch()
    binaries.give(signal, place.identity)
    more = {
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_name": point,
        "recovery_target_action": "promote",
    }
    cluster = embedded.start(folder, settings=SETTINGS | more)

    async def writable() -> bool:
        async with connected(cluster.tcp_dsn) as connection:
            return not await connection.fetchval("SELECT pg_is_in_recovery()")

    await until(writable, what="the recovered server takes writes")
    return cluster
