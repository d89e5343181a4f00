"""Fixtures: a migrated database for each test, and proxies before it."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from cutting_proxy import CuttingProxy
from row_builders import committer

from easypay.db.embedded import Cluster
from easypay.db.group_commit import GroupCommitter
from harness import Stack, new_database, with_database


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    """Return the DSN of a migrated database without rows."""
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def tcp_database(cluster: Cluster, database: str) -> str:
    """Return the same database's DSN over TCP, so that a proxy can stand before it."""
    return with_database(cluster.tcp_dsn, urlsplit(database).path.lstrip("/"))


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    """Yield a connection to the test's database."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
async def proxy(tcp_database: str) -> AsyncIterator[CuttingProxy]:
    """Yield a proxy before the test's database that can lose answers."""
    opened = await CuttingProxy(tcp_database).open()
    yield opened
    await opened.shut()


@pytest.fixture
async def stack_proxy(cluster: Cluster, stack: Stack) -> AsyncIterator[CuttingProxy]:
    """Yield such a proxy before the database of the test's own stack."""
    at_tcp = with_database(cluster.tcp_dsn, urlsplit(stack.dsn).path.lstrip("/"))
    opened = await CuttingProxy(at_tcp).open()
    yield opened
    await opened.shut()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Yield a function that starts committers, and close them after the test."""
    started: list[GroupCommitter[Any, Any]] = []

    def begin(*arguments: Any, **options: Any) -> GroupCommitter[Any, Any]:
        started.append(committer(*arguments, **options))
        return started[-1]

    yield begin
    for each in started:
        await each.close()
