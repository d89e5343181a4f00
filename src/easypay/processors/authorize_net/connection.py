"""One keep-alive HTTP/1.1 connection: one request at a time, and what came of it.

Here is the line between "not sent" and "unknown": it is crossed by `exchange`. Before it is
called nothing has left; once it is called the answer is either complete or unknown.
"""

import asyncio
import select
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import httptools

from easypay.processors.base import Unknown


class Reply(NamedTuple):
    """A complete HTTP answer. The body is as it came, byte order mark and all."""

    status: int
    body: bytes


class Owner(Protocol):
    """Who keeps the connections, and is told when one is free again or gone."""

    max_reply_bytes: int
    after_write: Callable[[], None] | None

    def connection_free(self, connection: "Connection") -> None: ...

    def connection_gone(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Carries one request at a time, to one (scheme, host, port): its `key`."""

    __slots__ = (
        "_body",
        "_complete",
        "_keep_alive",
        "_messages",
        "_owner",
        "_parser",
        "_poll",
        "_received",
        "_reply",
        "_status",
        "_transport",
        "closed",
        "idle_since",
        "key",
    )

    def __init__(self, owner: Owner, key: object) -> None:
        self.key = key
        self.closed = False
        self.idle_since = 0.0
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply | Unknown] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._body: list[bytes] = []
        self._received = 0
        self._messages = 0
        self._status = 0
        self._complete = False
        self._keep_alive = False

    def usable(self) -> bool:
        """Nothing has come and nobody has hung up, as far as the kernel knows at this moment.

        The event loop may not have read a close yet, so the socket itself is asked: an idle
        connection with anything to read has been closed, or has said what nobody asked.
        """
        return not self.closed and not self._poll.poll(0)

    async def exchange(self, data: bytes, left_s: float) -> Reply | Unknown:
        """Sends once and waits. From the first line on, nothing can be called "not sent"."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply | Unknown] = loop.create_future()
        self._reply = reply
        self._received = self._messages = 0
        self._complete = False
        timer = loop.call_later(left_s, self.fail, "no complete answer in time")
        cast(asyncio.Transport, self._transport).write(data)
        if self._owner.after_write is not None:
            # One turn of the loop later the bytes are in the kernel on every event loop.
            loop.call_soon(self._owner.after_write)
        try:
            return await reply
        finally:
            timer.cancel()
            if self._reply is reply:  # the caller was cancelled: the answer is still to come
                self._reply = None
                self.discard()

    def fail(self, reason: str) -> None:
        """Ends what is being waited for, if anything, as unknown, and closes."""
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_result(Unknown(reason=reason))
        self.discard()

    def discard(self) -> None:
        """Closes at once and tells the owner. Safe to call again."""
        if self.closed:
            return
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        self._owner.connection_gone(self)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.closed:
            self._transport.abort()
            return
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._reply is None:
            self.discard()
            return
        self._received += len(data)
        if self._received > self._owner.max_reply_bytes:
            self.fail(f"an answer of more than {self._owner.max_reply_bytes} bytes")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep_alive = False
            if not self._complete:
                self.fail(f"not an HTTP answer: {type(error).__name__}")
                return
        if self._complete:
            self._succeed()

    def connection_lost(self, exc: Exception | None) -> None:
        how = type(exc).__name__ if exc is not None else "closed"
        self.fail(f"connection lost before a complete answer: {how}")

    # What the parser calls. Only the first whole message is ours; a second one ends the connection.

    def on_message_begin(self) -> None:
        self._messages += 1
        if self._messages == 1:
            self._body.clear()

    def on_body(self, body: bytes) -> None:
        if self._messages == 1:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._messages != 1:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:  # an interim answer; the real one follows
            self._messages = 0
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def _succeed(self) -> None:
        reply, self._reply = self._reply, None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        if reply is not None and not reply.done():
            reply.set_result(Reply(self._status, body))
        if self._keep_alive and self._messages == 1 and not self.closed:
            self._owner.connection_free(self)
        else:
            self.discard()
