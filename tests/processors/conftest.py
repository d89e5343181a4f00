"""A simulator of these tests' own, so that its clock and settings disturb nobody else."""

import asyncio
import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import Account

from .example_requests import authorize_net_account

_NUMBERS = itertools.count(1)


class Wire:
    """The simulator, and the control surface that says what it really did."""

    def __init__(self, base: str) -> None:
        self.base = base

    async def call(self, method: str, path: str, body: object = None) -> Any:
        def now() -> Any:
            request = urllib.request.Request(
                f"{self.base}/simulator{path}",
                data=None if body is None else json.dumps(body).encode(),
                method=method,
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.loads(response.read() or b"null")

        return await asyncio.to_thread(now)

    async def fault(self, kind: str, account: Account, **fields: object) -> None:
        body = {"kind": kind, "login": account.credentials["login_id"], "count": 1, **fields}
        await self.call("POST", "/faults", body)

    async def truth(self, account: Account) -> list[dict[str, Any]]:
        rows = await self.call(
            "GET", f"/transactions?login={account.credentials['login_id']}&limit=1000"
        )
        assert isinstance(rows, list)
        return rows


@pytest.fixture(scope="session")
def wire() -> Iterator[Wire]:
    process = subprocess.Popen(
        [sys.executable, "-m", "authorizenet_simulator", "--port", "0", "--seed", "7"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield Wire(line.removeprefix("listening on ").strip())
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def account(wire: Wire) -> Account:
    """A merchant account that no other test uses."""
    account = authorize_net_account(
        f"{wire.base}/xml/v1/request.api", f"wire-{next(_NUMBERS)}", "wire-key-1"
    )
    body = {
        "login": account.credentials["login_id"],
        "transaction_key": account.credentials["transaction_key"],
    }
    await wire.call("POST", "/accounts", body)
    return account


@pytest.fixture
async def processor() -> AsyncIterator[AuthorizeNet]:
    processor = AuthorizeNet()
    yield processor
    await processor.close()
