"""A simulator for these tests alone, because they change its clock and settings."""

import itertools
from collections.abc import AsyncIterator

import pytest

from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import Account
from harness import Simulator, simulating

from .example_requests import authorize_net_account, login_of

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    async with simulating(tmp_path_factory.mktemp("wire")) as running:
        yield running


@pytest.fixture
async def account(wire: Simulator) -> Account:
    """A merchant account that no other test uses."""
    account = authorize_net_account(wire.wire, f"wire-{next(_NUMBERS)}", "wire-key-1")
    await wire.post("/accounts", login=login_of(account), transaction_key="wire-key-1")
    return account


@pytest.fixture
async def processor() -> AsyncIterator[AuthorizeNet]:
    processor = AuthorizeNet()
    yield processor
    await processor.close()
