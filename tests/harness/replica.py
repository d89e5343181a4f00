"""A real streaming replica of a test's server: paused, killed, stopped in its tracks, promoted."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from easypay.db import embedded
from easypay.db import postgres_binaries as binaries
from easypay.db.embedded import USER, Cluster
from harness.processes import free_port
from harness.sessions import connected
from harness.waiting import until

SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "min_wal_size": "32MB"}
"""What a small primary and its replica are started with."""


class StreamingReplica:
    """A copy of a running server that follows it. It has its port before it is started.

    `settings`: beside SETTINGS. It needs as many connections as its primary may have.
    """

    def __init__(self, primary: Cluster, folder: Path, **settings: str) -> None:
        self._primary = primary
        self._settings = SETTINGS | settings
        self._folder = folder
        self._port = free_port()
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None
        return self._cluster

    def start(self) -> "StreamingReplica":
        """Copy the primary with pg_basebackup, and follow it. Call it from the main thread."""
        place = binaries.choose(self._folder, None)
        data = place.home / "data"
        shutil.rmtree(data, ignore_errors=True)
        login = f"host=127.0.0.1 port={self._primary.port} user={USER}"
        binaries.run(
            place.identity,
            [
                str(place.tools.directory / "pg_basebackup"),
                *("-d", f"{login} password={self._primary.password}"),
                *("-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync"),
            ],
        )
        shutil.copy2(self._primary.home / "password", place.home / "password")
        binaries.give(place.home / "password", place.identity)
        (place.home / "port").write_text(f"{self._port}\n")
        self._cluster = embedded.start(self._folder, settings=self._settings)
        return self

    def dsn(self, database: str) -> str:
        """Return the way to the replica's copy of a database, given that of the primary."""
        parts = urlsplit(self._primary.tcp_dsn)
        netloc = f"{parts.netloc.rpartition(':')[0]}:{self._port}"
        return urlunsplit(parts._replace(netloc=netloc, path=urlsplit(database).path))

    async def pause(self) -> None:
        """Receive the log, and replay nothing of it."""

        async def paused() -> bool:
            return bool(await self._value("SELECT pg_get_wal_replay_pause_state() = 'paused'"))

        await self._value("SELECT pg_wal_replay_pause()")
        await until(paused, what="the replay is paused")

    async def resume(self) -> None:
        """Replay what came meanwhile, and go on."""
        await self._value("SELECT pg_wal_replay_resume()")

    async def caught_up(self) -> None:
        """Wait until it has replayed what the primary has now."""
        async with connected(self._primary.tcp_dsn) as connection:
            ahead = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")

        async def has_it() -> bool:
            return bool(
                await self._value("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", ahead)
            )

        await until(has_it, what="the replica has caught up")

    def freeze(self) -> None:
        """Stop all its processes (SIGSTOP): connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill all its processes (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self.cluster.process.wait()

    def restart(self) -> None:
        """Start it again after a kill, on the same port."""
        self.cluster.restart()

    async def promote(self) -> None:
        """Make it a primary of its own. It can follow again only as a new copy: `copy_anew`."""
        assert await self._value("SELECT pg_promote(true, 30)")

    def copy_anew(self) -> None:
        """Replace it by a new copy of the primary."""
        self.cluster.stop()
        self.start()

    def stop(self) -> None:
        """End it, whatever state it is in, and remove its files."""
        if self._cluster is not None:
            with suppress(ProcessLookupError):
                self.thaw()
            self._cluster.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def sessions(self, names: str) -> list[str]:
        """Return the names of the sessions on it that begin so."""
        sql = """
            SELECT array_agg(application_name) FROM pg_stat_activity
             WHERE starts_with(application_name, $1)
        """
        return list(await self._value(sql, names) or ())

    async def running(self, like: str) -> int:
        """Return how many statements like this run on it."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
        return int(await self._value(sql, like))

    @asynccontextmanager
    async def set(self, **settings: str) -> AsyncIterator[None]:
        """Change settings of the replica alone, for the length of a block."""
        for name, value in settings.items():
            await self._value(f"ALTER SYSTEM SET {name} = '{value}'")
        await self._value("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            for name in settings:
                await self._value(f"ALTER SYSTEM RESET {name}")
            await self._value("SELECT pg_reload_conf()")

    async def _value(self, sql: str, *arguments: object) -> Any:
        async with connected(self.cluster.tcp_dsn) as connection:
            return await connection.fetchval(sql, *arguments)

    def _signal(self, which: signal.Signals) -> None:
        server = self.cluster.pid
        for pid in (server, *_children(server)):
            with suppress(ProcessLookupError):
                os.kill(pid, which)


def _children(parent: int) -> Iterable[int]:
    """Return the processes that another one has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found
