"""A lean HTTP/1.1 load generator in a process of its own (`python -m easypay_bench.generator`).

It reads its order as one JSON line, says `ready` when every connection is open, waits for `go`,
sends until its time is up, waits for the requests in flight, and reports in one JSON line. It knows
just enough HTTP for a server that sends Content-Length and keeps connections open.
"""

import asyncio
import json
import resource
import sys
from collections import Counter
from time import perf_counter
from typing import Any, Final

import uvloop

from easypay_bench.payment_request import Orders
from easypay_bench.performance_bars import spread

CREATED: Final = b"201"
_LAST_REPLY_S: Final = 30.0
_RECONNECT_S: Final = 0.05


class Generator:
    """Shared by all connections: the next number, the end, and the counts."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.host: str = order["host"]
        self.port: int = order["port"]
        self.orders = Orders(order["template"])
        self.seconds: float = order["seconds"]
        self.number: int = order["first_number"]
        self.latencies_s: list[float] = []
        self.wrong: Counter[str] = Counter()
        self.ends_at = 0.0
        self.open: set[_Connection] = set()
        self.idle = asyncio.Event()
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), self.host, self.port)

    def next_request(self) -> bytes | None:
        """Return the next request; None when the time is up."""
        if perf_counter() >= self.ends_at:
            return None
        self.number += 1
        return self.orders.request("a", self.number)

    async def load(self) -> dict[str, Any]:
        """Run from the first request to the last reply."""
        used_before_s = cpu_s()
        started = perf_counter()
        self.ends_at = started + self.seconds
        for connection in list(self.open):
            connection.send()
        await asyncio.sleep(self.seconds)
        if any(connection.sent_at for connection in self.open):
            try:
                await asyncio.wait_for(self.idle.wait(), _LAST_REPLY_S)
            except TimeoutError:
                self.wrong["no reply"] += sum(bool(each.sent_at) for each in self.open)
        took_s = perf_counter() - started
        return {
            "seconds": took_s,
            "replies": len(self.latencies_s),
            "cpu_s": cpu_s() - used_before_s,
            "latency_ms": spread([latency_s * 1000 for latency_s in self.latencies_s]),
            "wrong": dict(self.wrong),
        }

    def rest(self) -> None:
        """Note that a connection has nothing more to send; after the last one the run is over."""
        if not any(connection.sent_at for connection in self.open):
            self.idle.set()

    def replace(self, lost: "_Connection") -> None:
        """Count the request of a connection that was lost, and open another."""
        self.open.discard(lost)
        if lost.sent_at:
            self.wrong["connection lost"] += 1
        if perf_counter() < self.ends_at:
            task = asyncio.get_running_loop().create_task(self._reconnect())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)
        else:
            self.rest()

    async def _reconnect(self) -> None:
        while perf_counter() < self.ends_at:
            try:
                await self.connect()
                return
            except OSError:
                self.wrong["cannot connect"] += 1
                await asyncio.sleep(_RECONNECT_S)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, generator: Generator) -> None:
        self.sent_at = 0.0
        """0 while nothing is in flight."""
        self._generator = generator
        self._transport: Any = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._generator.open.add(self)
        if self._generator.ends_at:
            self.send()

    def send(self) -> None:
        request = self._generator.next_request()
        if request is None:
            self.sent_at = 0.0
            self._generator.rest()
            return
        self._transport.write(request)
        self.sent_at = perf_counter()

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        length = reply_length(data)
        if length is None or len(data) < length:
            self._received = data
            return
        self._received = b""
        status = data[9:12]
        if status == CREATED:
            self._generator.latencies_s.append(perf_counter() - self.sent_at)
        else:
            self._generator.wrong[status.decode("latin-1")] += 1
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._generator.replace(self)


def reply_length(data: bytes) -> int | None:
    """Return the size of the reply at the start of `data`; None until its head is complete.

    Raises ValueError for a reply without Content-Length.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    at = data.find(b"\r\ncontent-length:", 0, end)
    if at < 0:
        at = data[:end].lower().find(b"\r\ncontent-length:")
        if at < 0:
            raise ValueError("the generator reads only replies with a Content-Length")
    at += 17
    line_end = data.find(b"\r\n", at)
    return end + 4 + int(data[at:line_end])


def cpu_s() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _main() -> None:
    loop = asyncio.get_running_loop()
    order = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    generator = Generator(order)
    for _ in range(order["connections"]):
        await generator.connect()
    _say("ready")
    await loop.run_in_executor(None, sys.stdin.readline)
    _say(json.dumps(await generator.load()))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
