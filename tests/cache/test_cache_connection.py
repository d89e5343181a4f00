"""A fault of our own, met while the shared cache is followed, is called by its name."""

import asyncio
from collections.abc import Sequence

import pytest

from easypay.cache.connection import CacheUnavailable, connect
from easypay.cache.url import parse


async def test_a_fault_of_ours_is_not_taken_for_one_of_the_protocol(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n+late\r\n")
        writer.close()

    def fails(keys: Sequence[bytes] | None) -> None:
        raise LookupError(f"a bug about {keys}")

    async with await asyncio.start_server(tell, "127.0.0.1", 0) as server:
        url = parse(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connection = await connect(url, url.addresses[0], fails, 5)
        with pytest.raises(CacheUnavailable, match="what it tells cannot be followed"):
            await connection.send("ECHO", "x")
        assert not connection.is_open, "it has not forgotten what it was told to forget"
        assert connection.known_at == float("-inf"), "so nothing that it knows may be used"
    assert "LookupError: a bug about [b'key']" in caplog.text
