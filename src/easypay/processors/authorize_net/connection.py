"""One keep-alive HTTP/1.1 connection, for one request at a time.

`exchange` is the line between "not sent" and "unknown": before it is called nothing has left;
afterwards the reply is either complete or unknown.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, cast

import httptools
import msgspec

from easypay.processors.base import Unknown


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A complete HTTP reply. The body is as received, byte order mark included."""

    status: int
    body: bytes


class Owner(Protocol):
    """Owns the connections, and is told when one is free again or closed."""

    max_reply_bytes: int
    after_write: Callable[[], None] | None

    def connection_free(self, connection: "Connection") -> None: ...

    def connection_gone(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Carries one request at a time, to one (scheme, host, port): its `key`."""

    __slots__ = (
        "_body",
        "_complete",
        "_ends_at",
        "_keep_alive",
        "_loop",
        "_messages",
        "_owner",
        "_parser",
        "_poll",
        "_received",
        "_reply",
        "_status",
        "_timer",
        "_timer_at",
        "_transport",
        "address",
        "closed",
        "idle_since",
        "key",
        "opened_at",
        "retired",
        "uses",
    )

    def __init__(self, owner: Owner, key: object) -> None:
        self.key = key
        self.closed = False
        self.idle_since = self.opened_at = 0.0
        self.address = ""
        self.uses = 0
        self.retired = False
        """Another took its place: it ends with the request that it carries."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()  # asking for each call would cost a system call
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply | Unknown] | None = None
        self._ends_at = 0.0
        """When the time of the request ends, as the loop's clock shows it."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._body: list[bytes] = []
        self._received = 0
        self._messages = 0
        self._status = 0
        self._complete = False
        self._keep_alive = False

    def usable(self) -> bool:
        """Whether nothing was received and the peer has not closed, as the kernel knows now.

        The event loop may not have read a close yet, so this asks the socket: an idle connection
        with anything to read was closed, or received bytes that nobody asked for.
        """
        return not self.closed and not self._poll.poll(0)

    async def exchange(self, data: bytes, left_s: float) -> Reply | Unknown:
        """Send once and wait for the reply. From its first line on, nothing is "not sent"."""
        reply: asyncio.Future[Reply | Unknown] = self._loop.create_future()
        self._reply = reply
        self.uses += 1
        self._received = self._messages = 0
        self._complete = False
        self._ends_at = self._loop.time() + left_s
        if self._timer is None or self._ends_at < self._timer_at:
            self._look_at_time_in(left_s)
        cast(asyncio.Transport, self._transport).write(data)
        if self._owner.after_write is not None:
            # One turn of the loop later the bytes are in the kernel, on every event loop.
            self._loop.call_soon(self._owner.after_write)
        try:
            return await reply
        finally:
            if self._reply is reply:  # the caller was cancelled: the reply may still come
                self._reply = None
                self.discard()

    def fail(self, reason: str) -> None:
        """End the pending request, if any, as unknown, and close."""
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_result(Unknown(reason=reason))
        self.discard()

    def discard(self) -> None:
        """Close at once and tell the owner. Safe to call again."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._owner.connection_gone(self)

    def _look_at_time_in(self, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._loop.time() + after_s
        self._timer = self._loop.call_later(after_s, self._look_at_time)

    def _look_at_time(self) -> None:
        """End the request if its time is over. One timer serves many requests: after it was set,
        earlier ones may have been answered, and a later one has more time."""
        self._timer = None
        if self._reply is None:
            return
        left_s = self._ends_at - self._loop.time()
        if left_s > 0:
            self._look_at_time_in(left_s)
        else:
            self.fail("no complete answer in time")

    # Called by the event loop.

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

    # Called by the parser. Only the first whole message is ours; a second ends the connection.

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
        if self._status < 200:  # an interim response; the final one follows
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
        if self._keep_alive and self._messages == 1 and not self.closed and not self.retired:
            self._owner.connection_free(self)
        else:
            self.discard()
