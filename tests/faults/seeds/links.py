"""A TCP proxy before a server, with every way in which a network link can fail."""

import asyncio
from contextlib import suppress
from typing import Literal

State = Literal["open", "silent", "refusing"]


class Link:
    """A link to `target`, with a port of its own.

    `silent`: nothing passes and no connection is closed, as when a peer vanishes. Data sent
    meanwhile is delivered once the link is mended, unless it was cut.
    """

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.target = (host, port)
        self.port = 0
        self.state: State = "open"
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies_to_lose = 0

    async def start(self, *, direct: bool = False) -> "Link":
        """Listen. `direct`: this link never fails, so use the server's own port."""
        if direct:
            self.port = self.target[1]
            return self
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.mend()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def silence(self) -> None:
        self.state = "silent"
        self._open.clear()

    def refuse(self) -> None:
        """Reset new connections at once; open ones continue."""
        self.state = "refusing"

    def mend(self) -> None:
        self.state = "open"
        self._open.set()

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    def lose_replies(self, count: int) -> None:
        """Drop the server's next `count` messages, and cut their connections."""
        self._replies_to_lose = count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            if self.state == "refusing":
                return
            await self._open.wait()
            upstream_reader, upstream = await asyncio.open_connection(*self.target)
            self._writers.add(upstream)
            back = asyncio.create_task(self._carry(upstream_reader, writer, back=True))
            try:
                await self._carry(reader, upstream, back=False)
            finally:
                upstream.transport.abort() if writer.transport.is_closing() else upstream.close()
                await back
        except OSError:
            pass
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()
            self._tasks.discard(task)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(262_144):
                if back and self._replies_to_lose:
                    self._replies_to_lose -= 1
                    break
                if not self._open.is_set():
                    await self._open.wait()
                writer.write(data)
                await writer.drain()
        if back:
            writer.close()
