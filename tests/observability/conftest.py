"""A database of its own for tests that look at whole tables."""

import pytest

from easypay.db.embedded import Cluster
from harness import new_database


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    """A migrated, empty database."""
    return await new_database(cluster.dsn, template)
