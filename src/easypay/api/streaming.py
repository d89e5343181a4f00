"""Answers that leave in pieces, with back-pressure, on the routes that need them.

Every other answer leaves whole, in one write, and pays nothing for this. A streamed answer goes
through ASGI's own `send`, in chunks (RFC 9112, 7.1). Its last chunk is sent only if the answer is
whole; if it cannot be finished, the connection is cut, so that no client takes it for whole. A
compressed one has no end then either.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from easypay.api.compression import IDENTITY, Stream, accepted
from easypay.api.http import Endpoint, Handler, Request, Response
from easypay.api.send_response import EXTENSION, cut, send_response
from easypay.clock import stopwatch
from easypay.errors import MalformedRequest

_CLIENT_LEFT: Final = 499
_CUT: Final = "cut_short"
"""What the log shows as the problem of an answer that was cut."""
_CHUNK: Final = 64 * 1024
"""Bytes. PostgreSQL's pieces are smaller, and each write costs the same."""
_HELD_S: Final = 1.0
"""With the next bytes, what was held for longer is sent, however little it is."""

Write = Callable[[bytes], Awaitable[None]]


class Cut(Exception):
    """The answer cannot be finished. The message says why."""


class Streamed(Response, gc=True):
    """The answer of a streaming route."""

    write: Callable[[Write], Awaitable[None]] | None = None
    """Given a function that sends bytes and may wait, it ends when the answer is whole, and raises
    Cut if it never will be. It is cancelled if the client leaves. None: there is no body."""
    close: Callable[[], Awaitable[None]] | None = None
    """Called once, in any case, when the answer has ended."""
    stall_s: float = 30.0
    """How long the client may take to read a piece."""


class StreamingEndpoint:
    """The ASGI application of a route whose handler returns `Streamed`. `how`: see `Endpoint`."""

    def __init__(self, handler: Handler, **how: Any) -> None:
        self._handler = handler
        self._how = how

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = scope["extensions"]
        streamed = False

        async def handle(request: Request) -> Response:
            nonlocal streamed
            if scope["http_version"] == "1.0":
                raise MalformedRequest(
                    "This answer is sent in chunks, which HTTP/1.0 does not have. Use HTTP/1.1."
                )
            response = await self._handler(request)
            if not isinstance(response, Streamed):
                return response
            streamed = True
            coding = accepted(request.headers.get(b"accept-encoding")).best
            begin = _begin(response, request, coding, closes=self._how["is_draining"]())
            pipe = _Pipe(send, response, coding)
            try:
                return await _stream(response, begin, pipe, receive, partial(cut, whole))
            finally:
                scope["extensions"] = answered  # a cut takes it out
                if response.close is not None:
                    await response.close()

        async def answer(*parts: Any) -> None:
            if not streamed:
                scope["extensions"] = whole
                await send_response(scope, *parts)

        scope["extensions"] = answered = {EXTENSION: {"send": answer}}
        try:
            await Endpoint(handle, **self._how)(scope, receive, send)
        finally:
            # It leads to the request and back: the garbage collector would have to find them.
            scope.pop("extensions", None)


def _begin(response: Streamed, request: Request, coding: bytes, *, closes: bool) -> Message:
    """Return the message with the status and the headers."""
    headers = [
        (b"content-type", response.content_type),
        (b"cache-control", response.cache_control),
        (b"x-content-type-options", b"nosniff"),
        (b"request-id", request.id.encode()),
        *response.headers,
        *([] if coding == IDENTITY else [(b"content-encoding", coding)]),
        *([(b"connection", b"close")] if closes else []),
    ]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def _stream(
    response: Streamed,
    begin: Message,
    pipe: "_Pipe",
    receive: Receive,
    cut_off: Callable[[], Awaitable[None]],
) -> Response:
    """Send a streamed answer. Return what the log and the metrics are to show of it."""
    await pipe.begin(begin)
    if response.write is None:
        await pipe.end()
        return pipe.told(response.status)
    writing = asyncio.ensure_future(_write(response.write, pipe))
    leaving = asyncio.ensure_future(_leaves(receive))
    try:
        await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            writing.cancel()
            await asyncio.wait((writing,))
            return pipe.told(_CLIENT_LEFT)
        writing.result()
    except Cut:
        await cut_off()
        return pipe.told(response.status, problem=_CUT)
    except BaseException:
        await cut_off()
        raise
    finally:
        leaving.cancel()
        writing.cancel()
    return pipe.told(response.status)


async def _write(write: Callable[[Write], Awaitable[None]], pipe: "_Pipe") -> None:
    await write(pipe.write)
    await pipe.end()


async def _leaves(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Pipe:
    """Collects small pieces, compresses them, and waits until the client has room for them."""

    def __init__(self, send: Send, response: Streamed, coding: bytes) -> None:
        self._send = send
        self._stall_s = response.stall_s
        self._coding = None if coding == IDENTITY else coding.decode()
        # The answer to a HEAD has no body, so no stream either.
        self._stream = None if self._coding is None or response.write is None else Stream(coding)
        self._held = bytearray()
        self._held_since = 0.0
        self._sent = 0

    async def begin(self, message: Message) -> None:
        await self._send(message)
        self._held_since = stopwatch()

    async def write(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= _CHUNK or stopwatch() - self._held_since >= _HELD_S:
            await self._flush(more=True)

    async def end(self) -> None:
        await self._flush(more=False)

    def told(self, status: int, *, problem: str | None = None) -> Response:
        """Return what the log and the metrics are to show."""
        return Response(status, problem=problem, coding=self._coding, sent=self._sent)

    async def _flush(self, *, more: bool) -> None:
        body, self._held = bytes(self._held), bytearray()
        if self._stream is not None:
            body = self._stream.piece(body) if more else self._stream.end(body)
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise Cut(
                f"the client took more than {self._stall_s:g} s to read {_CHUNK:,} bytes"
            ) from None
        self._sent += len(body)
        self._held_since = stopwatch()
