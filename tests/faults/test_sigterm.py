"""A deploy under load: every accepted request gets a response, and no outcome stays unknown."""

import asyncio
import json
import socket
import uuid
from collections import Counter

from easypay.server.serve import listen
from harness import QUICK, Gateway, Shop, Stack, audit, card, until
from raw import Line, post

CLIENTS = 100
SALE = json.dumps({"amount": 2500, "currency": "USD", "payment_method": card()}).encode()
ORDINARY = {name: value for name, value in QUICK.items() if name != "processor_deadline_s"}


def worker(stack: Stack, bound: socket.socket) -> Gateway:
    """Start a gateway on a listening socket that its supervisor holds."""
    started = Gateway(stack.folder, stack.dsn, stack.simulator, bound=bound, **ORDINARY)
    stack.processes.append(started)
    return started


class PayingClients:
    """Clients on keep-alive connections that pay without a pause, until refused or stopped.

    They speak bare HTTP. All live in one process, and a stop waits only a second for the first
    request of a new connection: with httpx, a turn of all the clients takes a second of CPU on a
    busy machine.
    """

    def __init__(self, shop: Shop, gateway: Gateway) -> None:
        self.shop = shop
        self.port = gateway.port
        self.stop = False
        self.met: Counter[str] = Counter()
        self.answers: dict[str, int] = {}
        """The status that each key was answered with."""
        self.refused = 0
        self._clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]

    async def _client(self) -> None:
        """Only a connection that was never made is a refusal; every other error is a loss."""
        while not self.stop:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.refused += 1
                return
            try:
                await self._pay(Line(reader, writer))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.met[f"{type(error).__name__}: {error}"] += 1
                return
            finally:
                writer.close()

    async def _pay(self, line: Line) -> None:
        """Pay until the gateway says that it closes the connection, or until stopped."""
        is_open = True
        while is_open and not self.stop:
            key = str(uuid.uuid4())
            line.writer.write(post("/payments", self.shop.secret, SALE, key=key))
            status, headers, _ = await line.answer()
            self.answers[key] = int(status.split()[1])
            self.met[str(self.answers[key])] += 1
            is_open = headers.get(b"connection") != b"close"

    async def reaches(self, count: int) -> None:
        """Wait until this many more requests are answered."""
        goal = len(self.answers) + count

        async def enough() -> bool:
            return len(self.answers) >= goal

        await until(enough, within_s=30, what=f"{count} more answers, met: {self.met}")

    async def ends(self) -> None:
        await asyncio.gather(*self._clients)


async def slow_shop(stack: Stack, gateway: Gateway) -> Shop:
    """Return a shop whose processor takes 100 to 200 ms."""
    shop = await stack.shop(gateway)
    for distribution, ms in (("constant", 100), ("uniform", 100)):
        await stack.simulator.post(
            "/faults", kind="latency", distribution=distribution, ms=ms, login=shop.login
        )
    return shop


async def assert_every_answer_stands(stack: Stack, shop: Shop, clients: PayingClients) -> None:
    """Each answered request was done once, no other was begun, and no operation is open."""
    assert set(clients.met) == {"201"}, clients.met
    assert len(await stack.simulator.truth(login=shop.login)) == len(clients.answers)
    keys = await stack.fetch(
        "SELECT key FROM idempotency_keys WHERE merchant_id = $1", shop.merchant_id
    )
    assert {row["key"] for row in keys} == set(clients.answers)
    unknown = await stack.fetch("SELECT 1 FROM unresolved_operations")
    assert unknown == []
    assert await audit(stack, shop) == []


async def test_sigterm_with_a_hundred_charges_in_flight_loses_none(stack: Stack) -> None:
    gateway = await stack.gateway(**ORDINARY)
    shop = await slow_shop(stack, gateway)
    clients = PayingClients(shop, gateway)
    await clients.reaches(CLIENTS)
    code = await asyncio.to_thread(gateway.terminate)
    await clients.ends()

    assert code == 0
    assert clients.refused == CLIENTS, "in the end each client was refused a connection"
    await assert_every_answer_stands(stack, shop, clients)


async def test_replacing_workers_one_by_one_refuses_no_client(stack: Stack) -> None:
    """The supervisor holds the socket, so it stays open while workers come and go."""
    with listen("127.0.0.1", 0) as bound:
        first, second = worker(stack, bound), worker(stack, bound)
        await first.ready()
        shop = await slow_shop(stack, first)
        clients = PayingClients(shop, first)
        for leaving in (first, second):
            await clients.reaches(CLIENTS)
            worker(stack, bound)
            assert await asyncio.to_thread(leaving.terminate) == 0
        await clients.reaches(2 * CLIENTS)
        clients.stop = True
        await clients.ends()
        assert clients.refused == 0
        await assert_every_answer_stands(stack, shop, clients)


async def test_a_payment_in_flight_is_recorded_although_its_client_left(stack: Stack) -> None:
    """The client has left, and the shutdown grace ends before the processor replies."""
    gateway = await stack.gateway(**ORDINARY, shutdown_grace_s="0.1")
    shop = await stack.shop(gateway)
    await stack.simulator.slow(shop.login, ms=1500)
    hasty = asyncio.create_task(shop.pay())
    patient = asyncio.create_task(shop.pay())

    await stack.charges(shop, 2)
    hasty.cancel()
    assert await asyncio.to_thread(gateway.terminate) == 0
    assert (await patient).status_code == 201
    rows = await stack.fetch(
        "SELECT state FROM operations WHERE merchant_id = $1", shop.merchant_id
    )
    assert [row["state"] for row in rows] == ["approved", "approved"]
    assert await audit(stack, shop) == []
