"""What the tests of the shared cache need."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from easypay.db.embedded import Cluster
from harness.cached_processes import Rows


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Any]:
    pool = await asyncpg.create_pool(cluster.dsn, min_size=1, max_size=4)
    yield pool
    await pool.close()


@pytest.fixture
def rows() -> Rows:
    return Rows()
