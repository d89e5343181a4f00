"""Sends payments from a process of its own (`python -m easypay_bench.work.sender`).

It reads its order as one JSON line, says `ready` when every connection is open, waits for `go`,
sends, waits for the answers, and reports in one JSON line; at each further `go` it sends as many
payments again. With a rate, payments are sent by the
clock and latency counts from when each was due; without one, each connection sends its next payment
when the last is answered.
"""

import asyncio
import hmac
import json
import re
import secrets
import string
import sys
from collections import Counter, deque
from time import perf_counter
from typing import Any, Final

import msgspec
import uvloop

from easypay import ids
from easypay_bench.generator import cpu_s, reply_length
from easypay_bench.payment_request import AMOUNTS, LOWEST_MINOR, PATH, body_of
from easypay_bench.performance_bars import spread

_LAST_ANSWER_S: Final = 30.0
SLOW_S: Final = 0.01
MOST_SLOW: Final = 2_000
_TOTAL_MS: Final = re.compile(rb"\btotal;dur=([0-9.]+)")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. Payments go to the merchants of `api_keys` in turn. `tokens`: pay with one of
    these each instead of a card. `stored`: with these stored methods in turn. `rate` 0: as fast as
    answers come."""

    host: str
    port: int
    api_keys: list[str]
    count: int
    connections: int = 64
    rate: float = 0.0
    tokens: list[str] = []
    stored: list[str] = []
    queued: bool = False
    notify: str = ""
    """Where notifications of the processor go; if set, they are sent instead of payments."""
    signature_key: str = ""


class SlowAnswer(msgspec.Struct, frozen=True):
    """An answer that took longer than `SLOW_S`. `due`: when its request was due, by `perf_counter`,
    which all processes of a machine share. `total_s`: how long the gateway says that it had it
    (Server-Timing); 0 if it says nothing. Both in seconds."""

    due: float
    took_s: float
    total_s: float


class Sent(msgspec.Struct, frozen=True):
    """What came of an order. Latencies in milliseconds, from p50 to max."""

    seconds: float
    answers: dict[str, int]
    """Status -> how often."""
    latency_ms: dict[str, float]
    cpu_s: float
    slow: list[SlowAnswer] = []
    """The first `MOST_SLOW` of them, if payments were sent at a rate."""


class Sender:
    """Shared by all connections: what is due, and what was answered."""

    def __init__(self, order: Order) -> None:
        self.order = order
        # Letters only: digits next to digits could look like a card number, and be refused.
        self._run = "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))
        self._number = 0
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self.answers: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.slow: list[SlowAnswer] = []
        self._all_answered = asyncio.Event()

    async def connect(self) -> None:
        """Open every connection."""
        loop, order = asyncio.get_running_loop(), self.order
        for _ in range(order.connections):
            _, made = await loop.create_connection(
                lambda: _Connection(self), order.host, order.port
            )
            self._idle.append(made)

    async def send(self) -> Sent:
        """Send everything, and return what came of it."""
        self.answers, self.latencies_s = Counter(), []
        self._all_answered.clear()
        order, used_s, started = self.order, cpu_s(), perf_counter()
        if order.rate:
            await self._by_the_clock(started)
        else:
            self._due.extend([0.0] * order.count)
            while self._idle and self._due:
                self._next(self._idle.popleft())
        try:
            await asyncio.wait_for(self._all_answered.wait(), _LAST_ANSWER_S + order.count / 100)
        except TimeoutError:
            self.answers["none"] = order.count - sum(self.answers.values())
        return Sent(
            perf_counter() - started,
            dict(self.answers),
            spread([each * 1000 for each in self.latencies_s]),
            cpu_s() - used_s,
            self.slow,
        )

    async def _by_the_clock(self, started: float) -> None:
        for number in range(self.order.count):
            due = started + number / self.order.rate
            if (early_s := due - perf_counter()) > 0:
                await asyncio.sleep(early_s)
            # A timer may fire early: what is sent early counts from its sending.
            self._due.append(min(due, perf_counter()))
            if self._idle:
                self._next(self._idle.popleft())

    def _next(self, connection: "_Connection") -> None:
        due = self._due.popleft()
        connection.send(self._request(), due or perf_counter())

    def answered(self, answer: bytes, due: float, took_s: float) -> None:
        """Count an answer. Of a slow one, remember what the gateway says of it."""
        self.answers[answer[9:12].decode("latin-1")] += 1
        self.latencies_s.append(took_s)
        if self.order.rate and took_s > SLOW_S and len(self.slow) < MOST_SLOW:
            told = _TOTAL_MS.search(answer)
            total_s = 0.0 if told is None else float(told[1]) / 1000
            self.slow.append(SlowAnswer(due, took_s, total_s))

    def free(self, connection: "_Connection") -> None:
        """Give a connection its next payment, or let it wait for one."""
        if self._due:
            self._next(connection)
            return
        self._idle.append(connection)
        if sum(self.answers.values()) >= self.order.count:
            self._all_answered.set()

    def _request(self) -> bytes:
        number = self._number
        self._number += 1
        return self._notification(number) if self.order.notify else self._payment(number)

    def _notification(self, number: int) -> bytes:
        order = self.order
        body = msgspec.json.encode(
            {
                "notificationId": f"{self._run}-{number}",
                "eventType": "net.authorize.payment.authcapture.created",
                "eventDate": "2026-01-01T00:00:00.0000000Z",
                "payload": {
                    "id": f"{6_000_000_000 + number}",
                    "invoiceNumber": ids.reference(ids.new_id()),
                },
            }
        )
        signature = hmac.digest(order.signature_key.encode(), body, "sha512").hex()
        head = (
            f"POST {order.notify} HTTP/1.1\r\nHost: {order.host}:{order.port}\r\n"
            f"X-ANET-Signature: sha512={signature}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _payment(self, number: int) -> bytes:
        order = self.order
        paid = body_of(
            amount=LOWEST_MINOR + number % AMOUNTS, order_reference=f"order-{self._run}-{number}"
        )
        if order.tokens:
            token = {
                "data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT",
                "data_value": order.tokens[number],
            }
            paid["payment_method"] = {"type": "accept_token", "accept_token": token}
        if order.stored:
            method = order.stored[number % len(order.stored)]
            del paid["billing_address"]  # it is stored with the method
            paid["payment_method"] = {"type": "stored", "stored": {"id": method}}
        body = msgspec.json.encode(paid)
        prefer = "Prefer: respond-async\r\n" if order.queued else ""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {order.host}:{order.port}\r\n{prefer}"
            f"Authorization: Bearer {order.api_keys[number % len(order.api_keys)]}\r\n"
            f"Idempotency-Key: work-{self._run}-{number}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._transport: Any = None
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        length = reply_length(self._received)
        if length is None or len(self._received) < length:
            return
        answer, self._received = self._received, b""
        self._sender.answered(answer, self._due, perf_counter() - self._due)
        self._sender.free(self)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    line = await loop.run_in_executor(None, sys.stdin.readline)
    sender = Sender(msgspec.json.decode(line, type=Order))
    await sender.connect()
    _say("ready")
    while await loop.run_in_executor(None, sys.stdin.readline):
        _say(json.dumps(msgspec.to_builtins(await sender.send())))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
