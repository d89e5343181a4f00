"""Each client's connections, memory and time are limited, and a refusal states its reason."""

import asyncio
import contextlib
import ipaddress
import itertools
import os
import re
import resource
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from easypay.server.client_connections import Clients, Limits, Phase
from harness import ADMIN_KEY, Gateway, Shop, Stack, counted, until
from raw import Line, dial, post

ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
GET = b"GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n"
HASTY = {"head_timeout_s": "1.5", "body_timeout_s": "1.5", "answer_timeout_s": "1.5"}


@pytest.fixture
async def hasty(shared_stack: Stack) -> AsyncIterator[Gateway]:
    """A gateway whose limits are short enough to wait for."""
    started = await shared_stack.gateway(**HASTY)
    yield started
    assert started.running, started.logs()
    assert "Traceback" not in started.logs()
    started.kill()


def resident_kib(gateway: Gateway) -> int:
    with open(f"/proc/{gateway.pid}/status") as file:
        found = re.search(r"VmRSS:\s+(\d+)", file.read())
    assert found
    return int(found[1])


async def pour(writer: asyncio.StreamWriter, parts: itertools.chain[bytes], most: int) -> int:
    """Write until all is written or the other side stops reading; return the bytes written."""
    sent = 0
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            sent += len(part)
            if sent >= most or writer.transport.is_closing():
                break
    except ConnectionError:
        pass
    return sent


START = b"GET /livez HTTP/1.1\r\nHost: shop\r\n"
ENDLESS = {
    "one header": (START + b"X-A: ", b"a" * 1000, (431, "head_too_large")),
    "headers": (START, b"X-A: b\r\n" * 100, (431, "head_too_large")),
    "a path": (b"GET /", b"a" * 1000, (431, "head_too_large")),
    "a method": (b"", b"A" * 1000, (400, "malformed_request")),
    "a header's name": (START, b"a" * 1000, (431, "head_too_large")),
    "a header's padding": (START + b"X-A:", b" " * 1000, (431, "head_too_large")),
}
CHUNKED = (
    b"POST /api/v1/payments HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/json\r\n\r\n"
)
ENDLESS |= {
    "a chunk's extension": (CHUNKED + b"1;", b"a" * 1000, (413, "body_too_large")),
    "a chunk's size": (CHUNKED, b"0" * 1000, (413, "body_too_large")),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n" * 100, (413, "body_too_large")),
    "one trailer": (CHUNKED + b"0\r\nX-A: ", b"a" * 1000, (413, "body_too_large")),
    "chunks": (CHUNKED, b"3e8\r\n" + b"a" * 1000 + b"\r\n", (413, "body_too_large")),
}


