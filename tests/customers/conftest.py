"""A shop whose key may do everything, and a worker, over the stack of the test file."""

from collections.abc import AsyncIterator

import pytest

from customers.shops import EVERYTHING, OF_CALLS
from harness import Shop, Stack


@pytest.fixture(scope="module")
async def worker(stack: Stack) -> AsyncIterator[None]:
    """Run a worker, which ends what a request did not."""
    started = stack.worker(**OF_CALLS)
    await started.logged("working on")
    yield
    assert started.terminate() == 0, started.logs()


@pytest.fixture
async def keeper(stack: Stack) -> AsyncIterator[Shop]:
    """Return a new shop with a key that may do everything."""
    shop = await stack.shop(stack.only_gateway)
    made = await stack.with_key(shop, scopes=EVERYTHING)
    yield made
    await stack.simulator.clear_faults()
    for each in (shop, made):
        await each.client.aclose()
