"""A stack whose time is driven, a shop with an account of its own, and a reader of its books."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from easypay import clock
from easypay.db import partitions
from easypay.db.embedded import Cluster
from faults.driven_time import FAST
from harness import Stack, simulating, stack_over

from .reconciled import Reconciled, WholeTime


@pytest.fixture(scope="module")
def clock_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("clock") / "clock"
    file.write_bytes(bytes(8))
    return file


@pytest.fixture(scope="module")
async def driven_stack(
    cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory, clock_file: Path
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("reconciliation")
    async with simulating(folder) as simulator:
        await simulator.post("/settings", auto_settle=False)
        async with stack_over(cluster, template, simulator, folder) as stack:
            async with stack.sessions.session() as connection:
                await partitions.ensure(connection, at=clock.now(), months_ahead=14)
            await stack.gateway(**FAST, clock_file=str(clock_file))
            yield stack


@pytest.fixture(scope="module")
def driven_time(driven_stack: Stack, clock_file: Path) -> WholeTime:
    return WholeTime(driven_stack, clock_file)


@pytest.fixture
async def books(driven_stack: Stack, driven_time: WholeTime) -> AsyncIterator[Reconciled]:
    shop = await driven_stack.shop(driven_stack.only_gateway)
    async with Reconciled.opened(driven_stack, driven_time, shop) as opened:
        yield opened
    await driven_stack.simulator.clear_faults()
    await shop.client.aclose()
