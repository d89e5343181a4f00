"""One PostgreSQL, one simulator and one gateway for the run; for every test, a shop of its own.

Tests marked `over("simulated", "recorded")` run twice: over the simulator, and with a gateway
whose processor is a player of recorded bodies.
"""

import compileall
import gc
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import is_hypothesis_test, settings

from breadth import TIMES, examples
from easypay.db import embedded
from easypay.db.embedded import USER, Cluster
from harness import (
    QUICK,
    QUICKER,
    SHARED,
    Gateway,
    Shop,
    Simulator,
    Stack,
    migrated,
    own_stack,
    simulating,
    stack_over,
    with_database,
)
from json_server import serving
from recorded.player import Player

TEMPLATE = "easypay_template"
HERE = Path(__file__).parent
SOURCES = HERE.parent / "src"
SMALL = {HERE / name for name in ("core", "docs", "processors", "simulator")}
"""Directories of many small files. Those without a database come last, so that all processes end
together."""

# pytest keeps what it has compiled of the tests, also where the machine forbids Python to do so:
# otherwise it takes each process six seconds of every run.
sys.dont_write_bytecode = False

# As in our programs: importing and collecting make many objects and no garbage.
gc.set_threshold(50_000, 20, 100)

# A run is repeatable; `make breadth NEW=1` tries new examples.
EXAMPLES = examples(40, 100)
settings.register_profile(
    "repeatable", max_examples=EXAMPLES, derandomize=True, deadline=None, database=None
)
settings.register_profile("random", max_examples=EXAMPLES, deadline=None)
settings.load_profile(os.environ.get("EASYPAY_HYPOTHESIS", "repeatable"))


def pytest_configure(config: pytest.Config) -> None:
    """Compile the sources once. Some machines forbid Python to keep what it has compiled, and then
    each of the hundreds of processes that tests start would compile all it imports.

    Each process of pytest needs all tests, and what one has compiled the others find. So each
    begins with other directories; `pytest_collection_modifyitems` gives all the same order."""
    worker = getattr(config, "workerinput", None)
    if worker is None:
        compileall.compile_dir(SOURCES, quiet=2, workers=0)
    elif [Path(each).resolve() for each in config.args] == [HERE]:
        files = HERE.rglob("test_*.py")
        folders = sorted(str(HERE / each.relative_to(HERE).parts[0]) for each in files)
        own = int(worker["workerid"][2:]) * len(folders) // worker["workercount"]
        config.args = [*dict.fromkeys(folders[own:] + folders[:own])]


def _side(item: pytest.Item) -> str | None:
    """Return which shared stack the test needs, if any."""
    if "shared_stack" not in getattr(item, "fixturenames", ()):
        return None
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("shared_stack", "simulated") if callspec else "simulated"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files: what has a stack of its own; what shares both stacks, then only one; what
    is small. So the shared gateways run for a part of the time only, and none waits at the end."""
    with_database = set()
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            with_database.add(item.path)
        if side := _side(item):
            _needed[item.path].add(side)
        if is_hypothesis_test(getattr(item, "function", None)):
            item.add_marker(pytest.mark.breadth)
            if TIMES:  # many examples may take long; a marker of the test's own is nearer
                item.add_marker(pytest.mark.timeout(600 * TIMES))

    def turn(item: pytest.Item) -> tuple[int, int, Path]:
        shared = len(_needed[item.path])
        is_small = SMALL & {*item.path.parents} and item.path not in with_database
        return (*((1, -shared) if shared else (2 if is_small else 0, 0)), item.path)

    items.sort(key=turn)


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stop the shared gateways that the next file does not need: an idle one takes a twentieth of
    a core, because tests let it poll often."""
    if nextitem is not None:
        for side, stack in _shared.items():
            if side not in _needed[nextitem.path]:
                stack.rest()


_needed: defaultdict[Path, set[str]] = defaultdict(set)
_shared: dict[str, Stack] = {}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a PostgreSQL for this run, with fsync on as in production."""
    with embedded.running(
        tmp_path_factory.mktemp("postgres"), settings={"max_connections": "300"}
    ) as running:
        yield running


@pytest.fixture(scope="session")
async def template(cluster: Cluster) -> str:
    """Create a migrated database that every stack copies. A session then takes 2 ms of CPU less,
    because a password's 4,096 rounds of hashing become one."""
    connection = await asyncpg.connect(cluster.dsn)
    await connection.execute("SET scram_iterations = 1")
    await connection.execute(f"ALTER ROLE {USER} PASSWORD '{cluster.password}'")
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    await migrated(with_database(cluster.dsn, TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
async def simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    """Run the simulator that all stacks share; each shop has its own login there."""
    async with simulating(tmp_path_factory.mktemp("simulator")) as running:
        yield running


simulated = own_stack("session", **QUICK | SHARED)


@pytest.fixture(scope="session")
async def player() -> AsyncIterator[Player]:
    """Run the processor that plays recorded replies; each shop has its own login there."""
    made = Player()
    async with serving(made.answer) as made.wire:
        yield made


@pytest.fixture(scope="session")
async def recorded(
    cluster: Cluster, template: str, player: Player, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """Run a stack over recorded replies. It is quicker, because no report lags there."""
    folder = tmp_path_factory.mktemp("recorded")
    async with stack_over(cluster, template, player, folder, **QUICKER | SHARED) as stack:
        yield stack


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    sides = metafunc.definition.get_closest_marker("over")
    if sides is not None and "shared_stack" in metafunc.fixturenames:
        metafunc.parametrize("shared_stack", sides.args, indirect=True)


@pytest.fixture
def shared_stack(request: pytest.FixtureRequest) -> Stack:
    """Return the stack for tests that break nothing."""
    side = getattr(request, "param", "simulated")
    stack = request.getfixturevalue(side)
    assert isinstance(stack, Stack)
    _shared[side] = stack
    stack.wake()
    return stack


@pytest.fixture
def gateway(shared_stack: Stack) -> Gateway:
    return shared_stack.only_gateway


@pytest.fixture
async def second_gateway(shared_stack: Stack) -> AsyncIterator[Gateway]:
    """Run another gateway on the shared database, for one test. It resolves unknowns too, so it
    has the schedule of the first."""
    started = await shared_stack.gateway(**QUICK)
    yield started
    started.kill()


@pytest.fixture
async def shop(shared_stack: Stack, gateway: Gateway) -> AsyncIterator[Shop]:
    """Create a merchant for this test on the shared stack; afterwards clear all faults."""
    made = await shared_stack.shop(gateway)
    yield made
    await shared_stack.simulator.clear_faults()
    await made.client.aclose()
    if isinstance(shared_stack.simulator, Player):
        assert shared_stack.simulator.broken_rules(made.login) == []


@pytest.fixture
async def stack(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path: Path
) -> AsyncIterator[Stack]:
    """Create a stack for a test that kills or breaks things; the test starts the gateways."""
    async with stack_over(cluster, template, simulator, tmp_path) as made:
        yield made
    await simulator.clear_faults()
