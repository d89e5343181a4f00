"""A migrated database of the test's own."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from cutting_proxy import CuttingProxy

from easypay.db.embedded import Cluster
from harness import new_database, with_database


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    """The DSN of a migrated database without rows."""
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def tcp_database(cluster: Cluster, database: str) -> str:
    """The same database over TCP, for a proxy to stand before."""
    return with_database(cluster.tcp_dsn, urlsplit(database).path.lstrip("/"))


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    """A connection to it."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
async def proxy(tcp_database: str) -> AsyncIterator[CuttingProxy]:
    """A proxy before that database, which can lose answers."""
    opened = await CuttingProxy(tcp_database).open()
    yield opened
    await opened.shut()
