"""An HTTP server in a processor's place, which answers each request as a test says."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from recorded.bodies import BOM

GONE: Final = object()
"""In place of an answer: close the connection."""


@asynccontextmanager
async def serving(answer: Callable[[Any], object]) -> AsyncIterator[str]:
    """Yield the URL of the server. `answer` gets a request's JSON, and returns JSON, bytes, an HTTP
    status and bytes, or GONE. It may be a coroutine function."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                data = answer(json.loads(await reader.readexactly(length)))
                data = await data if inspect.isawaitable(data) else data
                if data is GONE:
                    return
                status, body = data if isinstance(data, tuple) else (200, data)
                body = body if isinstance(body, bytes) else BOM + json.dumps(body).encode()
                head = b"HTTP/1.1 %d Answer\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
                writer.write(head + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
