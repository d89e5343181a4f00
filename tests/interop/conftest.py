"""A simulator of the suite's own, and each client's scenarios run once against it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from interop import environments
from interop.environments import NODE_SDK, PY_AUTHORIZE, PYTHON_SDK, Client
from simulator.merchant_client import Merchant, Process

SDKS = (PYTHON_SDK, NODE_SDK)
CLIENTS = (*SDKS, PY_AUTHORIZE)
EVERYBODY = (
    "sale", "capture", "partial_capture", "void", "refunds", "decline", "duplicate", "held",
    "echeck", "customers", "subscriptions", "reporting", "credentials",
)  # fmt: skip
ONLY_SDKS = ("nonce", "profile_of_a_sale", "hosted_page")
RUN_TIMEOUT_S = 60


@dataclass(frozen=True)
class Run:
    """What one client learnt in its scenarios, and what the simulator knows to be true."""

    client: Client
    learnt: dict[str, dict[str, Any]] = field(repr=False)
    merchants: dict[str, Merchant] = field(repr=False)

    def facts(self, scenario: str) -> dict[str, Any]:
        facts = self.learnt[scenario]
        assert "failed" not in facts, f"{self.client.name}, {scenario}:\n{facts['failed']}"
        return facts

    def truth(self, scenario: str) -> list[dict[str, Any]]:
        """The simulator's rows of this scenario's account, oldest first."""
        return self.merchants[scenario].truth()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of each client waits for its installation, on a machine without it."""
    for item in items:
        if "interop" in item.path.parts:
            item.add_marker(pytest.mark.timeout(environments.INSTALL_TIMEOUT_S + RUN_TIMEOUT_S))


@pytest.fixture(scope="session")
def target() -> Iterator[Process]:
    """Settling is for all accounts at once, so this suite has a simulator that nobody shares."""
    process = Process("--seed", "1")
    yield process
    process.stop()


@pytest.fixture(scope="session")
def runs(target: Process, request: pytest.FixtureRequest) -> Callable[[Client], Run]:
    """A client's run, done when it is first asked for. Skips where the client cannot run. What
    went wrong is told to each test that asks, and not tried again: an installation that cannot
    reach its index takes minutes to say so."""
    done: dict[str, Run | Exception] = {}
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", flush=True)

    def run(client: Client) -> Run:
        if client.name not in done:
            try:
                done[client.name] = _drive(client, target, say)
            except (
                environments.Unavailable,
                RuntimeError,
                OSError,
                subprocess.SubprocessError,
            ) as error:
                done[client.name] = error
        found = done[client.name]
        if isinstance(found, environments.Unavailable):
            pytest.skip(str(found))
        if isinstance(found, Exception):
            raise found
        return found

    return run


@pytest.fixture(params=CLIENTS, ids=lambda client: client.folder)
def client(request: pytest.FixtureRequest, runs: Callable[[Client], Run]) -> Run:
    """The run of each client in turn."""
    return runs(request.param)


@pytest.fixture(params=SDKS, ids=lambda client: client.folder)
def sdk(request: pytest.FixtureRequest, runs: Callable[[Client], Run]) -> Run:
    """The run of each official SDK: they have calls that Py-Authorize lacks."""
    return runs(request.param)


@pytest.fixture
def py_authorize(runs: Callable[[Client], Run]) -> Run:
    return runs(PY_AUTHORIZE)


def _drive(client: Client, target: Process, say: Callable[[str], None]) -> Run:
    """All scenarios in one process of the client's, each with an account of its own."""
    environment = environments.ready(client, say)
    scenarios = EVERYBODY + (ONLY_SDKS if client in SDKS else ())
    merchants = {scenario: target.merchant() for scenario in scenarios}
    if client is PY_AUTHORIZE:  # its own tests compare with what the sandbox told in 2014
        for merchant in merchants.values():
            merchant.settings(payment_kind_told=False)
    orders = {
        "url": target.url,
        "accounts": {name: merchant.credentials for name, merchant in merchants.items()},
    }
    done = subprocess.run(
        client.command(client, environment),
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{client.name}:\n{done.stderr[-4000:]}"
    return Run(client, json.loads(done.stdout), merchants)
