"""Keep-alive HTTP/1.1 connections to one gateway, as lean as a load generator needs them.

It knows just enough HTTP for a server that sends Content-Length and keeps connections open.
"""

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

from easypay_bench.generator import reply_length

_OPENED_AT_ONCE: Final = 100


class Answer(NamedTuple):
    """A whole answer. `head` has the status line and the headers."""

    status: int
    head: bytes
    body: bytes


class Lost(Exception):
    """The connection ended before the whole answer was received."""


class Connections:
    """Keeps as many connections as asked for. The one that was idle longest is used first, so that
    all are used. A lost one is opened again."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.open = 0
        self.lost = 0
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[asyncio.Future[_Connection]] = deque()
        self._reopening: set[asyncio.Task[None]] = set()
        self._closed = False

    async def connect(self, count: int) -> None:
        """Open `count` connections. Raises OSError if one cannot be opened."""
        while self.open < count:
            some = min(_OPENED_AT_ONCE, count - self.open)
            await asyncio.gather(*(self._connect() for _ in range(some)))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), self.host, self.port)

    async def exchange(self, request: bytes, timeout_s: float) -> Answer:
        """Wait for a free connection, send, and wait for the answer, at most `timeout_s` each.

        Raises Lost or TimeoutError; then the outcome is unknown.
        """
        while self._idle:
            connection = self._idle.popleft()
            if not connection.closed:
                break
        else:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            connection = await asyncio.wait_for(waiter, timeout_s)
        return await connection.exchange(request, timeout_s)

    def rest(self, connection: "_Connection") -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def gone(self) -> None:
        self.open -= 1
        if not self._closed:
            self.lost += 1
            task = asyncio.get_running_loop().create_task(self._reopen())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    async def _reopen(self) -> None:
        while not self._closed:
            try:
                await self._connect()
                return
            except OSError:
                await asyncio.sleep(0.05)

    def close(self) -> None:
        self._closed = True
        for connection in self._idle:
            connection.close()


class _Connection(asyncio.Protocol):
    """One connection with at most one request in flight."""

    def __init__(self, owner: Connections) -> None:
        self.closed = False
        self._owner = owner
        self._transport: Any = None
        self._received = b""
        self._length: int | None = None
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._owner.open += 1
        self._owner.rest(self)

    async def exchange(self, request: bytes, timeout_s: float) -> Answer:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        timer = loop.call_later(timeout_s, self._give_up)
        if self.closed:
            self._fail(Lost("closed"))
        else:
            self._transport.write(request)
        try:
            return await answer
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._fail(TimeoutError())
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._answer = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._length is None:
            self._length = reply_length(self._received)
        if self._length is None or len(self._received) < self._length:
            return
        whole, self._received, self._length = self._received, b"", None
        status = int(whole[9:12])  # if not HTTP, the loop closes the connection: answer lost
        answer, self._answer = self._answer, None
        head, _, body = whole.partition(b"\r\n\r\n")
        if b"connection: close" in head.lower():
            self.close()
        else:
            self._owner.rest(self)
        if answer is not None and not answer.done():
            answer.set_result(Answer(status, head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._fail(Lost(str(error or "closed by the server")))
        self._owner.gone()

    def close(self) -> None:
        self.closed = True
        self._transport.close()
