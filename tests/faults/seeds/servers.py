"""What one job's seeds share: PostgreSQL, the simulator, the fork server, a template database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from easypay.db import embedded
from easypay.db.embedded import Cluster
from harness import Simulator, migrated, with_database

TEMPLATE: Final = "seeds_template"
SERVER: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "autovacuum": "off",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "wal_keep_size": "256MB",
}

# The database's clock runs ahead by this row's value. If the code has db_now(), it is replaced;
# otherwise the search path shadows now().
_CLOCK: Final = """
    CREATE SCHEMA seeds;
    CREATE TABLE seeds.clock (ahead interval NOT NULL);
    INSERT INTO seeds.clock VALUES ('0');
    CREATE FUNCTION seeds.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
        AS 'SELECT pg_catalog.now() + ahead FROM seeds.clock';
    DO $$ BEGIN
        IF to_regproc('public.db_now') IS NOT NULL THEN
            EXECUTE 'CREATE OR REPLACE FUNCTION public.db_now() RETURNS timestamptz'
                ' LANGUAGE sql STABLE PARALLEL SAFE AS ''SELECT seeds.now()''';
        END IF;
    END $$;
"""


class Servers:
    """The servers of one job, which runs seeds one after another."""

    def __init__(self, cluster: Cluster, simulator: Simulator, folder: Path) -> None:
        self.cluster = cluster
        self.simulator = simulator
        self.folder = folder
        self._made = 0

    async def new_database(self) -> str:
        """Create a migrated database for a seed and return its name."""
        self._made += 1
        name = f"seed_{self._made}"
        connection = await asyncpg.connect(self.cluster.tcp_dsn)
        try:
            await connection.execute(
                f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"
            )
            await connection.execute(
                f"ALTER DATABASE {name} SET search_path = seeds, public, pg_catalog"
            )
        finally:
            await connection.close()
        return name

    async def drop_database(self, name: str) -> None:
        connection = await asyncpg.connect(self.cluster.tcp_dsn)
        try:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await connection.close()

    async def start_over(self) -> None:
        """Make the simulator forget the last seed: transactions, faults and its moved clock."""
        await self.simulator.clear_faults()
        await self.simulator.post("/clock", real=True)
        await self.simulator.post("/reset")
        await self.simulator.post("/settings", auto_settle=False)  # the seed decides when


def at_port(dsn: str, port: int) -> str:
    """Return the DSN of the same database through a proxy at this port."""
    parts = urlsplit(dsn)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))


@asynccontextmanager
async def running_servers(folder: Path) -> AsyncIterator[Servers]:
    """Yield everything that one job needs."""
    folder.mkdir(parents=True, exist_ok=True)
    with embedded.running(folder / "postgres", settings=SERVER) as cluster:
        simulator = Simulator(folder)
        try:
            await asyncio.gather(simulator.ready(), _template(cluster))
            yield Servers(cluster, simulator, folder)
        finally:
            await simulator.client.aclose()
            simulator.kill()


async def _template(cluster: Cluster) -> None:
    connection = await asyncpg.connect(cluster.tcp_dsn)
    try:
        # Each gateway opens a dozen connections, and each one costs a password derivation.
        await connection.execute("SET scram_iterations = 1")
        await connection.execute(f"ALTER USER {embedded.USER} PASSWORD '{cluster.password}'")
        await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    finally:
        await connection.close()
    dsn = with_database(cluster.tcp_dsn, TEMPLATE)
    await migrated(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_CLOCK)
    finally:
        await connection.close()
