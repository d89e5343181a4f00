"""An offered upgrade is ignored: the body is read and answered, and the connection stays open.

A refund of 1 cent that lost its body would refund the whole payment.
"""

import json
import uuid

import pytest

from harness import Gateway, Shop, Stack, audit, card
from raw import chunked, dial, post

GET = b"GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAA")
OFFERS = {
    "h2c, as Java's HttpClient and curl --http2 do": H2C,
    "websocket": (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "something": ("upgrade: something/7, h2c", "connection: keep-alive, UPGRADE"),
    "in two lines": ("Connection: keep-alive", "Connection: upgrade", "Upgrade: TLS/1.0"),
}  # fmt: skip


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
async def test_a_request_that_offers_an_upgrade_is_done_as_sent(
    shared_stack: Stack, gateway: Gateway, shop: Shop, offer: tuple[str, ...], in_chunks: bool
) -> None:
    """Sent in one packet, in two, byte by byte, and pipelined."""

    def money(path: str, *lines: str, **fields: object) -> bytes:
        body = json.dumps(fields).encode()
        key = str(uuid.uuid4())
        if in_chunks:
            lines += ("Transfer-Encoding: chunked",)
            return post(path, shop.secret, chunked(body), *offer, *lines, key=key)
        return post(path, shop.secret, body, *offer, *lines, key=key)

    async with dial(gateway) as line:
        line.writer.write(
            money("/payments", amount=2500, currency="USD", capture="manual", payment_method=card())
        )
        status, held = await line.json_answer()
        assert (status, held["status"]) == (201, "authorized"), held

        waiting = "Expect: 100-continue"  # so that the head is read before the body is sent
        request = money(f"/payments/{held['id']}/capture", waiting, amount=900)
        head, _, body = request.partition(b"\r\n\r\n")
        line.writer.write(head + b"\r\n\r\n")
        assert (await line.head())[0] == b"HTTP/1.1 100 Continue"
        line.writer.write(body + GET)
        status, captured = await line.json_answer()
        assert (status, captured["captured_amount"]) == (201, 900), captured
        assert (await line.answer())[0] == b"HTTP/1.1 200 OK"

        await shared_stack.simulator.post("/settle")
        refunds = [money(f"/payments/{held['id']}/refunds", amount=amount) for amount in (1, 2, 3)]
        line.writer.write(GET + refunds[0] + refunds[1] + GET)
        answers = [(await line.answer())[2] for _ in range(4)]
        assert answers[0] == answers[3] == b"alive\n"
        assert [json.loads(answer)["amount"] for answer in answers[1:3]] == [1, 2]
        for byte in refunds[2]:
            line.writer.write(bytes([byte]))
            await line.writer.drain()
        line.writer.write(GET)
        assert (await line.json_answer())[1]["amount"] == 3
        assert (await line.answer())[0] == b"HTTP/1.1 200 OK"
    assert (await shop.payment(held["id"]))["refunded_amount"] == 6
    assert await audit(shared_stack, shop) == []


async def test_a_garbage_body_with_an_upgrade_does_nothing(gateway: Gateway, shop: Shop) -> None:
    payment = await shop.paid()
    async with dial(gateway) as line:
        path = f"/payments/{payment['id']}/refunds"
        for body in (b"garbage", b"", b"   "):
            line.writer.write(post(path, shop.secret, body, *H2C, key="garbage"))
            status, problem = await line.json_answer()
            assert (status, problem["code"]) == (400, "malformed_body")
        line.writer.write(GET)
        assert (await line.answer())[0] == b"HTTP/1.1 200 OK"
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 0


async def test_a_body_that_never_comes_does_nothing(gateway: Gateway, shop: Shop) -> None:
    """The connection ends within the body: it must not count as a refund without an amount."""
    payment = await shop.paid()
    for offer in ((), H2C):
        async with dial(gateway) as line:
            path = f"/payments/{payment['id']}/refunds"
            line.writer.write(post(path, shop.secret, b'{"amount": 1}', *offer, key="cut")[:-1])
            await line.writer.drain()
            line.writer.write_eof()
            assert await line.reader.read() == b""
    used = await shop.client.get("/idempotency-keys/cut")
    assert used.status_code == 404
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 0


async def test_connect_opens_no_tunnel(gateway: Gateway) -> None:
    for target in (b"example.com:443", b"/livez"):
        async with dial(gateway) as line:
            head = b"CONNECT %b HTTP/1.1\r\nHost: example.com:443\r\nContent-Length: 5\r\n\r\nhello"
            line.writer.write(head % target + GET)
            status, _, _ = await line.answer()
            assert status.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405"))
            assert (await line.answer())[0] == b"HTTP/1.1 200 OK"
