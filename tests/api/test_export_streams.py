"""An export is streamed: it takes no memory, waits for its client, and is whole or visibly cut."""

import asyncio
import json
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard

from easypay.api.paging import FIRST_ID, newest_id
from easypay.db import partitions
from easypay.exporting.run import TookTooLong, run
from easypay.exporting.snapshot import Snapshot
from easypay.exporting.statement import Format, Wish
from easypay.payments.lists import Span
from easypay.payments.search import Filters
from harness import (
    QUICK,
    Gateway,
    Shop,
    Stack,
    connected,
    old_month,
    own_stack,
    payment_uuid,
    until,
)
from harness.many_payments import copies_of
from harness.metrics import counted

PAYMENTS = 60_000
"""About 50 MB as JSON lines: far more than sockets hold."""
MOST_GROWTH = 64 << 20
OURS = "a.datname = current_database() AND a.application_name = 'easypay export'"
EXPORTS = f"SELECT count(*) FROM pg_stat_activity a WHERE {OURS}"
READS = f"""
    SELECT FROM pg_locks JOIN pg_stat_activity a USING (pid)
     WHERE {OURS} AND relation::regclass::text ~ '^payments_2[0-9_]+$'
"""

stack = own_stack(**QUICK, export_share="1", exports="3")


@pytest.fixture(scope="module")
async def exporter(stack: Stack) -> AsyncIterator[Shop]:
    """Return a shop with many payments, and a key that may export."""
    shop = await stack.shop(stack.only_gateway)
    payment = payment_uuid((await shop.paid(description="as it was"))["id"])
    await copies_of(stack.dsn, payment, PAYMENTS - 1)
    made = await stack.with_key(shop, scopes=["payments:export"])
    yield made
    await shop.client.aclose()
    await made.client.aclose()


class Reader:
    """A client that reads when it is told to. Its socket takes little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> int:
        """Return the status."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    async def piece(self) -> bytes:
        """Return the next chunk; the last one is empty."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def body(self) -> tuple[bytes, bool]:
        """Read to the end. Return the bytes, and whether HTTP says that this is all."""
        body = bytearray()
        try:
            while piece := await self.piece():
                body += piece
        except (asyncio.IncompleteReadError, ConnectionError):
            return bytes(body), False
        return bytes(body), True

    async def rest(self) -> tuple[list[bytes], bool]:
        """The same, as lines."""
        body, whole = await self.body()
        return body.splitlines(), whole


class Decoder:
    """Reads a compressed body as it comes."""

    def __init__(self, coding: str) -> None:
        self._codec: Any = {
            "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
            "gzip": lambda: zlib.decompressobj(31),
            "br": brotli.Decompressor,
        }[coding]()

    def read(self, data: bytes) -> bytes:
        if not isinstance(self._codec, brotli.Decompressor):
            return bytes(self._codec.decompress(data))
        parts = [self._codec.process(data)]  # it gives what it has in parts
        while part := self._codec.process(b""):
            parts.append(part)
        return b"".join(parts)

    def is_over(self) -> bool:
        """Return whether the end of the body has come."""
        finished = getattr(self._codec, "is_finished", None)
        return bool(finished() if finished else self._codec.eof)


@asynccontextmanager
async def exporting(gateway: Gateway, shop: Shop, more: bytes = b"") -> AsyncIterator[Reader]:
    """Ask for all payments of a shop. `more`: further lines of the request's head."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    bound.setblocking(False)
    await asyncio.get_running_loop().sock_connect(bound, ("127.0.0.1", gateway.port))
    reader, writer = await asyncio.open_connection(sock=bound, limit=64 * 1024)
    try:
        async with asyncio.timeout(60):
            writer.write(
                b"GET /api/v1/payments/export HTTP/1.1\r\nHost: shop\r\n"
                b"Accept: application/jsonl\r\nAuthorization: Bearer %b\r\n%b\r\n"
                % (shop.secret.encode(), more)
            )
            yield Reader(reader, writer)
    finally:
        writer.close()


