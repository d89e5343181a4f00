"""The connections that gateways need are checked against those that the server gives."""

import asyncio
import logging
from typing import Any

import pytest
from pydantic import SecretStr

from easypay.db import connection_budget
from easypay.db.connection_budget import LEADING, TooFewConnections
from easypay.db.embedded import Cluster
from easypay.settings import Settings
from easypay.worker.batches import Batches
from easypay.worker.process import parts_of
from easypay.worker.queued_payments import QueuedPayments
from harness import ENCRYPTION_KEY, Gateway, Stack, new_database, run_easypay, until

FOR_EACH = 6 * 2 + 4
"""With the default settings: docs/operations.md says so."""
BESIDE_GROUPS = 4 + 4 + 2 + 2 + 2 + 2
FOR_WORKER = BESIDE_GROUPS + (3 + 3) * 2 + 1 + 5


async def test_what_a_gateway_needs_is_what_it_opens(shared_stack: Stack, connection: Any) -> None:
    lanes = await shared_stack.fetch(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name ~ '^easypay (begin|follow-up|record|read) 1$'"
    )
    assert len(lanes) == 4
    budget = await connection_budget.count(connection, FOR_EACH)
    assert budget.allowed == 297, "300 without those that are reserved for superusers"
    assert budget.gateways >= 1
    assert budget.easypay >= 4
    assert budget.others >= 1
    assert budget.free == budget.allowed - budget.easypay - budget.others
    assert budget.needed == budget.gateways * FOR_EACH + LEADING + budget.others
    assert budget.fit == (budget.allowed - budget.others - LEADING) // FOR_EACH


async def test_workers_are_counted_too(stack: Stack, connection: Any) -> None:
    before = await connection_budget.count(connection, FOR_EACH, FOR_WORKER)
    worker = stack.worker()
    await worker.logged("working on")

    async def counted() -> connection_budget.Budget | None:
        now = await connection_budget.count(connection, FOR_EACH, FOR_WORKER)
        return now if now.workers > before.workers else None

    budget = await until(counted, what="the worker is counted")
    of_workers = budget.workers * FOR_WORKER
    assert budget.needed == (
        budget.gateways * FOR_EACH + min(1, budget.gateways) * LEADING + of_workers + budget.others
    )
    assert budget.fit == (budget.allowed - of_workers - budget.others - LEADING) // FOR_EACH
    opened = await stack.fetch(
        "SELECT FROM pg_stat_activity WHERE application_name LIKE 'easypay w%'"
        " AND datname = current_database()"
    )
    assert len(opened) <= FOR_WORKER
    settings = Settings(
        database_url=SecretStr("postgresql://"), encryption_key=SecretStr(ENCRYPTION_KEY)
    )
    assert settings.worker_connections == FOR_WORKER


@pytest.mark.parametrize("groups", [1, 3])
async def test_a_worker_is_counted_with_each_lane_that_it_has(
    cluster: Cluster, template: str, groups: int
) -> None:
    settings = Settings(
        database_url=SecretStr(await new_database(cluster.dsn, template)),
        encryption_key=SecretStr(ENCRYPTION_KEY),
        groups_in_flight=groups,
    )
    parts = await parts_of(settings)
    loops = [QueuedPayments(parts, lambda _: None), Batches(parts, lambda _: None)]
    lanes = [len(c._lanes) for loop in loops for c in loop._parts._committers]
    assert settings.worker_connections == BESIDE_GROUPS + sum(lanes)
    await asyncio.gather(*(loop.stop(0) for loop in loops))
    await asyncio.gather(*(each.close() for each in parts.processors.values()))
    await parts.pool.close(0)


@pytest.mark.parametrize(("for_each", "warned"), [(FOR_EACH, []), (200, ["WARNING"])])
async def test_a_start_warns_if_not_all_gateways_have_room(
    shared_stack: Stack,
    connection: Any,
    caplog: pytest.LogCaptureFixture,
    for_each: int,
    warned: list[str],
) -> None:
    """One gateway runs: 200 for each of two are more than there are."""
    caplog.set_level(logging.INFO)
    await connection_budget.check_at_start(connection, for_each)
    assert [record.levelname for record in caplog.records] == warned


async def test_a_start_without_free_connections_is_refused_with_the_figures(
    connection: Any,
) -> None:
    with pytest.raises(TooFewConnections, match=r"others use .* raise max_connections") as refused:
        await connection_budget.check_at_start(connection, 400)
    assert "the server gives clients 297 connections" in refused.value.detail


async def test_a_gateway_that_needs_more_than_is_free_does_not_start(shared_stack: Stack) -> None:
    started = Gateway(
        shared_stack.folder, shared_stack.dsn, shared_stack.simulator, database_pool_size="400"
    )
    try:
        assert await asyncio.to_thread(started.process.wait, 30) != 0
    finally:
        started.kill()
    assert "too few connections to the database to start" in started.logs()


async def test_a_command_shows_the_budget(shared_stack: Stack) -> None:
    environment = {**shared_stack.env, "EASYPAY_GROUPS_IN_FLIGHT": "5"}
    words = ("db", "connections", "--json")
    budget = (await asyncio.to_thread(run_easypay, *words, **environment)).data
    assert (budget["allowed"], budget["for_each"], budget["pooled"]) == (297, 45, False)
    assert budget["gateways"] >= 1
