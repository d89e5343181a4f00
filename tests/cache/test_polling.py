"""The same bytes again: a client that polls gets what it may have now, and nothing else."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from easypay.api.conditional import version_tag
from easypay.merchants import admin
from harness.metrics import counted
from harness.processes import Gateway
from harness.sessions import connected
from harness.shop import Shop
from harness.stack import Stack
from harness.waiting import until
from raw import Line, dial, post

OLDER: Final = "Cache-Control: max-age=60"
OLD: Final = "Cache-Control: max-age=1"
"""For more, the gateway would follow the feed, and drop the payment once more when its own event
gets its place."""
TAG: Final = f"If-None-Match: {version_tag(2).decode()}"
PAYMENT: Final = {
    "amount": 2500,
    "currency": "USD",
    "payment_method": {
        "type": "card",
        "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035, "cvc": "907"},
    },
}


def request(shop: Shop, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    head = [
        f"{method} /api/v1{path} HTTP/{version}",
        "Host: shop",
        f"Authorization: Bearer {shop.secret}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


class Answer:
    def __init__(self, status: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status = int(status.split()[1])
        self.headers = headers
        self.body = body

    @property
    def payment(self) -> Any:
        return json.loads(self.body)


async def received(line: Line, *, has_body: bool = True) -> Answer:
    status, headers = await line.head()
    length = int(headers.get(b"content-length", 0)) if has_body else 0
    return Answer(status, headers, await line.reader.readexactly(length))


async def ask(line: Line, packet: bytes, *, has_body: bool = True) -> Answer:
    line.writer.write(packet)
    return await received(line, has_body=has_body)


async def known(line: Line, packet: bytes, *, age_s: int = 0) -> Answer:
    """Poll until the answer comes from the caches, and is that old; then twice more: the last one
    was given without reading the request."""
    found: list[Answer] = []

    async def is_cached() -> bool:
        found.extend([await ask(line, packet) for _ in range(3)])
        return all(int(each.headers.get(b"age", b"-1")) >= age_s for each in found[-3:])

    await until(is_cached, what="the answer comes from the caches")
    return found[-1]


@pytest.fixture
async def line(gateway: Gateway) -> AsyncIterator[Line]:
    async with dial(gateway) as dialled:
        yield dialled


async def test_the_same_request_gets_the_same_answer_under_its_own_id(
    line: Line, gateway: Gateway, shop: Shop
) -> None:
    path = f"/payments/{(await shop.paid())['id']}"
    for packet, status in ((request(shop, path, OLD), 200), (request(shop, path, OLD, TAG), 304)):
        labels = {"http_route": "/api/v1/payments/{id}", "http_response_status_code": str(status)}
        name = "http_server_request_duration_seconds_count"
        before = await counted(shop.url, name, **labels)
        first = await ask(line, packet)
        answers = [await ask(line, packet) for _ in range(9)]
        assert await counted(shop.url, name, **labels) == before + 10
        for each in answers:
            assert (each.status, each.body) == (status, first.body)
            assert _of_all(each) == _of_all(first)
            timing = [
                part.partition(b";dur=") for part in each.headers[b"server-timing"].split(b", ")
            ]
            assert [name for name, _, _ in timing] == [b"auth", b"total"]
            assert all(float(took_ms) >= 0 for _, _, took_ms in timing)
        request_ids = [each.headers[b"request-id"].decode() for each in (first, *answers)]
        assert len(set(request_ids)) == 10
        await _logged_alike(gateway, request_ids)


def _of_all(answer: Answer) -> dict[bytes, bytes]:
    """Return the headers that all answers to a request have in common."""
    own = (b"age", b"request-id", b"server-timing", b"date")
    return {name: value for name, value in answer.headers.items() if name not in own}


async def _logged_alike(gateway: Gateway, request_ids: list[str]) -> None:
    lines: list[dict[str, Any]] = []

    async def all_are_there() -> bool:
        logged = [json.loads(each) for each in gateway.logs().splitlines()]
        lines[:] = [each for each in logged if each.get("request_id") in request_ids]
        return len(lines) == len(request_ids)

    await until(all_are_there, what="each request has its line")
    for each in lines:
        assert each.pop("trace_id") == each.pop("request_id").removeprefix("req_")
        assert 0 <= each.pop("duration_ms") < 10_000
        assert each.pop("time").endswith("Z")
    assert all(each == lines[0] for each in lines), lines


async def test_a_changed_payment_is_seen_at_once(line: Line, shop: Shop) -> None:
    paid = await shop.paid(capture="manual")
    path = f"/payments/{paid['id']}"
    whole, tagged = request(shop, path, OLD), request(shop, path, OLD, TAG)
    assert (await known(line, whole)).payment["status"] == "authorized"
    assert (await known(line, tagged)).status == 304
    await shop.capture(paid["id"])
    assert (await ask(line, tagged)).payment["status"] == "captured"
    assert (await ask(line, whole)).payment["status"] == "captured"


async def test_nothing_is_older_than_allowed(
    line: Line, shop: Shop, second_gateway: Gateway
) -> None:
    """Another gateway captures, and nobody tells this one."""
    paid = await shop.paid(capture="manual")
    packet = request(shop, f"/payments/{paid['id']}", OLD)
    assert (await known(line, packet)).payment["status"] == "authorized"
    await shop.at(second_gateway.url).capture(paid["id"])
    captured_at = asked_at = time.monotonic()
    while (await ask(line, packet)).payment["status"] == "authorized":
        assert asked_at - captured_at <= 1.0
        asked_at = time.monotonic()


async def test_a_revoked_key_is_dead_within_a_second(
    line: Line, shop: Shop, shared_stack: Stack
) -> None:
    path = f"/payments/{(await shop.paid())['id']}"
    packet = request(shop, path, OLDER, TAG)
    assert (await known(line, packet, age_s=1)).status == 304
    async with connected(shared_stack.dsn) as connection:
        (key,) = await admin.list_keys(connection, shop.merchant_id)
        await admin.revoke_key(connection, shop.merchant_id, key.id)
    revoked_at = asked_at = time.monotonic()
    while (await ask(line, packet)).status != 401:
        assert asked_at - revoked_at <= 1.0
        asked_at = time.monotonic()
    for _ in range(3):
        assert (await ask(line, packet)).status == 401


async def test_leave_that_the_merchant_withdrew_is_gone_within_a_second(
    line: Line, shop: Shop, shared_stack: Stack
) -> None:
    packet = request(shop, f"/payments/{(await shop.paid())['id']}")
    async with connected(shared_stack.dsn) as connection:
        await admin.update_merchant(connection, shop.merchant_id, read_staleness_ms=60_000)
        assert (await known(line, packet, age_s=1)).status == 200
        await admin.update_merchant(connection, shop.merchant_id, read_staleness_ms=0)
    withdrawn_at = asked_at = time.monotonic()
    while b"age" in (await ask(line, packet)).headers:
        assert asked_at - withdrawn_at <= 1.0
        asked_at = time.monotonic()
    for _ in range(3):
        assert b"age" not in (await ask(line, packet)).headers


async def test_another_merchant_gets_nothing_by_the_same_path(
    line: Line, shop: Shop, shared_stack: Stack, gateway: Gateway
) -> None:
    stranger = await shared_stack.shop(gateway)
    async with stranger.client:
        for path, status in ((f"/payments/{(await shop.paid())['id']}", 404), ("/payments", 200)):
            assert (await known(line, request(shop, path, OLD))).status == 200
            for _ in range(4):  # over the same connection
                answer = await ask(line, request(stranger, path, OLD))
                assert answer.status == status
                assert answer.payment.get("data", []) == []


async def test_one_byte_more_is_another_request(line: Line, gateway: Gateway, shop: Shop) -> None:
    path = f"/payments/{(await shop.paid())['id']}"
    plain = request(shop, path, OLD)
    body = (await known(line, plain)).body
    head = await ask(line, request(shop, path, OLD, method="HEAD"), has_body=False)
    assert (head.status, head.headers[b"content-length"]) == (200, b"%d" % len(body))
    part = await ask(line, request(shop, path, OLD, "Range: bytes=0-9"))
    assert (part.status, part.body) == (200, body)
    traced = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
    for _ in range(3):
        answer = await ask(line, request(shop, path, OLD, f"traceparent: 00-{traced}-01"))
        assert traced[:32].encode() in answer.headers[b"traceparent"]
    with_body = request(shop, path, OLD, "Content-Length: 5") + b"GET /"
    for _ in range(3):
        assert (await ask(line, with_body)).body == body
    assert (await ask(line, plain)).body == body
    for last in (request(shop, path, OLD, "Connection: close"), request(shop, path, version="1.0")):
        async with dial(gateway) as other:
            await known(other, plain)
            assert (await ask(other, last)).body == body
            assert await other.reader.read() == b""


async def test_each_coding_has_its_own_answer(line: Line, shop: Shop) -> None:
    for _ in range(3):
        await shop.paid()
    plain = request(shop, "/payments", OLD)
    zipped = request(shop, "/payments", OLD, "Accept-Encoding: gzip")
    for _ in range(2):
        assert b"content-encoding" not in (await known(line, plain)).headers
        answer = await known(line, zipped)
        assert answer.headers[b"content-encoding"] == b"gzip"
        assert answer.headers[b"etag"].endswith(b'-gzip"')


async def test_however_the_bytes_arrive_each_request_has_one_answer(
    line: Line, gateway: Gateway, shop: Shop, shared_stack: Stack
) -> None:
    packets = [request(shop, f"/payments/{(await shop.paid())['id']}", OLD) for _ in range(2)]
    bodies = [(await known(line, packet)).body for packet in packets]
    assert bodies[0] != bodies[1]
    for _ in range(3):
        line.writer.write(b"".join(packets))
        assert [(await received(line)).body for _ in packets] == bodies
    for at in (1, 30, len(packets[0]) - 1):
        line.writer.write(packets[0][:at])
        await line.writer.drain()
        await asyncio.sleep(0.01)  # so that the rest comes by itself
        line.writer.write(packets[0][at:] + packets[1])
        assert [(await received(line)).body for _ in packets] == bodies
    # A payment is still on its way when the poll arrives behind it.
    await shared_stack.simulator.fault("latency", shop.login, ms=200)
    body = json.dumps(PAYMENT).encode()
    paying = post("/payments", shop.secret, body, key="behind-a-payment")
    line.writer.write(paying)
    begun = "SELECT FROM payments WHERE merchant_id = $1 AND status = 'processing'"
    await until(lambda: shared_stack.fetch(begun, shop.merchant_id), what="it has begun")
    line.writer.write(packets[0])
    assert (await received(line)).status == 201
    assert (await received(line)).body == bodies[0]
    async with dial(gateway) as fresh:  # the first request of a connection
        assert (await ask(fresh, packets[1])).body == bodies[1]