async def runs(stack: Stack, count: int) -> None:
    """Wait until so many exports have a connection to the database."""

    async def are_there() -> bool:
        return bool(await stack.value(EXPORTS) == count)

    await until(are_there, what=f"{count} exports run")


def memory_of(gateway: Gateway) -> int:
    """Return the resident memory of a gateway process, in bytes."""
    pages = int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1])
    return pages * 4096


async def test_an_export_takes_no_memory_and_shows_one_moment(stack: Stack, exporter: Shop) -> None:
    """The client stops reading; meanwhile all payments change; then it reads on."""
    gateway = stack.only_gateway
    before = memory_of(gateway)
    async with exporting(gateway, exporter) as client:
        assert await client.head() == 200
        await runs(stack, 1)
        await stack.fetch(
            "UPDATE payments SET description = 'changed' WHERE merchant_id = $1 AND id IN"
            " (SELECT id FROM payments WHERE merchant_id = $1 ORDER BY id LIMIT 1000)",
            exporter.merchant_id,
        )
        grown = [memory_of(gateway) - before]
        reading = asyncio.ensure_future(client.rest())
        while not reading.done():
            await asyncio.wait((reading,), timeout=0.1)
            grown.append(memory_of(gateway) - before)
        lines, whole = reading.result()
    assert whole
    assert json.loads(lines.pop()) == {"rows": PAYMENTS}
    ids = [json.loads(line)["id"] for line in lines]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == PAYMENTS
    assert not any(b'"changed"' in line for line in lines)
    assert max(grown) <= MOST_GROWTH, f"{max(grown) >> 20} MiB"
    await runs(stack, 0)
    ended = await counted(gateway.url, "easypay_export_rows_total")
    assert ended == PAYMENTS


async def test_so_many_exports_run_at_once_and_one_that_ends_frees_its_place(
    stack: Stack, exporter: Shop
) -> None:
    """Two of the merchant over two gateways, and one of all in the second. Then that one dies."""
    gateway = stack.only_gateway
    second = await stack.gateway(**QUICK, export_share="1", exports="1")
    async with exporting(second, exporter) as there:
        assert await there.head() == 200
        answer = await exporter.at(second.url).client.get("/payments/export")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        async with exporting(gateway, exporter) as here:
            assert await here.head() == 200
            answer = await exporter.client.get("/payments/export")
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_exports")
            assert int(answer.headers["retry-after"]) > 0
            here.writer.transport.abort()
            await runs(stack, 1)
        async with exporting(gateway, exporter) as again:
            assert await again.head() == 200
            await runs(stack, 2)
        second.kill()
        assert_cut(await there.rest())
    await runs(stack, 0)

    async def left() -> bool:
        return await counted(gateway.url, "easypay_exports_total", result="left") == 2

    await until(left)
    assert await counted(gateway.url, "easypay_exports_running") == 0


async def test_an_export_whose_database_connection_is_lost_is_cut(
    stack: Stack, exporter: Shop
) -> None:
    async with exporting(stack.only_gateway, exporter) as client:
        assert await client.head() == 200
        await runs(stack, 1)
        await stack.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE {OURS}")
        assert_cut(await client.rest())
    await runs(stack, 0)


