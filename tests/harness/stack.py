"""A database, a processor, and the gateways that a test starts on them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from easypay import clock
from easypay.db import migrate, partitions
from easypay.db.embedded import Cluster
from easypay.merchants import admin
from easypay.merchants.vault import Vault
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from harness.http import http_client
from harness.processes import ENCRYPTION_KEY, Gateway, Process, Simulator, Worker
from harness.sessions import Sessions, connected
from harness.shop import Shop, random_name
from harness.waiting import until
from recorded.player import Player


class Stack:
    """A database of its own, a simulator or a player of recorded replies, and gateways."""

    def __init__(self, dsn: str, simulator: Simulator | Player, folder: Path) -> None:
        self.dsn = dsn
        self.simulator = simulator
        self.folder = folder
        self.processes: list[Process] = []
        self.sessions = Sessions(dsn)
        self._rests = False

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of a command on this stack's database."""
        return {"EASYPAY_DATABASE_URL": self.dsn, "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY}

    async def gateway(
        self, *, port: int | None = None, dsn: str | None = None, **over: str
    ) -> Gateway:
        """Start a gateway on this stack's database and wait until it is ready. `dsn`: another way
        to reach that database."""
        started = Gateway(self.folder, dsn or self.dsn, self.simulator, port=port, **over)
        self.processes.append(started)
        return await started.ready()

    def worker(self, *, dsn: str | None = None, **over: str) -> Worker:
        """Start a worker on this stack's database. `dsn`: another way to reach it."""
        started = Worker(self.folder, dsn or self.dsn, self.simulator, **over)
        self.processes.append(started)
        return started

    async def shop(
        self,
        gateway: Gateway,
        *,
        mode: str = "test",
        raw_cards: bool = True,
        currencies: tuple[str, ...] = ("USD",),
    ) -> Shop:
        """Create a merchant with a processor login of its own."""
        login = random_name()
        await self.simulator.post(
            "/accounts", login=login, transaction_key="simulated-key-1", currencies=list(currencies)
        )
        async with self.sessions.session() as connection:
            merchant = await admin.create_merchant(
                connection, name=login, allow_raw_cards=raw_cards, currencies=currencies
            )
            _, secret = await admin.create_key(connection, merchant.merchant_id, mode=mode)
            shop = Shop(merchant.merchant_id, secret, login, gateway.url)
            await _set_account(connection, shop, mode, ENCRYPTION_KEY, login_id=login)
        return shop

    async def set_account(
        self,
        shop: Shop,
        *,
        mode: str = "test",
        login: str | None = None,
        transaction_key: str = "simulated-key-1",
        encryption_key: str = ENCRYPTION_KEY,
    ) -> None:
        """Send the shop's payments to this account at the processor from now on."""
        credentials = {"login_id": login or shop.login, "transaction_key": transaction_key}
        async with self.sessions.session() as connection:
            await _set_account(connection, shop, mode, encryption_key, **credentials)

    async def with_key(self, shop: Shop, *, mode: str = "test", **of_key: Any) -> Shop:
        """Return the shop as a client with another key of its merchant."""
        async with self.sessions.session() as connection:
            _, secret = await admin.create_key(connection, shop.merchant_id, mode=mode, **of_key)
        return Shop(shop.merchant_id, secret, shop.login, shop.url)

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a query on this stack's database."""
        async with self.sessions.session() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows

    async def value(self, sql: str, *arguments: object) -> Any:
        """Run a query on this stack's database; return the first column of its only row."""
        (row,) = await self.fetch(sql, *arguments)
        return row[0]

    async def move_clock(self, seconds: float) -> None:
        """Let the database's clock be this far ahead of the host's."""
        await self.fetch(
            "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" PARALLEL SAFE RETURN now() + interval '{seconds} s'"
        )

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Let the simulator refuse every new connection, until the end of the block."""
        limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
        async with http_client(
            base_url=f"{self.simulator.url}/simulator", limits=limits
        ) as control:  # the simulator keeps this connection while it refuses
            fault = (await control.post("/faults", json={"kind": "refuse"})).json()["id"]
            yield
            assert (await control.delete(f"/faults/{fault}")).status_code == 200

    async def charges(self, shop: Shop, count: int = 1) -> None:
        """Wait until the processor has this many transactions of the shop."""

        async def done() -> bool:
            return len(await self.simulator.truth(login=shop.login)) >= count

        await until(done, what=f"the processor has {count} transactions of the shop")

    @property
    def only_gateway(self) -> Gateway:
        """Return the gateway that this stack was started with."""
        (gateway, *_) = self.processes
        assert isinstance(gateway, Gateway)
        return gateway

    def rest(self) -> None:
        """Stop the gateway that this stack was started with, until `wake`."""
        if not self._rests:
            assert self.only_gateway.terminate() == 0, self.only_gateway.logs()
            self._rests = True

    def wake(self) -> None:
        """Start that gateway again if it rests: at the same address, with the same settings."""
        if self._rests:
            self._rests = False
            self.only_gateway.start()
            self.only_gateway.wait()

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all processes that this stack started."""
        for process in self.processes:
            process.kill()
        self.sessions.end()


async def _set_account(
    connection: Any,
    shop: Shop,
    mode: str,
    encryption_key: str,
    *,
    login_id: str,
    transaction_key: str = "simulated-key-1",
) -> None:
    credentials = {"login_id": login_id, "transaction_key": transaction_key}
    vault = Vault(encryption_key)
    await admin.set_processor_account(
        connection, vault, AUTHORIZE_NET, shop.merchant_id, mode, credentials
    )


async def all_known(stack: Stack, shop: Shop, *, within_s: float = 45) -> None:
    """Wait until no operation of the shop is open and nothing but a review waits for an inquiry.

    A process that died while it asked about an account keeps others from that for 18 seconds.
    """
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
    source = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
    async with connected(server_dsn) as connection:
        await connection.execute(f"CREATE DATABASE {name}{source}")
    return with_database(server_dsn, name)


def with_database(dsn: str, name: str) -> str:
    """Return the DSN with the name of another database."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


async def migrated(dsn: str) -> None:
    """Create the whole schema with its monthly partitions."""
    await migrate.migrate(dsn)
    async with connected(dsn) as connection:
        await partitions.ensure(connection, at=clock.now(), months_ahead=3)
