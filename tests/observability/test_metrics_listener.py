"""The metrics listener: no key, only metrics, one listening process per host."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError

from easypay.observability import metrics_listener
from easypay.observability.metric_registry import CONTENT_TYPE
from easypay.observability.metrics_listener import MetricsListener
from easypay.settings import Settings
from harness import QUICK, Stack, free_port, http_client, until


def _up(accept: bytes) -> tuple[bytes, bytes]:
    return b"up 1\n", CONTENT_TYPE


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A listener in this process, with short time limits."""
    monkeypatch.setattr(metrics_listener, "HEAD_WITHIN_S", 0.3)
    at = free_port()
    task = asyncio.create_task(MetricsListener(f"127.0.0.1:{at}", _up).run())
    yield at
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def fetch(port: int, *parts: bytes) -> bytes:
    """Return the whole answer."""

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return None

    reader, writer = await until(connected, what="a process listens")
    try:
        for part in parts:
            writer.write(part)
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_listener_serves_only_metrics(port: int) -> None:
    whole = await fetch(port, b"GET /metrics HTTP/1.1\r\n", b"Host: x\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in whole
    assert whole.endswith(b"\r\n\r\nup 1\n")
    assert (await fetch(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")
    for path in (b"/", b"/api/v1/payments", b"/readyz", b"/metrics/x", b"//metrics"):
        assert (await fetch(port, b"GET %b HTTP/1.1\r\n\r\n" % path))[9:12] == b"404"
    assert (await fetch(port, b"POST /metrics HTTP/1.1\r\n\r\n"))[9:12] == b"405"


async def test_a_client_that_sends_too_much_or_too_little_is_disconnected(port: int) -> None:
    assert await fetch(port, b"GET /metrics HTTP/1.1\r\nX: ", b"x" * 100_000) == b""
    assert await fetch(port, b"GET /metrics HTTP/1.1\r\n") == b"", "half a head"
    assert await fetch(port) == b"", "nothing"
    silent = await asyncio.gather(
        *(
            asyncio.open_connection("127.0.0.1", port)
            for _ in range(3 * metrics_listener.MOST_READERS)
        )
    )
    for reader, writer in silent:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    assert (await fetch(port, b"GET /metrics HTTP/1.1\r\n\r\n")).endswith(b"up 1\n")


async def test_one_process_listens_and_another_takes_over(stack: Stack) -> None:
    address = f"127.0.0.1:{free_port()}"
    shared = str(stack.folder / "metrics")
    given = {**QUICK, "metrics_dir": shared, "metrics_listen": address}
    first = await stack.gateway(**given)
    second = await stack.gateway(**given)
    shop = await stack.shop(second)
    assert (await shop.pay()).status_code == 201
    async with http_client(base_url=f"http://{address}") as client:

        async def shows(processes: int) -> bool:
            try:
                text = (await client.get("/metrics")).text
            except httpx.TransportError:
                return False
            return f"easypay_processes {processes}.0" in text and 'operation="sale"' in text

        await until(lambda: shows(2), what="one process listens and reports both")
        first.kill()
        await until(lambda: shows(1), what="the other listens instead")
        assert (await client.get("/readyz")).status_code == 404
    assert second.terminate() == 0
    assert "cannot show metrics" not in second.logs()


@pytest.mark.parametrize(
    "address", ["9464", ":9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:9464", "a:b"]
)
def test_an_invalid_address_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(ValidationError, match="metrics_listen"):
        Settings(database_url="postgresql://x", encryption_key="x", metrics_listen=address)  # type: ignore[arg-type]