@pytest.mark.parametrize(("start", "more", "refused"), ENDLESS.values(), ids=ENDLESS)
async def test_an_endless_part_of_a_request_is_refused_at_its_limit(
    gateway: Gateway, start: bytes, more: bytes, refused: tuple[int, str]
) -> None:
    async with dial(gateway) as line:
        pouring = asyncio.create_task(
            pour(line.writer, itertools.chain([start], itertools.repeat(more)), 50_000_000)
        )
        assert await line.refused() == refused
        await pouring
    async with dial(gateway) as line:
        line.writer.write(GET)
        assert (await line.answer())[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_head_of_16_kib_is_accepted_and_a_larger_one_refused(
    gateway: Gateway, in_pieces: bool
) -> None:
    def head(size: int) -> bytes:
        lines = START + b"X-A: " + b"a" * 4000 + b"\r\n" + b"X-B: "
        return lines + b"b" * (size - len(lines) - 4) + b"\r\n\r\n"

    for size, expected in ((16 * 1024, 200), (17 * 1024, 431)):
        async with dial(gateway) as line:
            sent = head(size)
            assert len(sent) == size
            for at in range(0, size, 999 if in_pieces else size):
                line.writer.write(sent[at : at + (999 if in_pieces else size)])
                await line.writer.drain()
            assert int((await line.answer())[0].split()[1]) == expected


async def test_refused_input_takes_no_memory(gateway: Gateway) -> None:
    """20 MB in a header, in a body of known length, in chunks, in pipelined requests."""
    before = resident_kib(gateway)
    length = post("/payments", "none", b"")
    length = length.replace(b"Content-Length: 0", b"Content-Length: 1000000000")
    for start, more in (
        (START + b"X-A: ", b"a" * 65_536),
        (length, b"a" * 65_536),
        (CHUNKED, b"10000\r\n" + b"a" * 65_536 + b"\r\n"),
        (b"", GET * 1000),
    ):
        async with dial(gateway) as line:
            parts = itertools.chain([start], itertools.repeat(more))
            try:
                async with asyncio.timeout(1.5):  # it stops reading, or the client is cut off
                    await pour(line.writer, parts, 20_000_000)
            except TimeoutError:
                pass
            assert resident_kib(gateway) - before < 20_000
            line.writer.transport.abort()


async def test_thousands_of_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """All are sent at once, and only a part is read before the first answers are read."""
    async with dial(gateway) as line:
        nowhere = GET.replace(b"/livez", b"/nowhere")
        answering = asyncio.create_task(pour(line.writer, iter([(GET + nowhere) * 2000]), 10**9))
        for _ in range(2000):
            assert (await line.answer())[0] == b"HTTP/1.1 200 OK"
            assert (await line.answer())[0] == b"HTTP/1.1 404 Not Found"
        await answering
        line.writer.write(GET)
        assert (await line.answer())[0] == b"HTTP/1.1 200 OK"


async def test_silent_and_half_finished_connections_are_closed(
    hasty: Gateway, shop: Shop, shared_stack: Stack
) -> None:
    """All at once: silent, line ends only, half a head, a head without its body, half a body, half
    a head after an answer, and a client that reads nothing. An idle connection stays open."""
    body = b'{"amount": 1}'
    whole = post("/payments/pay_0/refunds", shop.secret, body, key="half")
    # 17 times 150 kB of documentation exceed the system's socket buffers.
    stuck = b"GET /docs/payments HTTP/1.1\r\nHost: shop\r\n\r\n" * 100
    began = asyncio.get_running_loop().time()

    async def end_of(sent: bytes, *, drip: bytes = b"", answers: int = 0) -> bytes:
        async with dial(hasty) as line:
            line.writer.write(sent)
            for _ in range(answers):
                await line.answer()
            ending = asyncio.create_task(line.reader.read())
            while drip and not ending.done():
                line.writer.write(drip)
                await asyncio.sleep(0.1)
                # Bytes to a connection that was closed meanwhile would discard what was answered.
                await asyncio.wait([ending], timeout=0)
            received = await ending
            assert 1.4 < asyncio.get_running_loop().time() - began < 6
            return received

    async def unread() -> None:
        with socket.create_connection(("127.0.0.1", hasty.port)) as one:
            one.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(one, stuck)

            async def cut_off() -> bool:
                return not await open_connections(hasty, to=one.getsockname()[1])

            await until(cut_off)

    async def idle() -> None:
        async with dial(hasty) as line:
            line.writer.write(GET)
            await line.answer()
            await asyncio.sleep(4)
            line.writer.write(GET)
            assert (await line.answer())[0] == b"HTTP/1.1 200 OK"

    ends = await asyncio.gather(
        end_of(b""),
        end_of(b"\r\n", drip=b"\r\n"),
        end_of(GET[:-2]),
        end_of(GET[:-2], drip=b"X-A: b\r\n"),
        end_of(whole[: -len(body)]),
        end_of(whole[:-1]),
        end_of(CHUNKED + b"1;", drip=b"a"),
        end_of(GET + GET[:-2], answers=1),
        unread(),
        idle(),
    )
    assert ends[:2] == [b"", b""]
    for received in ends[2:8]:
        assert received is not None
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in received
    used = await shop.at(hasty.url).client.get("/idempotency-keys/half")
    assert used.status_code == 404


async def open_connections(gateway: Gateway, *, to: int) -> bool:
    """Whether the gateway's end of the connection from port `to` is still there."""
    remote, local = f":{to:04X}", f":{gateway.port:04X}"
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file]
    return any(row[1].endswith(local) and row[2].endswith(remote) for row in rows)


