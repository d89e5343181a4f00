"""A database, a processor, and the gateways that a test starts on them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from easypay import clock
from easypay.db import migrate, partitions
from easypay.db.embedded import Cluster
from easypay.merchants import admin
from easypay.merchants.vault import Vault
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from harness.processes import ENCRYPTION_KEY, Gateway, Process, Simulator
from harness.shop import Shop
from harness.waiting import until
from recorded.player import Player


class Stack:
    """A database of its own, a simulator or a player of recorded replies, and gateways."""

    def __init__(self, dsn: str, simulator: Simulator | Player, folder: Path) -> None:
        self.dsn = dsn
        self.simulator = simulator
        self.folder = folder
        self.processes: list[Process] = []

    async def gateway(
        self, *, port: int | None = None, dsn: str | None = None, **over: str
    ) -> Gateway:
        """Start a gateway on this stack's database and wait until it is ready. `dsn`: another way
        to reach that database."""
        started = Gateway(self.folder, dsn or self.dsn, self.simulator, port=port, **over)
        self.processes.append(started)
        return await started.ready()

    async def shop(
        self,
        gateway: Gateway,
        *,
        mode: str = "test",
        raw_cards: bool = True,
        currencies: tuple[str, ...] = ("USD",),
    ) -> Shop:
        """Create a merchant with a processor login of its own."""
        login = f"t{uuid.uuid4().hex[:16]}"
        await self.simulator.post(
            "/accounts", login=login, transaction_key="simulated-key-1", currencies=list(currencies)
        )
        connection = await asyncpg.connect(self.dsn)
        try:
            merchant = await admin.create_merchant(
                connection, name=login, allow_raw_cards=raw_cards, currencies=currencies
            )
            credentials = {"login_id": login, "transaction_key": "simulated-key-1"}
            await admin.set_processor_account(
                connection,
                Vault(ENCRYPTION_KEY),
                AUTHORIZE_NET,
                merchant.merchant_id,
                mode,
                credentials,
            )
            _, secret = await admin.create_key(connection, merchant.merchant_id, mode=mode)
        finally:
            await connection.close()
        return Shop(merchant.merchant_id, secret, login, gateway.url)

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a query on this stack's database."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    @property
    def only_gateway(self) -> Gateway:
        """Return the gateway that this stack was started with."""
        (gateway, *_) = self.processes
        assert isinstance(gateway, Gateway)
        return gateway

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all processes that this stack started."""
        for process in self.processes:
            process.kill()


async def all_known(stack: Stack, shop: Shop, *, within_s: float = 15) -> None:
    """Wait until no operation of the shop is open and nothing but a review waits for an inquiry."""
    left: list[asyncpg.Record] = []

    async def known() -> bool:
        left[:] = await stack.fetch(
            "SELECT o.id, o.kind, o.state, o.begun_at, u.* FROM operations o"
            "  LEFT JOIN unresolved_operations u"
            "         ON u.merchant_id = o.merchant_id AND u.operation_id = o.id"
            " WHERE o.merchant_id = $1"
            "   AND (o.state IN ('in_flight', 'unknown', 'not_sent') OR NOT u.held)",
            shop.merchant_id,
        )
        return not left

    await until(known, within_s=within_s, what=("open operations", left))


@asynccontextmanager
async def stack_over(
    cluster: Cluster, template: str, processor: Simulator | Player, folder: Path, **settings: str
) -> AsyncIterator[Stack]:
    """Yield a stack on a new database, with a gateway if settings are given. Its processes end with
    the block."""
    dsn = await new_database(cluster.dsn, template)
    with Stack(dsn, processor, folder) as stack:
        if settings:
            await stack.gateway(**settings)
        yield stack


def own_stack(scope: Any = "module", **settings: str) -> Any:
    """Return a fixture: a stack of the test file's own over the simulator, with one gateway."""

    @pytest.fixture(scope=scope)
    async def stack(
        cluster: Cluster,
        template: str,
        simulator: Simulator,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> AsyncIterator[Stack]:
        folder = tmp_path_factory.mktemp("stack")
        async with stack_over(cluster, template, simulator, folder, **settings) as stack:
            yield stack
        await simulator.clear_faults()

    return stack


async def new_database(server_dsn: str, template: str | None) -> str:
    """Create a database on the server, as a copy of the template or empty. Return its DSN."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    connection = await asyncpg.connect(server_dsn)
    try:
        source = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        await connection.execute(f"CREATE DATABASE {name}{source}")
    finally:
        await connection.close()
    return with_database(server_dsn, name)


def with_database(dsn: str, name: str) -> str:
    """Return the DSN with the name of another database."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def migrated(dsn: str) -> None:
    """Create the whole schema with its monthly partitions."""
    await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await partitions.ensure(connection, at=clock.now(), months_ahead=3)
    finally:
        await connection.close()
