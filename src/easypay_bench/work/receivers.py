"""Merchants' servers for webhooks, all in one process (`python -m easypay_bench.work.receivers`).

They read just enough of a message to know which event it is about and when it came, and answer 204.
The process takes commands as lines: `open N` opens N servers and says their ports; `hang N` lets
the server number N answer nothing for 30 s, `heal` ends that; `take` reports what came since the
last time, `count` how much that would be.
"""

import asyncio
import json
import re
import sys
from functools import partial
from time import time
from typing import Any, Final

import uvloop

HANGS_S: Final = 30.0
_ID: Final = re.compile(rb"\r\nwebhook-id: evt_([0-9a-f]{32})\r\n", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Servers:
    """All servers, and what came to them."""

    def __init__(self) -> None:
        self.hanging = -1
        self._seen: set[tuple[int, bytes]] = set()
        self._late_ms: list[tuple[int, float]] = []
        self._repeats = 0
        self._first = self._last = 0.0

    def got(self, server: int, event: bytes) -> None:
        """Note a message. The first 48 bits of an event's id are its millisecond."""
        now = time()
        if (server, event) in self._seen:
            self._repeats += 1
            return
        self._seen.add((server, event))
        self._first = self._first or now
        self._last = now
        self._late_ms.append((server, now * 1000 - int(event[:12], 16)))

    @property
    def count(self) -> int:
        """How many different messages came since the last time, without those that hang."""
        return sum(server != self.hanging for server, _ in self._late_ms)

    def take(self) -> dict[str, Any]:
        """Return what came since the last time."""
        taken = {
            "late_ms": self._late_ms,
            "repeats": self._repeats,
            "seconds": self._last - self._first,
        }
        self._late_ms, self._repeats, self._first = [], 0, 0.0
        return taken


class _Connection(asyncio.Protocol):
    def __init__(self, servers: Servers, number: int) -> None:
        self._servers = servers
        self._number = number
        self._transport: Any = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received)
        if length is None or len(self._received) < head + 4 + int(length[1]):
            return
        event = _ID.search(self._received)
        self._received = b""
        if event is not None:
            self._servers.got(self._number, event[1])
        if self._servers.hanging == self._number:
            asyncio.get_running_loop().call_later(HANGS_S, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def _main() -> None:
    loop, servers = asyncio.get_running_loop(), Servers()
    opened: list[asyncio.Server] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, _, number = line.strip().partition(" ")
        if command == "open":
            for each in range(int(number)):
                factory = partial(_Connection, servers, each)
                made = await loop.create_server(factory, "127.0.0.1", 0, backlog=512)
                opened.append(made)
            _say([each.sockets[0].getsockname()[1] for each in opened])
        elif command == "count":
            _say(servers.count)
        elif command == "take":
            _say(servers.take())
        else:
            servers.hanging = int(number) if command == "hang" else -1
            _say(servers.hanging)


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
