"""One PostgreSQL, one simulator and one gateway for the run; a shop of its own for every test."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from easypay.db import embedded
from easypay.db.embedded import Cluster
from harness import (
    QUICK,
    Gateway,
    Shop,
    Simulator,
    Stack,
    migrated,
    new_database,
    stopping,
    with_database,
)

TEMPLATE = "easypay_template"

# A run is repeatable; EASYPAY_HYPOTHESIS=random goes looking for new examples.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("EASYPAY_HYPOTHESIS", "repeatable"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL of the run's own, fsync on as in production."""
    with embedded.running(
        tmp_path_factory.mktemp("postgres"), settings={"max_connections": "300"}
    ) as running:
        yield running


@pytest.fixture(scope="session")
async def template(cluster: Cluster) -> str:
    """A migrated database that every stack copies."""
    connection = await asyncpg.connect(cluster.dsn)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    await migrated(with_database(cluster.dsn, TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
async def simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    """The simulator all stacks share; each shop has a login of its own there."""
    running = Simulator(tmp_path_factory.mktemp("simulator"))
    try:
        yield await running.ready()
    finally:
        await running.client.aclose()
        running.kill()


@pytest.fixture(scope="session")
async def shared_stack(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The stack for tests that break nothing."""
    dsn = await new_database(cluster.dsn, template)
    with stopping(Stack(dsn, simulator, tmp_path_factory.mktemp("stack"))) as stack:
        yield stack


@pytest.fixture(scope="session")
async def gateway(shared_stack: Stack) -> Gateway:
    """The shared gateway, its resolver quick enough to watch."""
    return await shared_stack.gateway(**QUICK)


@pytest.fixture
async def second_gateway(shared_stack: Stack) -> AsyncIterator[Gateway]:
    """Another process on the shared database, for one test. It resolves unknowns too, so it has
    the first one's schedule, and it ends with the test."""
    started = await shared_stack.gateway(**QUICK)
    yield started
    started.kill()


@pytest.fixture
async def shop(shared_stack: Stack, gateway: Gateway) -> AsyncIterator[Shop]:
    """A merchant of this test's own, on the shared stack. Its faults end with it."""
    made = await shared_stack.shop(gateway)
    yield made
    await shared_stack.simulator.clear_faults()
    await made.client.aclose()


@pytest.fixture
async def stack(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path: Path
) -> AsyncIterator[Stack]:
    """A stack of this test's own, for tests that kill and break: start gateways on it."""
    dsn = await new_database(cluster.dsn, template)
    with stopping(Stack(dsn, simulator, tmp_path)) as made:
        yield made
    await simulator.clear_faults()
