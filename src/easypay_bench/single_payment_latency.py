"""Latency of one payment at a time on an idle gateway, and how much of it is our own time.

Our own time is what the client measured, network included, without the processor's part, which the
gateway reports in its Server-Timing header.
"""

import socket
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from easypay_bench.generator import CREATED, reply_length
from easypay_bench.load import Job, LoadFailed
from easypay_bench.performance_bars import spread

_TIMEOUT_S: Final = 30.0
_UNCOUNTED: Final = 50
PARTS: Final = ("begin", "processor", "record")


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Spreads in milliseconds over payments, one at a time over one connection."""

    payments: int
    total_ms: dict[str, float]
    own_ms: dict[str, float]
    commits_ms: dict[str, float]
    """begin and record together: the database's part of our own time."""
    processor_ms: dict[str, float]


class Payer:
    """One keep-alive connection that takes payments one after another."""

    def __init__(self, job: Job) -> None:
        self.paid = 0
        self._orders = job.orders
        self._number = job.first_number
        self._connection = socket.create_connection((job.host, job.port), timeout=_TIMEOUT_S)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pay(self) -> tuple[float, bytes]:
        """Take one payment; return the milliseconds it took and the whole reply.

        Raises LoadFailed for a reply that is not 201.
        """
        self._number += 1
        request = self._orders.request("u", self._number)
        sent_at = perf_counter()
        reply = _exchange(self._connection, request)
        took_ms = (perf_counter() - sent_at) * 1000
        self.paid += 1
        return took_ms, reply

    def close(self) -> None:
        self._connection.close()


def measure(payer: Payer, seconds: float) -> Unloaded:
    """Take payments for `seconds`, after a few uncounted ones.

    Raises LoadFailed for a reply that is not 201 or has no timing.
    """
    for _ in range(_UNCOUNTED):
        payer.pay()
    samples: list[tuple[float, dict[str, float]]] = []
    ends_at = perf_counter() + seconds
    while perf_counter() < ends_at:
        took_ms, reply = payer.pay()
        samples.append((took_ms, timing_ms(reply)))
    return Unloaded(
        payments=len(samples),
        total_ms=spread([total for total, _ in samples]),
        own_ms=spread([total - parts["processor"] for total, parts in samples]),
        commits_ms=spread([parts["begin"] + parts["record"] for _, parts in samples]),
        processor_ms=spread([parts["processor"] for _, parts in samples]),
    )


def timing_ms(reply: bytes) -> dict[str, float]:
    """Return begin, processor and record of the Server-Timing. Raises LoadFailed without them."""
    for line in reply.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "server-timing":
            entries = (entry.strip().partition(";dur=") for entry in value.split(","))
            durations = {part: float(duration) for part, _, duration in entries if duration}
            if all(part in durations for part in PARTS):
                return {part: durations[part] for part in PARTS}
    raise LoadFailed("a reply without begin, processor and record in its Server-Timing")


def _exchange(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    reply = b""
    length: int | None = None
    while length is None or len(reply) < length:
        received = connection.recv(65_536)
        if not received:
            raise LoadFailed("the gateway closed the connection")
        reply += received
        length = reply_length(reply)
    if reply[9:12] != CREATED:
        raise LoadFailed(f"expected 201: {reply[:600].decode(errors='replace')}")
    return reply
