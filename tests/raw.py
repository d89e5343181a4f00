"""A connection to a gateway for sending and reading raw bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness import Gateway


class Line:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> tuple[bytes, dict[bytes, bytes]]:
        """Return the status line, and the headers by name."""
        head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
        status, *lines = head.split(b"\r\n")
        return status, dict(line.split(b": ", 1) for line in lines)

    async def answer(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))

    async def json_answer(self) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON body of a response."""
        status, _, body = await self.answer()
        return int(status.split()[1]), json.loads(body)

    async def refused(self) -> tuple[int, str]:
        """Return the status and code of a problem after which the gateway closes the connection."""
        status, headers, body = await self.answer()
        assert headers[b"content-type"] == b"application/problem+json"
        assert headers[b"connection"] == b"close"
        assert await self.reader.read() == b""
        return int(status.split()[1]), json.loads(body)["code"]


@asynccontextmanager
async def dial(gateway: Gateway, *, host: str = "127.0.0.1") -> AsyncIterator[Line]:
    """Yield a connection, for at most 20 seconds."""
    reader, writer = await asyncio.open_connection(host, gateway.port)
    try:
        async with asyncio.timeout(20):
            yield Line(reader, writer)
    finally:
        writer.close()


def post(path: str, secret: str, body: bytes, *lines: str, key: str | None = None) -> bytes:
    """Return a money POST under /api/v1. `lines`: more headers. `key`: Idempotency-Key, if any."""
    head = [
        f"POST /api/v1{path} HTTP/1.1",
        "Host: shop",
        f"Authorization: Bearer {secret}",
        "Content-Type: application/json",
        *([] if key is None else [f"Idempotency-Key: {key}"]),
        *lines,
    ]
    if not any(line.lower().startswith("transfer-encoding") for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, size: int = 7) -> bytes:
    """Return the body in chunked encoding."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
