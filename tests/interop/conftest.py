"""The suite's own simulator, a process for each client, and a new shop for each test."""

from collections.abc import Callable, Iterator

import pytest

from interop import environments
from interop.environments import NODE_SDK, PY_AUTHORIZE, PYTHON_SDK, Client
from interop.py_authorize_shop import PyAuthorizeShop
from interop.sdk_shop import SdkShop
from interop.shop import ClientProcess
from simulator.merchant_client import Process

SDKS = (PYTHON_SDK, NODE_SDK)
CLIENTS = (*SDKS, PY_AUTHORIZE)
RUN_TIMEOUT_S = 60


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test of each client time to install the client."""
    for item in items:
        if "interop" in item.path.parts:
            item.add_marker(pytest.mark.timeout(environments.INSTALL_TIMEOUT_S + RUN_TIMEOUT_S))


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Start a simulator for this suite alone, because settling affects all accounts."""
    process = Process(tmp_path_factory.mktemp("simulator") / "log", "--seed", "1")
    yield process
    process.terminate()


@pytest.fixture(scope="session")
def processes(request: pytest.FixtureRequest) -> Iterator[Callable[[Client], ClientProcess]]:
    """Return a client's process, started on first use. Skips if the client cannot run. A failure is
    remembered and raised in each test, because an installation without network takes minutes to
    fail."""
    started: dict[str, ClientProcess | Exception] = {}
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", flush=True)

    def start(client: Client) -> ClientProcess | Exception:
        try:
            environment = environments.ready(client, say)
            return ClientProcess(client.name, client.command(client, environment))
        except environments.FAILURES as error:
            return error

    def process(client: Client) -> ClientProcess:
        if client.name not in started:
            started[client.name] = start(client)
        found = started[client.name]
        if isinstance(found, environments.Unavailable):
            pytest.skip(str(found))
        if isinstance(found, Exception):
            raise found
        return found

    yield process
    for each in started.values():
        if isinstance(each, ClientProcess):
            each.stop()


@pytest.fixture(params=CLIENTS, ids=lambda client: client.folder)
def shop(
    request: pytest.FixtureRequest, processes: Callable[[Client], ClientProcess], target: Process
) -> SdkShop | PyAuthorizeShop:
    """A new merchant, once with each client."""
    kind = PyAuthorizeShop if request.param is PY_AUTHORIZE else SdkShop
    return kind(processes(request.param), target.merchant())


@pytest.fixture(params=SDKS, ids=lambda client: client.folder)
def sdk(
    request: pytest.FixtureRequest, processes: Callable[[Client], ClientProcess], target: Process
) -> SdkShop:
    """A new merchant, once with each official SDK: they have calls that Py-Authorize lacks."""
    return SdkShop(processes(request.param), target.merchant())


@pytest.fixture
def py_authorize(processes: Callable[[Client], ClientProcess], target: Process) -> PyAuthorizeShop:
    return PyAuthorizeShop(processes(PY_AUTHORIZE), target.merchant())
