"""HTTP/1.1 byte by byte: what clients and load balancers rely on."""

from harness import Gateway
from raw import dial

GET = b"GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n"


async def test_an_answer_is_whole_in_the_first_read(gateway: Gateway) -> None:
    """Head and body are one write: the client wakes once."""
    async with dial(gateway) as line:
        line.writer.write(GET)
        received = await line.reader.read(65_536)
        head, body = received.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert body


async def test_a_head_request_is_answered_without_the_body(gateway: Gateway) -> None:
    async with dial(gateway) as line:
        line.writer.write(GET)
        status, headers, body = await line.answer()
        line.writer.write(GET.replace(b"GET", b"HEAD", 1) + GET)
        head_status, head_headers = await line.head()
        assert head_status == status
        assert head_headers.keys() == headers.keys()
        assert int(head_headers[b"content-length"]) == len(body)
        assert (await line.answer())[2] == body  # the HEAD had no body


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    async with dial(gateway) as line:
        line.writer.write(GET + GET.replace(b"/livez", b"/nowhere") + GET)
        statuses = [(await line.answer())[0] for _ in range(3)]
        assert statuses == [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 OK"]


async def test_the_connection_closes_if_the_client_asks(gateway: Gateway) -> None:
    for request in (
        GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        async with dial(gateway) as line:
            line.writer.write(request)
            _, headers, _ = await line.answer()
            assert headers[b"connection"] == b"close"
            assert await line.reader.read() == b""


async def test_a_client_that_expects_100_continue_gets_it(gateway: Gateway) -> None:
    async with dial(gateway) as line:
        line.writer.write(
            b"POST /api/v1/payments HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await line.head())[0] == b"HTTP/1.1 100 Continue"
        line.writer.write(b"{}")
        status, headers, _ = await line.answer()
        assert status == b"HTTP/1.1 401 Unauthorized"
        assert headers[b"www-authenticate"] == b"Bearer"


async def test_invalid_http_is_refused_and_the_gateway_still_serves(gateway: Gateway) -> None:
    async with dial(gateway) as line:
        line.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n")
        status, headers = await line.head()
        assert status == b"HTTP/1.1 400 Bad Request"
        assert headers[b"connection"] == b"close"
    async with dial(gateway) as line:
        line.writer.write(GET)
        assert (await line.answer())[0] == b"HTTP/1.1 200 OK"
