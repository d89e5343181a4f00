"""A real PgBouncer before a test's server, with the configuration that docs/operations.md gives."""

import asyncio
import configparser
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from easypay.db import postgres_binaries
from easypay.db.embedded import USER, Cluster
from harness.processes import free_port
from harness.waiting import until

CONFIGURATION = Path(__file__).parents[2] / "docs" / "pgbouncer.ini"


class PgBouncer:
    """PgBouncer before a cluster. It serves every database of the cluster under its own name."""

    def __init__(self, cluster: Cluster, *, pool_size: int, **over: str) -> None:
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            pytest.skip("PgBouncer is not installed: run tests/install-servers as root")
        self.port = free_port()
        # A place that the user who runs the server can read.
        self._folder = cluster.home / f"pgbouncer-{self.port}"
        self._folder.mkdir()
        identity = postgres_binaries.identity_of(cluster.home)
        config = configparser.ConfigParser()
        config.read_string(CONFIGURATION.read_text())
        config["databases"] = {"*": f"host=127.0.0.1 port={cluster.port}"}
        users = self._folder / "userlist.txt"
        users.write_text(f'"{USER}" "{cluster.password}"\n')
        config["pgbouncer"].update(
            {
                "listen_port": str(self.port),
                "unix_socket_dir": "",
                "auth_file": str(users),
                "default_pool_size": str(pool_size),
                **over,
            }
        )
        file = self._folder / "pgbouncer.ini"
        with file.open("w") as out:
            config.write(out)
        for path in (self._folder, users, file):
            postgres_binaries.give(path, identity)
        self._command = postgres_binaries.command(identity, [program, str(file)])
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str) -> str:
        """Return the way to a database of the cluster through this PgBouncer, given any DSN."""
        parts = urlsplit(database)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=""))

    async def start(self) -> "PgBouncer":
        """Start it, again after a kill, and wait until it accepts connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

        async def accepts() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log").read_text()
            with socket.socket() as probe:
                return await asyncio.to_thread(probe.connect_ex, ("127.0.0.1", self.port)) == 0

        await until(accepts, what="PgBouncer accepts connections")
        return self

    def kill(self) -> None:
        """Kill it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
