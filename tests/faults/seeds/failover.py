"""A standby that takes over without the last second of commits.

It is a real one that streams from the job's PostgreSQL. Once it stops following the primary, new
commits are lost with the primary.
"""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from easypay.db import embedded
from easypay.db import postgres_binaries as binaries
from easypay.db.embedded import Cluster
from harness import until

_LEFT_OUT: Final = ("postmaster.pid", "postmaster.opts", "pg_wal", "pg_replslot", "pg_stat_tmp")
_EMPTY: Final = (
    "pg_wal",
    "pg_wal/archive_status",
    "pg_wal/summaries",
    "pg_replslot",
    "pg_stat_tmp",
)


class Standby:
    """A copy of a running server that follows it until it is promoted."""

    def __init__(self, primary: Cluster, folder: Path, settings: dict[str, str]) -> None:
        self._primary = primary
        self._folder = folder
        self._settings = settings
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None
        return self._cluster

    async def start(self) -> "Standby":
        """Copy the primary's files under a backup, and follow it."""
        await self._copy()
        # From this thread, because the server ends with the thread that started it.
        self._cluster = embedded.start(self._folder, settings=self._settings)
        return self

    async def _copy(self) -> None:
        source, home = self._primary.home / "data", self._folder / "postgres"
        home.mkdir(parents=True)
        connection = await asyncpg.connect(self._primary.tcp_dsn)
        try:
            await connection.execute("SELECT pg_backup_start('standby', true)")
            left_out = shutil.ignore_patterns(*_LEFT_OUT)
            await asyncio.to_thread(
                shutil.copytree, source, home / "data", ignore=left_out, symlinks=True
            )
            label = await connection.fetchval("SELECT labelfile FROM pg_backup_stop(false)")
        finally:
            await connection.close()
        for name in _EMPTY:
            (home / "data" / name).mkdir(exist_ok=True)
        (home / "data" / "backup_label").write_text(label)
        (home / "data" / "standby.signal").touch()
        with (home / "data" / "postgresql.auto.conf").open("a") as file:
            file.write(
                f"primary_conninfo = 'host=127.0.0.1 port={self._primary.port}"
                f" user={embedded.USER} password={self._primary.password}'\n"
            )
        shutil.copy2(self._primary.home / "password", home / "password")
        for path in (home, home / "data"):
            path.chmod(0o700)
        identity = binaries.choose(self._folder, None).identity
        for path in (home, *home.rglob("*")):
            binaries.give(path, identity)

    async def stop_following(self) -> None:
        """Stop following the primary, with everything committed up to now."""
        primary = await asyncpg.connect(self._primary.tcp_dsn)
        standby = await asyncpg.connect(self.cluster.tcp_dsn)

        async def caught_up() -> bool:
            return bool(await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1", ahead))

        async def is_alone() -> bool:
            return not await standby.fetchval("SELECT count(*) FROM pg_stat_wal_receiver")

        try:
            ahead = await primary.fetchval("SELECT pg_current_wal_lsn()")
            await until(caught_up, what="the standby has caught up")
            await standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await standby.execute("SELECT pg_reload_conf()")
            await until(is_alone, what="the standby follows nobody")
        finally:
            await primary.close()
            await standby.close()

    async def promote(self) -> None:
        """Promote the standby in place of the lost primary."""
        connection = await asyncpg.connect(self.cluster.tcp_dsn)
        try:
            assert await connection.fetchval("SELECT pg_promote(true, 30)")
        finally:
            await connection.close()

    async def stop(self) -> None:
        if self._cluster is not None:
            await asyncio.to_thread(self._cluster.stop)
        with suppress(OSError):
            shutil.rmtree(self._folder)
