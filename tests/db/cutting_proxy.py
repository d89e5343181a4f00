"""A TCP proxy before PostgreSQL that counts answers, can lose one and cut the connection, or can
fall silent: connections stay open but nothing passes, as when the peer has vanished."""

import asyncio
from collections import Counter
from urllib.parse import urlsplit, urlunsplit

from harness import free_port

_SSL_REQUEST = 80877103


class _Line:
    """One connection through the proxy."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.deaf = False
        """Data from the client is dropped."""
        self.mute = False
        """Data from the server is dropped."""


class CuttingProxy:
    """The proxy. It knows a connection by its application_name."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        assert parts.hostname is not None
        self.server_dsn = dsn
        self._server = (parts.hostname, parts.port or 5432)
        self._port = free_port()
        login = parts.netloc.rpartition("@")[0]
        at = f"{login}@" if login else ""
        self.dsn = urlunsplit(parts._replace(netloc=f"{at}127.0.0.1:{self._port}"))
        self.answers: Counter[str] = Counter()
        """Completed round trips, by the connection's application_name."""
        self.swallowed: list[str] = []
        self.connections = 0
        """How many it was asked for."""
        self.silent = False
        """New connections are accepted but never answered."""
        self._to_swallow: list[str] = []
        self._lines: set[_Line] = set()
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> "CuttingProxy":
        """Listen, always at the same port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def shut(self) -> None:
        """Refuse new connections and cut the open ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def swallow_next(self, name: str) -> None:
        """Lose the next answer to a connection whose name contains `name`, after its commit."""
        self._to_swallow.append(name)

    def vanish(self, name: str = "", *, after_commit: bool = False) -> int:
        """Silence the open connections whose name contains `name`, for good; return their number.
        `after_commit`: what they send still reaches the server and is executed."""
        found = [line for line in self._lines if name in line.name]
        for line in found:
            line.mute = True
            line.deaf = not after_commit
        return len(found)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            while await reader.read(65_536):
                pass
            return
        length = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(length, "big") - 4)
        if int.from_bytes(body[:4], "big") == _SSL_REQUEST:
            writer.write(b"N")
            length = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length, "big") - 4)
        words = body[4:].decode("latin-1").split("\0")
        named = dict(zip(words[::2], words[1::2], strict=False))
        upstream_reader, upstream = await asyncio.open_connection(*self._server)
        upstream.write(length + body)
        name = named.get("application_name", "")
        line = _Line(name)
        self._lines.add(line)
        back = asyncio.create_task(self._carry_back(line, upstream_reader, writer))
        try:
            while data := await reader.read(65_536):
                if not line.deaf:
                    upstream.write(data)
                    await upstream.drain()
        finally:
            self._lines.discard(line)
            upstream.close()
            await back

    async def _carry_back(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass answers on message by message. Withhold one that is to be lost from its BindComplete
        to its ReadyForQuery, which follows the commit."""
        losing, name = False, line.name
        try:
            while True:
                head = await reader.readexactly(5)
                message = head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                if head[:1] == b"2" and any(wanted in name for wanted in self._to_swallow):
                    losing = True
                    self._to_swallow = [w for w in self._to_swallow if w not in name]
                if head[:1] == b"Z":
                    self.answers[name] += 1
                    if losing:
                        self.swallowed.append(name)
                        return
                if not losing and not line.mute:
                    writer.write(message)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
