"""Fixtures: a real simulator process, and a separate merchant for every test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.durable import Durable
from simulator.merchant_client import Merchant, Process
from simulator.subscriber import Subscriber
from simulator.webhook_receiver import SIGNATURE_KEY, Receiver, Rest


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The process that tests share, each with its own merchant."""
    process = Process(tmp_path_factory.mktemp("simulator") / "log", "--seed", "1")
    yield process
    process.terminate()


@pytest.fixture
def shop(shared: Process) -> Iterator[Merchant]:
    merchant = shared.merchant()
    yield merchant
    shared.control("/faults", method="DELETE")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start separate processes, for tests that need several, or a seed."""
    started: list[Process] = []

    def begin(*arguments: str | Path) -> Process:
        log = tmp_path / f"simulator-{len(started)}.log"
        started.append(Process(log, *map(str, arguments)))
        return started[-1]

    yield begin
    for process in started:
        process.terminate()


@pytest.fixture
def process(start: Callable[..., Process]) -> Process:
    """A process of the test's own, whose clock it may set."""
    return start("--seed", "1")


@pytest.fixture
def durable(start: Callable[..., Process], tmp_path: Path) -> Durable:
    return Durable(start, tmp_path / "state.jsonl")


@pytest.fixture
def subscriber(process: Process) -> Subscriber:
    return Subscriber(process)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server that receives webhook notifications."""
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def rest(shop: Merchant) -> Iterator[Rest]:
    """The shop's webhooks API; its webhooks are deleted after the test."""
    account = {"login": shop.login, "transaction_key": "key-of-the-shop"}
    shop.process.control("/accounts", account | {"signature_key": SIGNATURE_KEY})
    rest = Rest(shop)
    yield rest
    for webhook in rest.ask("GET", "webhooks"):
        rest.ask("DELETE", f"webhooks/{webhook['webhookId']}")
