"""An HTTP server that plays what a test says on each connection, and a client that trusts it."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import cache
from inspect import Parameter, Signature, signature
from time import monotonic
from typing import Any

import pytest
import trustme
import uvloop

from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.base import Deadline

CA = trustme.CA()
BODY = b'{"createTransactionRequest":{"refId":"1"}}'
ANSWER = b'\xef\xbb\xbf{"refId":"1"}'


def http(body: bytes = ANSWER, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        self.server.requests.append(head + body)
        self.server.asked.set()
        return body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.server.closed_by_client.set()

    def reset(self) -> None:
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Act = Callable[[Peer], Awaitable[None]]


class Server:
    """Plays one act on every connection and counts the requests."""

    def __init__(self, act: Act, tls: bool, identity: str = "localhost") -> None:
        self.act = act
        self.tls = tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = self.most_open = 0
        self.asked = asyncio.Event()
        self.closed_by_client = asyncio.Event()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            CA.issue_cert(identity).configure_cert(self.context)

    async def listen(self, sock: socket.socket | None = None) -> None:
        if sock is None:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.server = await asyncio.start_server(self._serve, sock=sock, ssl=self.context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.act(Peer(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/xml/v1/request.api"

    async def close(self) -> None:
        self.server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@cache
def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def serving(
    act: Act, tls: bool = False, identity: str = "localhost", **options: Any
) -> AsyncIterator[tuple[Server, HttpClient]]:
    """Yield a server, and a client with these options that trusts it."""
    server = Server(act, tls, identity)
    await server.listen()
    client = HttpClient(**{"ssl_context": trusting(), **options})
    try:
        yield server, client
    finally:
        await client.close()
        await server.close()


def within(seconds: float) -> Deadline:
    return Deadline(monotonic() + seconds)


Test = Callable[..., Coroutine[object, object, None]]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(story: Test) -> Callable[..., None]:
    """Run a test to its end on an event loop of its own, of each kind."""

    def test(loop: str, **given: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(story(**given))

    own = [
        Parameter("loop", Parameter.POSITIONAL_OR_KEYWORD),
        *signature(story).parameters.values(),
    ]
    test.__name__ = story.__name__
    test.__dict__.update(story.__dict__, __signature__=Signature(own))
    return pytest.mark.parametrize("loop", LOOPS)(test)


def after_request(data: bytes, ending: str = "close") -> Act:
    """Answer the request with `data`, then close, reset, or wait until the client closes."""

    async def act(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        if ending == "reset":
            peer.reset()
        elif ending == "wait":
            await peer.gone()

    return act


def each_time(data: bytes, *, bytewise: bool = False) -> Act:
    """Answer every request with `data`."""

    async def act(peer: Peer) -> None:
        while True:
            await peer.request()
            size = 1 if bytewise else len(data)
            for at in range(0, len(data), size):
                await peer.send(data[at : at + size])
                await asyncio.sleep(0)

    return act


keep_answering = each_time(http())
stall = after_request(b"", "wait")
