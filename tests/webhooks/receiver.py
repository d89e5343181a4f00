"""A merchant's server for webhooks: it remembers what arrives and answers as a test says."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple


class Got(NamedTuple):
    """One message as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Answers every message with `answer(got)`: a status, or a status, header lines and a body."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Callable[[Got], Any] = lambda _: 204
        self.url = ""
        self.most_at_once = 0
        self._at_once = 0

    def of(self, path: str) -> list[Got]:
        """Return what arrived at one path."""
        return [each for each in self.got if each.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (x.partition(": ") for x in lines)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                got = Got(first.split(" ")[1], headers, body)
                self.got.append(got)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    said = self.answer(got)
                    said = await said if inspect.isawaitable(said) else said
                finally:
                    self._at_once -= 1
                if said is None:
                    return
                status, more, text = said if isinstance(said, tuple) else (said, b"", b"")
                writer.write(
                    b"HTTP/1.1 %d Answer\r\n%bContent-Length: %d\r\n\r\n%b"
                    % (status, more, len(text), text)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """Yield a running receiver."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, host, 0, backlog=512)
    name = f"[{host}]" if ":" in host else host
    receiver.url = f"http://{name}:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()