async def test_a_client_that_does_not_read_is_cut_and_so_is_every_export_of_a_gateway_that_stops(
    stack: Stack, exporter: Shop
) -> None:
    gateway = await stack.gateway(**QUICK, export_share="1", export_stall_s="0.5")
    async with exporting(gateway, exporter) as client:
        assert await client.head() == 200
        await gateway.logged("the client took more than 0.5 s to read 65,536 bytes")
        assert_cut(await client.rest())
    assert "Traceback" not in gateway.logs()
    assert await counted(gateway.url, "easypay_exports_total", result="cut") == 1
    async with exporting(gateway, exporter) as client:
        assert await client.head() == 200
        assert await asyncio.to_thread(gateway.terminate) == 0
        assert_cut(await client.rest())
    await runs(stack, 0)


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
async def test_a_compressed_export_is_whole_or_has_no_end(
    stack: Stack, exporter: Shop, coding: str
) -> None:
    """Each piece can be read when it arrives. Then its gateway stops, and nobody takes it for
    whole. Once more, to its end."""
    line = f"Accept-Encoding: identity;q=0.1, {coding}\r\n".encode()
    gateway = await stack.gateway(**QUICK, export_share="1")
    async with exporting(gateway, exporter, line) as client:
        assert await client.head() == 200
        decoder = Decoder(coding)
        first = decoder.read(await client.piece())
        assert first.startswith(b'{"id":')
        assert len(first) >= 64 * 1024, "all that was compressed so far"
        assert await asyncio.to_thread(gateway.terminate) == 0
        rest, whole = await client.body()
        decoder.read(rest)
        assert not whole
        assert not decoder.is_over()
    async with exporting(stack.only_gateway, exporter, line) as client:
        assert await client.head() == 200
        body, whole = await client.body()
    assert whole
    decoder = Decoder(coding)
    lines = decoder.read(body).splitlines()
    assert decoder.is_over()
    assert json.loads(lines[-1]) == {"rows": PAYMENTS} == {"rows": len(lines) - 1}
    logged = [each for each in stack.only_gateway.logs().splitlines() if f'"{coding}"' in each]
    assert json.loads(logged[-1])["bytes_out"] == len(body) < PAYMENTS * 200


async def test_a_month_that_was_not_read_yet_can_be_taken_out_and_the_export_says_so(
    stack: Stack, exporter: Shop
) -> None:
    """Neither waits for the other: an export has no lock on the default partition."""
    gateway, month = stack.only_gateway, old_month.start()
    payments = partitions.tables_of(month)["payments"]
    async with connected(stack.dsn) as connection:
        await old_month.make_tables(connection, month)
        async with exporting(gateway, exporter) as client:
            assert await client.head() == 200
            await until(lambda: stack.fetch(READS), what="the newest month is read")
            await connection.execute("SET lock_timeout = '2s'")
            await connection.execute(f"ALTER TABLE payments DETACH PARTITION {payments}")
            await connection.execute(f"DROP TABLE {payments}")
            assert_cut(await client.rest())
    await gateway.logged("cut (A month was archived before the export had read it")
    await runs(stack, 0)
    assert "Traceback" not in gateway.logs()


async def test_a_request_that_is_refused_while_its_export_is_sent_is_cut(
    stack: Stack, exporter: Shop
) -> None:
    """The export begins before the body has come, and nothing is written into it."""
    async with exporting(stack.only_gateway, exporter, b"Content-Length: 9000000\r\n") as client:
        assert await client.head() == 200
        await runs(stack, 1)
        client.writer.write(bytes(9_000_000))
        read = bytearray()
        with suppress(ConnectionError):
            while data := await client.reader.read(64 * 1024):
                read += data
    assert b"HTTP/1.1" not in read
    await runs(stack, 0)


async def test_an_export_that_takes_too_long_is_cut_and_gives_its_snapshot_back(
    stack: Stack, exporter: Shop
) -> None:
    async def sink(data: bytes) -> None:
        await asyncio.sleep(0.05)

    snapshot = await Snapshot.open(stack.dsn, limit_s=0.2)
    span = Span(exporter.merchant_id, "test", FIRST_ID, newest_id())
    with pytest.raises(TookTooLong, match=r"more than 0\.2 s"):
        await run(snapshot, Wish(span, Filters(), Format.CSV), sink, share=1, limit_s=0.2)
    snapshot.cut()
    await runs(stack, 0)


def assert_cut(read: tuple[list[bytes], bool]) -> None:
    """Fail if what was read could be taken for a whole export."""
    lines, whole = read
    assert not whole
    assert len(lines) <= PAYMENTS
    assert not any(line.startswith(b'{"rows"') for line in lines)
