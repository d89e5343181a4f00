"""Fixtures for a stack whose time is driven."""

from collections.abc import AsyncIterator

import pytest

from easypay.db.embedded import Cluster
from faults.driven_shop import DrivenShop
from faults.driven_time import FAST, DrivenTime
from harness import Stack, simulating, stack_over


@pytest.fixture(scope="module")
async def driven_stack(
    cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """Yield a stack with a simulator of its own, whose clock may be moved."""
    folder = tmp_path_factory.mktemp("absence")
    async with simulating(folder) as simulator:
        await simulator.post("/settings", auto_settle=False)
        async with stack_over(cluster, template, simulator, folder, **FAST) as stack:
            yield stack


@pytest.fixture(scope="module")
def driven_time(driven_stack: Stack) -> DrivenTime:
    return DrivenTime(driven_stack)


@pytest.fixture
async def case(driven_stack: Stack, driven_time: DrivenTime) -> AsyncIterator[DrivenShop]:
    """Create a merchant for this test; afterwards clear its faults."""
    shop = await driven_stack.shop(driven_stack.only_gateway)
    yield DrivenShop(driven_stack, driven_time, shop)
    await driven_stack.simulator.clear_faults()
    await shop.client.aclose()
