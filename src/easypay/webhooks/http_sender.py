"""A small HTTP/1.1 client for webhooks: one POST, a time limit, and only the allowed addresses.

What a merchant's server does is not trusted: its answer is bounded, a redirect is not followed, and
the address of the connection is checked for every message, also if the connection was open already.
A message may arrive twice (its id tells), so one that finds its connection closed is sent again.
"""

import asyncio
import select
import ssl
from collections import deque
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from easypay import clock, inputs
from easypay.clock import monotonic
from easypay.processors import happy_eyeballs
from easypay.processors.host_names import NoAddress
from easypay.webhooks.addresses import AllowedNames, is_allowed

KEPT_BYTES: Final = 4400
"""Bytes of an answer's body that are returned: more than the characters that are kept can have, so
that a card number which ends beyond them is found."""
_MOST_BYTES: Final = 64 * 1024
"""Bytes of an answer, with its head, that are read. What is longer ends with its connection."""
_IDLE_S: Final = 10.0
_MOST_IDLE: Final = 64
"""Idle connections that are kept for one host: several endpoints may be there."""


class Answer(msgspec.Struct, frozen=True):
    """What a server answered."""

    status: int
    body: bytes
    """Its first `KEPT_BYTES` bytes."""
    retry_after_s: int | None
    """What `Retry-After` says, in seconds from now."""


class NoAnswer(Exception):
    """No answer came. The text is the reason; the message may have arrived."""


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int


