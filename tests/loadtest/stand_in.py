"""A server in the gateway's place, with ordered faults (`python stand_in.py ORDER`).

It answers POSTs with 201 and GETs with 200, and counts the requests it gets, so that a test can
compare the load test's report with these counts.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

BODY = b'{"id": "pay_1", "status": "captured"}'


class StandIn:
    """The server, in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def said(self) -> dict[str, Any]:
        """Return the counts so far: requests, keys, connections."""
        with urlopen(f"{self.url}/said", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def standing_in(**order: Any) -> Iterator[StandIn]:
    """Start the server. `stall_s` every `stall_every_s`: the process stalls. `delay_s`: delays all
    answers. `wrong_every`, `lost_every`, `silent_every`, `garbage_every`, `unreadable_every`: each
    n-th request gets a 500, a closed connection, silence, invalid HTTP, a body that is not JSON.
    `last`: stop listening after so many requests. `timing`: the Server-Timing header to send."""
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(order)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield StandIn(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Serving:
    """The state that all connections share."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.keys: list[str] = []
        self.paths: list[str] = []
        self.requests = 0
        self.open = 0
        self.used: set[int] = set()
        self.most_open = 0
        self.server: asyncio.Server | None = None
        timing = order.get("timing")
        self.more = f"Server-Timing: {timing}\r\n".encode() if timing else b""

    def is_turn(self, what: str) -> bool:
        every = self.order.get(what)
        return bool(every) and self.requests % every == 0

    def stall(self, at: float) -> None:
        time.sleep(self.order["stall_s"])
        at += self.order["stall_every_s"]
        asyncio.get_running_loop().call_at(at, self.stall, at)


class Connection(asyncio.Protocol):
    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.received = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.serving.open += 1
        self.serving.most_open = max(self.serving.most_open, self.serving.open)

    def connection_lost(self, error: Exception | None) -> None:
        self.serving.open -= 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", 0))
        if len(rest) < length:
            return
        self.received = rest[length:]
        method, path, _ = head.split(b" ", 2)
        self.answer(method.decode(), path.decode(), fields)

    def answer(self, method: str, path: str, fields: dict[bytes, bytes]) -> None:
        serving = self.serving
        if path == "/said":
            said = {
                "requests": serving.requests,
                "keys": serving.keys,
                "paths": serving.paths,
                "most_open": serving.most_open,
                "used": len(serving.used),
            }
            self.send(200, json.dumps(said).encode())
            return
        if not path.startswith("/api/"):
            self.send(404, b"{}")
            return
        serving.requests += 1
        serving.used.add(id(self))
        serving.paths.append(path)
        if b"idempotency-key" in fields:
            serving.keys.append(fields[b"idempotency-key"].decode())
        if serving.is_turn("silent_every"):
            return
        if serving.is_turn("lost_every"):
            self.transport.abort()
            return
        if serving.is_turn("garbage_every"):
            self.transport.write(b"not HTTP at all\r\nContent-Length: 0\r\n\r\n")
            return
        status = 500 if serving.is_turn("wrong_every") else 201 if method == "POST" else 200
        body = b"<html>" if serving.is_turn("unreadable_every") else BODY
        if delay_s := serving.order.get("delay_s"):
            asyncio.get_running_loop().call_later(delay_s, self.send, status, body)
        else:
            self.send(status, body)
        if serving.requests == serving.order.get("last") and serving.server is not None:
            serving.server.close()
            self.transport.close()

    def send(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n"
        self.transport.write(head % (status, self.serving.more, len(body)) + body)


async def serve(order: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    serving = Serving(order)
    server = serving.server = await loop.create_server(
        lambda: Connection(serving), "127.0.0.1", 0, backlog=2048
    )
    if order.get("stall_s"):
        at = loop.time() + order["stall_every_s"]
        loop.call_at(at, serving.stall, at)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.sleep(100)  # bounded, even if the test does not end it


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    asyncio.run(serve(json.loads(sys.argv[1])))
