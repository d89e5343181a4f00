"""Which address a request goes to: a dead one costs a moment, a changed one is picked up, and what
was sent is never sent again elsewhere. Against servers on several addresses and a DNS server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import trustme

from dns_server import DnsServer, Records, dns_serving
from easypay import clock
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.base import NotSent, Unknown
from easypay.processors.host_names import HostNames
from harness.waiting import counted

from .outcomes import expect
from .scripted_server import (
    ANSWER,
    BODY,
    CA,
    Act,
    Peer,
    Server,
    after_request,
    http,
    keep_answering,
    on_each_loop,
    trusting,
    within,
)

NAME = "pay.example"
SIX, FOUR, OTHER_FOUR = "::1", "127.0.0.1", "127.0.0.2"
OK = Reply(200, ANSWER)


class World:
    """A DNS server, servers on loopback addresses with one port, and clients."""

    def __init__(self, dns: DnsServer, stack: contextlib.AsyncExitStack) -> None:
        self.dns = dns
        self.port = 0
        self._stack = stack

    async def serve(
        self, address: str, act: Act = keep_answering, *, tls: bool = False, identity: str = NAME
    ) -> Server:
        server = Server(act, tls, identity)
        await server.listen(self._bound(address))
        self._stack.callback(server.server.close)
        return server

    def stuck(self, address: str) -> None:
        """Let an address accept nothing and refuse nothing, as behind a firewall that drops."""
        listener = self._bound(address)
        listener.listen(0)
        first = socket.create_connection((address, self.port))  # fills the queue
        self._stack.callback(first.close)
        self._stack.callback(listener.close)

    def client(self, **options: Any) -> HttpClient:
        names = HostNames(resolver=self.dns.address, stale_s=options.pop("stale_s", 600.0))
        client = HttpClient(**{"ssl_context": trusting(), "names": names, **options})
        self._stack.push_async_callback(client.close)
        return client

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://{NAME}:{self.port}/xml/v1/request.api"

    def _bound(self, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, self.port))
        self.port = sock.getsockname()[1]
        return sock


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with dns_serving() as dns, contextlib.AsyncExitStack() as stack:
        yield World(dns, stack)


async def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@on_each_loop
async def test_a_dead_family_costs_a_moment_once() -> None:
    async with world() as here:
        here.stuck(SIX)
        server = await here.serve(FOUR)
        here.dns.set(NAME, Records((FOUR,)), Records((SIX,)))
        client = here.client()

        for most_s in (0.6, 0.2):  # then the dead one is tried last
            async with counted() as watch:
                assert await client.post(here.url(), BODY, within(3)) == OK
            assert watch.seconds < most_s
            for connection in tuple(client._connections):
                connection.discard()
        assert server.connections == 2


@on_each_loop
async def test_a_refusal_leads_to_the_next_address_at_once() -> None:
    async with world() as here:
        server = await here.serve(OTHER_FOUR)
        here.dns.set(NAME, Records((OTHER_FOUR,)), Records((SIX,)))
        async with counted() as watch:
            assert await here.client().post(here.url(), BODY, within(3)) == OK
        assert watch.seconds < 0.2
        assert len(server.requests) == 1


@on_each_loop
async def test_an_address_that_breaks_tls_is_followed_by_the_next_one() -> None:
    async def hang_up(peer: Peer) -> None:
        peer.reset()

    async with world() as here:
        broken = await here.serve(SIX, hang_up)
        server = await here.serve(FOUR, tls=True)
        here.dns.set(NAME, Records((FOUR,)), Records((SIX,)))
        assert await here.client().post(here.url("https"), BODY, within(3)) == OK
        assert broken.connections == 1
        assert len(server.requests) == 1


@on_each_loop
async def test_what_was_sent_is_never_sent_again_to_another_address() -> None:
    async with world() as here:
        first = await here.serve(SIX, after_request(b"", "reset"))
        second = await here.serve(FOUR)
        here.dns.set(NAME, Records((FOUR,)), Records((SIX,)))
        expect(Unknown, await here.client().post(here.url(), BODY, within(3)))
        assert len(first.requests) == 1
        assert second.requests == []


@on_each_loop
async def test_the_certificate_must_be_for_the_name_and_not_for_the_address() -> None:
    async with world() as here:
        server = await here.serve(FOUR, tls=True, identity=FOUR)
        here.dns.set(NAME, Records((FOUR,)))
        client = here.client()
        outcome = expect(NotSent, await client.post(here.url("https"), BODY, within(2)))
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
        assert server.requests == []
        assert client.figures().failed == 1
        CA.issue_cert(NAME).configure_cert(server.context)
        assert await client.post(here.url("https"), BODY, within(2)) == OK


@on_each_loop
async def test_a_stranger_at_the_right_address_gets_nothing() -> None:
    """Whoever can give false answers to DNS has no certificate that we trust."""
    async with world() as here:
        stranger = await here.serve(FOUR, tls=True)
        trustme.CA().issue_cert(NAME).configure_cert(stranger.context)
        here.dns.set(NAME, Records((FOUR,)))
        expect(NotSent, await here.client().post(here.url("https"), BODY, within(2)))
        assert stranger.requests == []


@on_each_loop
async def test_a_changed_address_is_picked_up_while_requests_go_on() -> None:
    async with world() as here:
        old, new = await here.serve(FOUR, tls=True), await here.serve(OTHER_FOUR, tls=True)
        here.dns.set(NAME, Records((FOUR,), ttl=0))
        client = here.client(check_every_s=0.05, connections=4)
        outcomes: list[object] = []
        moved = asyncio.Event()

        async def shop() -> None:
            while not (moved.is_set() and len(new.requests) > 20):
                outcomes.append(await client.post(here.url("https"), BODY, within(5)))
                await asyncio.sleep(0)

        shops = [asyncio.create_task(shop()) for _ in range(4)]
        await until(lambda: len(old.requests) > 20)
        here.dns.set(NAME, Records((OTHER_FOUR,), ttl=0))
        await until(lambda: old.open == 0)
        moved.set()
        await asyncio.gather(*shops)
        assert set(outcomes) == {OK}
        assert len(old.requests) + len(new.requests) == len(outcomes), "each was sent once"
        figures = client.figures()
        assert figures.replaced == old.connections == 4
        assert figures.certificate_ends is not None
        assert figures.certificate_ends > clock.now().timestamp(), "the metrics show when it ends"
        assert figures.opened <= 10, "requests hardly ever had to wait for a connection"
        assert client._open <= 4


@on_each_loop
async def test_the_old_connection_stays_while_the_new_address_is_dead() -> None:
    async with world() as here:
        old = await here.serve(FOUR)
        here.stuck(OTHER_FOUR)
        here.dns.set(NAME, Records((FOUR,), ttl=0))
        client = here.client(check_every_s=0.05, connect_timeout_s=0.1)
        assert await client.post(here.url(), BODY, within(2)) == OK
        here.dns.set(NAME, Records((OTHER_FOUR,), ttl=0))
        await until(lambda: client.figures().failed > 0)
        assert await client.post(here.url(), BODY, within(2)) == OK
        assert len(old.requests) == 2
        assert old.connections == 1


@on_each_loop
async def test_an_old_connection_is_replaced_before_it_is_needed() -> None:
    async with world() as here:
        server = await here.serve(FOUR)
        here.dns.set(NAME, Records((FOUR,), ttl=86_400))
        client = here.client(check_every_s=0.05, age_s=0.2, connections=1)
        assert await client.post(here.url(), BODY, within(2)) == OK
        await until(lambda: client.figures().replaced > 0)
        opened = client.figures().opened
        assert await client.post(here.url(), BODY, within(2)) == OK
        assert client.figures().opened - opened <= 1
        assert client._open <= 1
        assert here.dns.asked == [f"AAAA {NAME}", f"A {NAME}"], "its time to live is a day"
        assert server.connections == client.figures().opened


@on_each_loop
async def test_a_connection_that_nobody_needs_is_closed_although_it_is_replaced() -> None:
    async with world() as here:
        await here.serve(FOUR)
        here.dns.set(NAME, Records((FOUR,)))
        client = here.client(check_every_s=0.02, age_s=0.02, idle_s=0.3)
        posts = [client.post(here.url(), BODY, within(2)) for _ in range(5)]
        assert await asyncio.gather(*posts) == [OK] * 5
        await until(lambda: client._open == 0)
        assert client.figures().replaced > 0
        opened = client.figures().opened
        await asyncio.sleep(0.05)
        assert client.figures().opened == opened, "nobody looks after a host without connections"


@on_each_loop
async def test_addresses_beyond_the_dead_ones_are_reached_by_the_next_request() -> None:
    async with world() as here:
        dead = tuple(f"127.0.1.{number}" for number in range(1, 4))
        server = await here.serve(FOUR)
        for address in dead:
            here.stuck(address)
        here.dns.set(NAME, Records((*dead, FOUR)))
        client = here.client(connect_timeout_s=0.3)
        for _ in range(10):
            if await client.post(here.url(), BODY, within(3)) == OK:
                break
        assert len(server.requests) == 1


@on_each_loop
async def test_a_connection_that_is_in_use_when_it_is_replaced_gets_its_reply_first() -> None:
    release = asyncio.Event()

    async def answer_when_released(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(http())
        await peer.gone()

    async with world() as here:
        old, new = await here.serve(FOUR, answer_when_released), await here.serve(OTHER_FOUR)
        here.dns.set(NAME, Records((FOUR,), ttl=0))
        client = here.client(check_every_s=0.05)
        call = asyncio.create_task(client.post(here.url(), BODY, within(5)))
        await old.asked.wait()
        here.dns.set(NAME, Records((OTHER_FOUR,), ttl=0))
        await until(lambda: new.connections == 1)
        release.set()
        assert await call == OK
        await asyncio.wait_for(old.closed_by_client.wait(), 30)
        assert await client.post(here.url(), BODY, within(5)) == OK
        assert len(new.requests) == 1
        assert client._open == 1


@on_each_loop
async def test_addresses_that_keep_changing_open_one_connection_beyond_the_limit() -> None:
    """Although every request is slow, so that each connection is in use when it is replaced."""
    release = asyncio.Event()

    async def answer_when_released(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(http())

    async with world() as here:
        for address in (FOUR, OTHER_FOUR):
            await here.serve(address, answer_when_released)
        client = here.client(check_every_s=0.02, connections=2)
        calls, most = [], 0
        for turn in range(8):
            here.dns.set(NAME, Records(((FOUR, OTHER_FOUR)[turn % 2],), ttl=0))
            calls += [asyncio.create_task(client.post(here.url(), BODY, within(5))) for _ in "12"]
            for _ in range(5):
                await asyncio.sleep(0.02)
                most = max(most, client._open)
        assert most == 3
        release.set()
        outcomes = await asyncio.gather(*calls)
        assert outcomes.count(OK) >= 3, "what was sent is answered on its connection"
        assert client.figures().replaced > 0
        await until(lambda: client._open <= 2)


@on_each_loop
async def test_without_a_resolver_connections_and_old_addresses_go_on() -> None:
    async with world() as here:
        server = await here.serve(FOUR)
        here.dns.set(NAME, Records((FOUR,), ttl=0))
        client = here.client(check_every_s=0.05)
        assert await client.post(here.url(), BODY, within(2)) == OK
        here.dns.set(NAME, Records(way="servfail"), Records(way="servfail"))
        await until(lambda: client.figures().lookups["failed"] > 0)
        assert await client.post(here.url(), BODY, within(2)) == OK
        assert server.connections == 1
        for connection in tuple(client._connections):
            connection.discard()
        assert await client.post(here.url(), BODY, within(2)) == OK
        assert client.figures().stale > 0


@on_each_loop
async def test_the_figures_count_reuses_and_forget_nothing_when_connections_close() -> None:
    async with world() as here:
        await here.serve(FOUR)
        here.dns.set(NAME, Records((FOUR,)))
        client = here.client()
        for _ in range(2):
            for _ in range(5):
                assert await client.post(here.url(), BODY, within(2)) == OK
            figures = client.figures()
            assert (figures.idle, figures.used) == (1, 0)
            assert 0 < figures.oldest_s < 5
            for connection in tuple(client._connections):
                connection.discard()
        figures = client.figures()
        assert (figures.opened, figures.reused, figures.idle, figures.used) == (2, 8, 0, 0)
        assert figures.lookups == {"found": 1, "absent": 1}