class _Wire(asyncio.Protocol):
    """One connection, for one message at a time."""

    def __init__(self) -> None:
        self.address = ""
        self.idle_since = 0.0
        self.answered = False
        """Whether a byte of the present answer has come."""
        self.closed = False
        self.keep = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._poll = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def usable(self, *, tls: bool) -> bool:
        """Whether the other side has not closed, as the kernel knows now. What TLS sends beside the
        answers (tickets) is no close."""
        return not self.closed and (tls or not self._poll.poll(0))

    async def exchange(self, data: bytes) -> Answer:
        """Send a request and wait for its answer. Raises NoAnswer."""
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        self._parser = httptools.HttpResponseParser(self)
        self._status = self._received = 0
        self._retry_after: bytes | None = None
        self._body = b""
        self.answered = self.keep = False
        assert self._transport is not None
        self._transport.write(data)
        try:
            return await waiter
        finally:
            self._waiter = None
            if not self.keep:
                self.close()

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.close()
            return
        self.answered = True
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the answer is not HTTP: {type(error).__name__}")
            return
        if self._received > _MOST_BYTES:
            if self._status:
                self._succeed()
            else:
                self._fail("the head of the answer is too long")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._waiter is not None and self._status:
            self.keep = False  # an answer may end with its connection (RFC 9112, section 6.3)
            self._succeed()
            return
        how = "" if exc is None else f": {type(exc).__name__}"
        self._fail(f"the connection was closed before an answer{how}")

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._status = status if status >= 200 else 0

    def on_body(self, body: bytes) -> None:
        if len(self._body) < KEPT_BYTES:
            self._body = (self._body + body)[:KEPT_BYTES]

    def on_message_complete(self) -> None:
        if self._status:  # an interim answer is followed by the final one
            self.keep = self._parser.should_keep_alive()
            self._succeed()

    def _succeed(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            after_s = retry_after_s(self._retry_after)
            self._waiter.set_result(Answer(self._status, self._body, after_s))

    def _fail(self, reason: str) -> None:
        self.keep = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(NoAnswer(reason))


class HttpSender:
    """POSTs JSON to the servers of merchants. One instance serves one process and its loop.

    It keeps at most `most_idle` connections open beside those that carry a message.
    """

    def __init__(
        self,
        names: AllowedNames,
        *,
        most_idle: int = 1000,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._names = names
        self._most_idle = most_idle
        self._ssl_context = ssl_context
        self._idle: dict[_Target, deque[_Wire]] = {}
        self._idle_count = 0

    async def post(
        self, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, limit_s: float
    ) -> Answer:
        """Send one message and return the answer, whatever its status. Raises NoAnswer."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        target = _Target(parts.scheme, parts.hostname or "", parts.port or (443 if tls else 80))
        data = _request(parts.netloc, parts.path, parts.query, headers, body)
        try:
            async with asyncio.timeout(limit_s):
                return await self._send(target, data)
        except TimeoutError:
            raise NoAnswer(f"no answer within {limit_s:g} s") from None
        except ssl.SSLError as error:
            raise NoAnswer(f"TLS failed: {error.reason or error}") from error
        except NoAddress as error:
            raise NoAnswer(str(error)) from error
        except (OSError, ValueError) as error:  # UnicodeError: the name is none
            raise NoAnswer(f"could not connect: {type(error).__name__}: {error}") from error

    async def _send(self, target: _Target, data: bytes) -> Answer:
        """Send over an idle connection, else over a new one. The server may have closed an idle one
        meanwhile: then no byte of an answer comes, and the next connection is tried."""
        while (wire := self._take(target)) is not None:
            try:
                return await self._exchange(target, wire, data)
            except NoAnswer:
                if wire.answered:
                    raise
        return await self._exchange(target, await self._connect(target), data)

    async def close(self) -> None:
        """Close all connections."""
        for wires in self._idle.values():
            for wire in wires:
                wire.close()
        self._idle.clear()
        self._idle_count = 0
        await self._names.close()

    def _take(self, target: _Target) -> _Wire | None:
        wires = self._idle.get(target)
        while wires:
            wire = wires.pop()
            self._idle_count -= 1
            if not wires:
                del self._idle[target]
            fresh = monotonic() - wire.idle_since < _IDLE_S
            if (
                fresh
                and wire.usable(tls=target.scheme == "https")
                and is_allowed(wire.address, self._names.private)
            ):
                return wire
            wire.close()
        return None

    async def _exchange(self, target: _Target, wire: _Wire, data: bytes) -> Answer:
        answer = await wire.exchange(data)
        if wire.keep and not wire.closed:
            wire.idle_since = monotonic()
            wires = self._idle.setdefault(target, deque())
            wires.append(wire)
            self._idle_count += 1
            if len(wires) > _MOST_IDLE:
                self._drop(wires)
            elif self._idle_count > self._most_idle:
                self._drop_oldest_host()
        return answer

    def _drop(self, wires: deque[_Wire]) -> None:
        """Close the oldest connection of a host."""
        wires.popleft().close()
        self._idle_count -= 1

    def _drop_oldest_host(self) -> None:
        wires = self._idle.pop(next(iter(self._idle)))
        while wires:
            self._drop(wires)

    async def _connect(self, target: _Target) -> _Wire:
        """Connect to an allowed address. TLS checks the certificate for the name."""
        sock, _ = await happy_eyeballs.connect(self._names, target.host, target.port)
        address = str(sock.getpeername()[0])
        if not is_allowed(address, self._names.private):
            sock.close()
            raise NoAddress(f"{target.host} leads to what is not a public address")
        tls = target.scheme == "https"
        if tls and self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        _, wire = await asyncio.get_running_loop().create_connection(
            _Wire,
            sock=sock,
            ssl=self._ssl_context if tls else None,
            server_hostname=target.host if tls else None,
        )
        wire.address = address
        return wire


def _request(
    authority: str, path: str, query: str, headers: Iterable[tuple[str, str]], body: bytes
) -> bytes:
    lines = [
        f"POST {path or '/'}{f'?{query}' if query else ''} HTTP/1.1",
        f"Host: {authority}",
        "User-Agent: easypay-webhooks",
        "Accept: */*",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
        "\r\n",
    ]
    return "\r\n".join(lines).encode() + body


def retry_after_s(value: bytes | None) -> int | None:
    """Return what a `Retry-After` header says, in whole seconds from now: a number, or a date."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if (seconds := inputs.whole_number(text, 0, 10**9)) is not None:
        return seconds
    try:
        left = (parsedate_to_datetime(text) - clock.now()).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, int(left) + 1)
