"""An answer of few bytes that announces a long list costs nothing: it is refused before anybody
makes that list."""

import asyncio
import random
import time
from contextlib import suppress

import hiredis
import pytest

from easypay.cache.announced import MOST, Announced
from easypay.cache.connection import CacheUnavailable, connect
from easypay.cache.url import parse

HONEST = (
    b"$5\r\n*9\r\n!\r\n$-1\r\n$0\r\n\r\n*-1\r\n"
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$21\r\n\r\n*999999999\r\n>999999\r\n"
    b"%1\r\n+a\r\n:1\r\n_\r\n#t\r\n,1.5\r\n=7\r\ntxt:abc\r\n-ERR no\r\n*2\r\n~1\r\n+x\r\n*0\r\n"
)
"""Every kind of element, and strings that look like announcements."""
NOT_WHOLE = object()


def test_what_an_honest_server_sends_passes_in_pieces_of_any_size() -> None:
    reader = hiredis.Reader(notEnoughData=NOT_WHOLE)
    reader.feed(HONEST)
    while reader.gets() is not NOT_WHOLE:
        pass
    assert not reader.has_data(), "it is the protocol"
    rng = random.Random(5)
    for _ in range(200):
        announced, at = Announced(), 0
        while at < len(HONEST):
            size = rng.randint(1, 12)
            announced.check(HONEST[at : at + size])
            at += size
        # It knows where it is: whatever comes next is the first line of an answer.
        announced.check(b"*%d\r\n" % MOST)
        with pytest.raises(ValueError, match="announces"):
            announced.check(b">%d\r\n" % (MOST + 1))


@pytest.mark.parametrize(
    "sent", [b"*x\r\n", b"$\r\n", b"+" + b"a" * 70_000, b"%999999999\r\n", b"*1\r\n~999999\r\n"]
)
def test_what_is_not_the_protocol_is_refused(sent: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason is good
        Announced().check(sent)


@pytest.mark.parametrize("sent", [b">999999999\r\n", b"*1\r\n>99999999\r\n", b"*2147483647\r\n"])
async def test_thirteen_bytes_do_not_stop_the_process(sent: bytes) -> None:
    async def lie(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    async with await asyncio.start_server(lie, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = parse(f"redis://127.0.0.1:{port}")
        connection = await connect(url, url.addresses[0], lambda _: None, 2)
        began = time.process_time()
        with pytest.raises(CacheUnavailable, match="not the protocol"):
            await connection.send("ECHO", "x")
        assert time.process_time() - began < 0.1
        assert not connection.is_open


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"*1000\r\n" + b"*0\r\n" * 1000, "more than 100,000 elements"),
        (b"$4000000\r\n" + b"x" * 4_000_000 + b"\r\n", "too long"),
    ],
    ids=["lists", "strings"],
)
async def test_an_answer_that_does_not_end_is_left_before_it_takes_much_memory(
    block: bytes, why: str
) -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"*10000\r\n")
        with suppress(ConnectionError):
            while sent < 100_000_000:
                writer.write(block)
                await writer.drain()
                sent += len(block)
        writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = parse(f"redis://127.0.0.1:{port}")
        connection = await connect(url, url.addresses[0], lambda _: None, 2)
        with pytest.raises(CacheUnavailable, match=why):
            await asyncio.wait_for(connection.send("ECHO", "x"), 20)
        assert not connection.is_open
    assert sent < 40_000_000
