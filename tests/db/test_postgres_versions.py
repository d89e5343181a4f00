"""The oldest and the newest PostgreSQL that EasyPay works with: what depends on the server.

Everything else runs on the newest one only.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from test_lease import (
    test_a_released_lease_is_free_at_once_and_only_its_holder_releases_it as a_lease_is_released,
)
from test_lease import (
    test_of_many_at_once_one_gets_it_and_the_others_do_not_wait as one_of_many_gets_a_lease,
)
from test_schema_matches_code import (
    test_frequent_statements_use_an_index_in_one_month as statements_use_an_index,
)
from test_schema_matches_code import (
    test_months_are_made_ahead_once_by_many_processes as months_are_made_once,
)

from easypay.db import embedded, migrate, postgres_binaries
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from easypay.db.postgres_binaries import ClusterError
from harness import QUICK, Shop, Simulator, Stack, audit, migrated, new_database


def programs_of(major: int) -> Path:
    """Return where the programs of this PostgreSQL are. Skips if it is not installed."""
    for programs in (None, Path(f"/usr/lib/postgresql/{major}/bin")):
        try:
            found = postgres_binaries.find(programs)
        except ClusterError:
            continue
        if found.major == major:
            return found.directory
    pytest.skip(f"PostgreSQL {major} is not installed: run tests/install-servers as root")


@pytest.fixture(scope="module", params=[15, 18], ids=["15", "18"])
def server(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Return a PostgreSQL of this major version: the suite's own if it is one."""
    programs = programs_of(request.param)
    if programs == postgres_binaries.find().directory:
        yield cluster
        return
    folder = tmp_path_factory.mktemp(f"postgres{request.param}")
    with embedded.running(folder, settings={"fsync": "off"}, programs=programs) as running:
        yield running


@pytest.fixture(scope="module")
async def stack(
    server: Cluster, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """Run a gateway on that server, migrated from nothing."""
    dsn = await new_database(server.dsn, None)
    await migrated(dsn)
    with Stack(dsn, simulator, tmp_path_factory.mktemp("versions")) as stack:
        await stack.gateway(**QUICK)
        yield stack
    await simulator.clear_faults()


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    made = await stack.shop(stack.only_gateway)
    yield made
    await made.client.aclose()


async def test_payments_from_sale_to_refund_and_an_unknown_outcome(
    stack: Stack, shop: Shop, request: pytest.FixtureRequest
) -> None:
    authorized, kept, sold = await asyncio.gather(
        shop.paid(capture="manual"), shop.paid(capture="manual"), shop.paid()
    )
    captured, voided = await asyncio.gather(
        shop.capture(authorized["id"], 2000), shop.void(kept["id"])
    )
    assert (captured.status_code, voided.status_code) == (201, 201)
    refunded = await shop.refund(sold["id"])
    assert (refunded.status_code, refunded.json()["method"]) == (201, "void")
    await stack.simulator.fault("drop_reply", shop.login)
    lost = await shop.pay()
    assert lost.status_code == 202
    await shop.becomes(lost.json()["id"], "captured")
    await stack.simulator.post("/settle")
    partial = await shop.refund(authorized["id"], 500)
    assert (partial.status_code, partial.json()["amount"]) == (201, 500)
    assert await audit(stack, shop) == []
    version = (await stack.fetch("SELECT current_setting('server_version_num')::int / 10000"))[0][0]
    assert version == request.node.callspec.params["server"]
    listed = {each["id"]: each["status"] for each in await shop.all("/payments")}
    assert sorted(listed.values()) == ["captured", "captured", "voided", "voided"]


async def test_migrations_run_on_an_empty_database_at_once_and_again(server: Cluster) -> None:
    dsn = await new_database(server.dsn, None)
    applied = await asyncio.gather(*(migrate.migrate(dsn) for _ in range(3)))
    assert sorted(name for names in applied for name in names) == [n for n, _ in migrate.files()]
    connection = await asyncpg.connect(dsn)
    await migrate.require_schema(connection)
    await connection.close()


async def test_statements_of_groups_use_an_index_in_one_month(stack: Stack) -> None:
    await statements_use_an_index(stack)


async def test_months_are_made_ahead_once(server: Cluster) -> None:
    await months_are_made_once(server)


async def test_leases_are_taken_and_released(server: Cluster) -> None:
    for story in (one_of_many_gets_a_lease, a_lease_is_released):
        dsn = await new_database(server.dsn, None)
        await migrate.migrate(dsn)
        pool = await open_pool(dsn, size=16)
        await story(pool)
        await pool.close()
