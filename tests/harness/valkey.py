"""A real Valkey, and a proxy before it that is slow, silent or a liar."""

import asyncio
import os
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from easypay.cache import embedded
from easypay.cache.connection import connect
from easypay.cache.url import parse
from harness.processes import free_port
from harness.waiting import until


class Valkey:
    """One server on loopback that keeps nothing on disk."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}"
        self._log = folder / f"valkey-{self.port}.log"
        program = embedded.binary()
        assert program is not None, "there is no Valkey for this machine"
        self._command = [*embedded.command(program, port=self.port), "--dir", str(folder), *more]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers. After `kill` it is empty."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        ends = time.monotonic() + 10
        while "Ready to accept" not in self._log.read_text(errors="replace"):  # each log is new
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < ends, self._log.read_text()
            time.sleep(0.01)
        self._log.write_text("")

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it stand still, with its connections open, for the length of the block."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    async def ask(self, *words: str | bytes | int) -> Any:
        """Send one command over a connection of its own."""
        url = parse(self.url)
        connection = await connect(url, url.addresses[0], lambda _: None, 2)
        try:
            return await asyncio.wait_for(connection.send(*words), 5)
        finally:
            connection.drop("done")

    async def keys(self, pattern: str = "*") -> list[bytes]:
        """Return all keys. For tests only: KEYS stops the server."""
        found: list[bytes] = await self.ask("KEYS", pattern)
        return found


@contextmanager
def running(folder: Path, *more: str) -> Iterator[Valkey]:
    """Run a server for the length of the block."""
    server = Valkey(folder, *more)
    try:
        yield server
    finally:
        server.kill()


def sentinel(folder: Path, primary: Valkey) -> tuple[subprocess.Popen[bytes], int]:
    """Start a sentinel that makes a replica the primary half a second after that is gone."""
    port, program = free_port(), embedded.binary()
    assert program is not None
    config = folder / f"sentinel-{port}.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\n"
        f"sentinel monitor easypay 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds easypay 500\n"
        "sentinel failover-timeout easypay 2000\n"
    )
    process = subprocess.Popen(
        [program, str(config), "--sentinel"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return process, port


async def joined(*nodes: Valkey) -> None:
    """Make a cluster of some servers, each with its share of the slots."""
    share = 16_384 // len(nodes)
    for number, node in enumerate(nodes):
        last = 16_383 if node is nodes[-1] else (number + 1) * share - 1
        assert await node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, last) == b"OK"
        await nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)

    async def whole() -> bool:
        said = [await node.ask("CLUSTER", "INFO") for node in nodes]
        known = f"cluster_known_nodes:{len(nodes)}".encode()
        return all(b"cluster_state:ok" in each and known in each for each in said)

    await until(whole, what="the cluster is whole")


Change = Callable[[bytes], Awaitable[bytes]]


class Proxy:
    """Stands before a server. `answer` may delay or change what the server sends."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.answer: Change = _as_it_is
        self.connections = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, out = await asyncio.open_connection("127.0.0.1", self._to)
            await asyncio.gather(
                self._pump(reader, out, _as_it_is), self._pump(there, writer, self._answered)
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answered(self, data: bytes) -> bytes:
        return await self.answer(data)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Change
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(await change(data))
                await writer.drain()
        writer.close()

    def leads_to(self, server: Valkey) -> None:
        """Lead new connections to another server."""
        self._to = server.port

    def cut(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()


async def _as_it_is(data: bytes) -> bytes:
    return data


@asynccontextmanager
async def proxied(server: Valkey, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Run a proxy before a server for the length of the block. `tls`: it ends that there, for the
    server of the wheel was built without it."""
    proxy = Proxy(server.port)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.cut()
