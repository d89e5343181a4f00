"""Fixtures: a healthy database for each test to make ill."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from easypay.db.embedded import Cluster
from harness import new_database


@pytest.fixture
async def dsn(cluster: Cluster, template: str) -> str:
    """Return the DSN of a migrated database without rows."""
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Any]:
    """Yield the connection that the doctor uses."""
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[Any]:
    """Yield a connection of somebody else."""
    opened = await asyncpg.connect(dsn, server_settings={"application_name": "reports"})
    yield opened
    await opened.close()