async def test_a_refusal_follows_the_answers_to_earlier_requests(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    """A payment with garbage behind it gets its own answer, then the garbage is refused."""
    await shared_stack.simulator.slow(shop.login, ms=200)
    payment = (
        b'{"amount": 100, "currency": "USD", "payment_method": {"type": "card", "card": {"number":'
        b' "4111111111111111", "exp_month": 12, "exp_year": 2035, "cvc": "907"}}}'
    )
    async with dial(gateway) as line:
        for_payment = post("/payments", shop.secret, payment, key="first")
        broken = post("/payments", shop.secret, b"zz\r\n", "Transfer-Encoding: chunked", key="two")
        line.writer.write(for_payment + broken)
        status, paid = await line.json_answer()
        assert (status, paid["status"]) == (201, "captured")
        assert await line.refused() == (400, "malformed_request")
    assert (await shop.client.get("/idempotency-keys/two")).status_code == 404


def test_connections_are_limited_per_address_but_not_for_proxies() -> None:
    clients = Clients(
        Limits(head_bytes=1, longest_s={Phase.HEAD: 1}),
        at_most=20,
        per_address=2,
        trusted=[ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("2001:db8:1::/48")],
    )
    for address, same in (
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:db8::2"),
        ("fe80::1%eth0", "fe80::2"),
    ):
        clients.add(address)
        assert clients.refusal(same) is None
        clients.add(same)
        assert clients.refusal(address) == clients.refusal(same) == "address"
        clients.remove(address)
        assert clients.refusal(same) is None
    assert clients.refusal("192.0.2.2") is None
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.9", "10.1.2.3", "2001:db8:1::5", ""):
        for _ in range(2):
            clients.add(address)
    assert clients.refusal("127.0.0.1") is None
    assert clients.refusal("10.1.2.3") is None
    assert clients.refusal("2001:db8:1::5") is None
    assert clients.refusal("") == "address"
    for _ in range(5):
        clients.add("127.0.0.1")
    assert clients.refusal("127.0.0.1") == "total"


async def test_a_process_limits_its_connections(shared_stack: Stack) -> None:
    gateway = await shared_stack.gateway(max_connections="5")
    try:
        async with contextlib.AsyncExitStack() as lines:
            for _ in range(5):
                line = await lines.enter_async_context(dial(gateway))
                line.writer.write(GET)
                assert (await line.answer())[0] == b"HTTP/1.1 200 OK"
            async with dial(gateway) as sixth:
                assert await closed(sixth)

        async def is_counted() -> bool:
            with contextlib.suppress(httpx.TransportError):
                name = "easypay_connections_turned_away_total"
                return await counted(gateway.url, name, reason="total") > 0
            return False

        await until(is_counted)
    finally:
        gateway.kill()


async def closed(line: Line) -> bool:
    """The connection closes without an answer."""
    try:
        return await line.reader.read() == b""
    except ConnectionError:
        return True


async def test_a_gateway_survives_running_out_of_file_descriptors(hasty: Gateway) -> None:
    """For a while it can open no file and accept no connection. Then it still listens, and its
    gauges still change."""
    soft, hard = resource.prlimit(hasty.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{hasty.pid}/fd"))
    resource.prlimit(hasty.pid, resource.RLIMIT_NOFILE, (used + 3, hard))
    try:
        async with contextlib.AsyncExitStack() as lines:
            first = [await lines.enter_async_context(dial(hasty)) for _ in range(3)]
            first[0].writer.write(GET)
            assert (await first[0].answer())[0] == b"HTTP/1.1 200 OK"
            for _ in range(20):
                one = await lines.enter_async_context(dial(hasty))
                one.writer.write(GET)
            assert await closed(one)
            first[0].writer.write(
                b"GET /metrics HTTP/1.1\r\nHost: shop\r\nAuthorization: %b\r\n\r\n"
                % ADMIN["authorization"].encode()
            )
            assert (await first[0].answer())[0] == b"HTTP/1.1 200 OK"
            await asyncio.sleep(1.5)  # the gauges are read meanwhile
    finally:
        resource.prlimit(hasty.pid, resource.RLIMIT_NOFILE, (soft, hard))
    looks = "easypay_event_loop_lag_seconds_count"
    before = await counted(hasty.url, looks)

    async def moves() -> bool:
        return await counted(hasty.url, looks) > before

    await until(moves)
