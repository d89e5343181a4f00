"""Answers that leave in pieces, with back-pressure, on the routes that need them.

Every other answer leaves whole, in one write, and pays nothing for this. A streamed answer goes
through ASGI's own `send`, in chunks (RFC 9112, 7.1). Its last chunk is sent only if the answer is
whole; if it cannot be finished, the connection is cut, so that no client takes it for whole.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from easypay.api.http import Endpoint, Handler, Request, Response
from easypay.api.send_response import EXTENSION, cut, send_response
from easypay.errors import MalformedRequest

_CLIENT_LEFT: Final = 499
_CUT: Final = "cut_short"
"""What the log shows as the problem of an answer that was cut."""
_CHUNK: Final = 64 * 1024
"""Bytes. PostgreSQL's pieces are smaller, and each write costs the same."""

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
            begin = _begin(response, request, closes=self._how["is_draining"]())
            try:
                return await _stream(response, begin, receive, send, partial(cut, whole))
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


def _begin(response: Streamed, request: Request, *, closes: bool) -> Message:
    """Return the message with the status and the headers."""
    headers = [
        (b"content-type", response.content_type),
        (b"cache-control", response.cache_control),
        (b"x-content-type-options", b"nosniff"),
        (b"request-id", request.id.encode()),
        *response.headers,
        *([(b"connection", b"close")] if closes else []),
    ]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def _stream(
    response: Streamed,
    begin: Message,
    receive: Receive,
    send: Send,
    cut_off: Callable[[], Awaitable[None]],
) -> Response:
    """Send a streamed answer. Return what the log and the metrics are to show of it."""
    await send(begin)
    pipe = _Pipe(send, response.stall_s)
    if response.write is None:
        await pipe.end()
        return Response(response.status)
    writing = asyncio.ensure_future(_write(response.write, pipe))
    leaving = asyncio.ensure_future(_leaves(receive))
    try:
        await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            writing.cancel()
            await asyncio.wait((writing,))
            return Response(_CLIENT_LEFT)
        writing.result()
    except Cut:
        await cut_off()
        return Response(response.status, problem=_CUT)
    except BaseException:
        await cut_off()
        raise
    finally:
        leaving.cancel()
        writing.cancel()
    return Response(response.status)


async def _write(write: Callable[[Write], Awaitable[None]], pipe: "_Pipe") -> None:
    await write(pipe.write)
    await pipe.end()


async def _leaves(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _Pipe:
    """Collects small pieces, and waits until the client has room for them."""

    def __init__(self, send: Send, stall_s: float) -> None:
        self._send = send
        self._stall_s = stall_s
        self._held = bytearray()

    async def write(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= _CHUNK:
            await self._flush(more=True)

    async def end(self) -> None:
        await self._flush(more=False)

    async def _flush(self, *, more: bool) -> None:
        body, self._held = bytes(self._held), bytearray()
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise Cut(
                f"the client took more than {self._stall_s:g} s to read {_CHUNK:,} bytes"
            ) from None
