"""The programs of a measurement: who pays, who gets webhooks, and where tokens come from."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from easypay_bench.http_calls import StackFailed
from easypay_bench.load import LoadFailed
from easypay_bench.stack import PROCESSOR_PATH, Merchant, Stack
from easypay_bench.work import committer
from easypay_bench.work.sender import Order, Sent

_MINTING: Final = 32
Start = TypeVar("Start")
_LONGEST_LINE: Final = 1 << 28


@asynccontextmanager
async def _program(module: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"easypay_bench.work.{module}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process, text: str) -> str:
    """Write a line, and return the line that is answered. Raises LoadFailed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text.encode() + b"\n")
    await process.stdin.drain()
    answer = await process.stdout.readline()
    if not answer:
        raise LoadFailed("a program of the measurement ended: see what it printed")
    return answer.decode()


async def pay(
    stack: Stack,
    merchants: list[Merchant],
    count: int,
    *,
    rate: float = 0.0,
    tokens: list[str] | None = None,
    stored: Sequence[str] = (),
    queued: bool = False,
    connections: int = 64,
    on_start: Callable[[], Awaitable[None]] | None = None,
) -> Sent:
    """Take `count` payments, at `rate` per second or as fast as answers come. Tokens are used up.
    `stored`: pay with these stored methods in turn.

    Raises LoadFailed if one is not answered 201 (`queued`: 202).
    """
    used = None
    if tokens is not None:
        used, tokens[:count] = tokens[:count], []
    order = Order(
        host=stack.host,
        port=stack.port,
        api_keys=[each.api_key for each in merchants],
        count=count,
        connections=connections,
        rate=rate,
        tokens=used or [],
        stored=list(stored),
        queued=queued,
    )
    return await _sent(order, "202" if queued else "201", on_start)


async def notify(stack: Stack, path: str, signature_key: str, count: int, *, rate: float) -> Sent:
    """Send `count` notifications of the processor at a rate. Raises LoadFailed if one is not
    answered 200."""
    order = Order(
        host=stack.host,
        port=stack.port,
        api_keys=[],
        count=count,
        rate=rate,
        notify=path,
        signature_key=signature_key,
    )
    return await _sent(order, "200")


@asynccontextmanager
async def payer(
    stack: Stack, merchant: Merchant, count: int, *, rate: float, stored: Sequence[str] = ()
) -> AsyncIterator[Callable[[], Awaitable[Sent]]]:
    """Yield a function that takes `count` payments each time, over connections that stay open."""
    order = Order(
        host=stack.host,
        port=stack.port,
        api_keys=[merchant.api_key],
        count=count,
        rate=rate,
        stored=list(stored),
    )
    async with _program("sender") as process:
        await _line(process, json.dumps(msgspec.to_builtins(order)))
        yield lambda: _go(process, order, "201")


async def _sent(
    order: Order, wanted: str, on_start: Callable[[], Awaitable[None]] | None = None
) -> Sent:
    async with _program("sender") as process:
        await _line(process, json.dumps(msgspec.to_builtins(order)))
        if on_start is not None:
            await on_start()
        return await _go(process, order, wanted)


async def _go(process: asyncio.subprocess.Process, order: Order, wanted: str) -> Sent:
    sent = msgspec.json.decode(await _line(process, "go"), type=Sent)
    if sent.answers != {wanted: order.count}:
        raise LoadFailed(f"of {order.count} not all were answered {wanted}: {sent.answers}")
    return sent


async def commit(
    stack: Stack,
    merchant: Merchant,
    count: int,
    rate: float,
    on_start: Callable[[], Awaitable[Start]],
) -> tuple[Start, committer.Taken]:
    """Take payments through the gateway's statements alone, `rate` per second as far as possible.
    `on_start` is called when the lanes are warm, and what it returns is returned. Raises
    LoadFailed."""
    order = committer.Order(
        database_url=stack.database_url, merchant_id=merchant.id, count=count, rate=rate
    )
    async with _program("committer") as process:
        await _line(process, msgspec.json.encode(order).decode())
        start = await on_start()
        return start, msgspec.json.decode(await _line(process, "go"), type=committer.Taken)


class Came(msgspec.Struct, frozen=True):
    """What came to the receivers. `late_ms`: for each message that came the first time, the number
    of its receiver, and how old its event was, in milliseconds."""

    late_ms: list[tuple[int, float]]
    repeats: int
    seconds: float
    """From the first message to the last."""

    def of(self, *, but: int = -1) -> list[float]:
        """Return how late the messages were, in rising order, without those of one receiver."""
        return sorted(ms for server, ms in self.late_ms if server != but)


class Receivers:
    """The merchants' servers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def open(self, count: int) -> list[str]:
        """Open servers, and return their URLs."""
        ports = json.loads(await _line(self._process, f"open {count}"))
        return [f"http://127.0.0.1:{port}/webhooks" for port in ports]

    async def hang(self, number: int | None) -> None:
        """Let one server hang; None: none."""
        await _line(self._process, "heal" if number is None else f"hang {number}")

    async def until(self, count: int, within_s: float = 120.0) -> None:
        """Wait until so many different messages came since `take`. Raises LoadFailed."""

        async def came() -> bool:
            return int(await _line(self._process, "count")) >= count

        await asked(came, within_s, f"{count} webhooks did not come")

    async def take(self) -> Came:
        """Return what came since the last time."""
        return msgspec.json.decode(await _line(self._process, "take"), type=Came)


@asynccontextmanager
async def receivers() -> AsyncIterator[Receivers]:
    """Run the receivers' process."""
    async with _program("receivers") as process:
        yield Receivers(process)


async def mint(stack: Stack, merchant: Merchant, count: int) -> list[str]:
    """Return so many Accept tokens of a merchant's processor account. Raises StackFailed."""
    body = json.dumps(
        {
            "securePaymentContainerRequest": {
                "merchantAuthentication": {
                    "name": merchant.login,
                    "transactionKey": merchant.transaction_key,
                },
                "data": {
                    "type": "TOKEN",
                    "id": "bench",
                    "token": {"cardNumber": "4111111111111111", "expirationDate": "122035"},
                },
            }
        }
    ).encode()
    parts = urlsplit(stack.simulator_url)
    request = (
        f"POST {PROCESSOR_PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    tokens: list[str] = []
    left = iter(range(count))

    async def some() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in left:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            answer = json.loads((await reader.readexactly(length)).decode("utf-8-sig"))
            if "opaqueData" not in answer:
                raise StackFailed(f"the simulator gives no token: {answer}")
            tokens.append(answer["opaqueData"]["dataValue"])
        writer.close()

    await asyncio.gather(*(some() for _ in range(_MINTING)))
    return tokens


async def asked(
    question: Callable[[], Awaitable[Any]], within_s: float, complaint: str, pause_s: float = 0.02
) -> Any:
    """Ask again and again until the answer is true, and return it. Raises LoadFailed."""
    try:
        async with asyncio.timeout(within_s):
            while not (answer := await question()):  # noqa: ASYNC110
                await asyncio.sleep(pause_s)
    except TimeoutError:
        raise LoadFailed(f"{complaint} within {within_s:.0f} s") from None
    return answer
