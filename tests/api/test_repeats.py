"""What the server does with requests that come again byte for byte, without a gateway."""

import asyncio
from typing import Any

from easypay.api.http import Request, Response
from easypay.api.repeats import PACKET, Logged, Repeats
from easypay.api.send_response import EXTENSION
from harness.wire_inside import Wire

MOST: int = 100_000


class App:
    """Keeps its answers, if they may be given again, and counts the requests that reach it."""

    def __init__(self, most_bytes: int = MOST) -> None:
        self.draining = False
        self.repeats = Repeats(most_bytes, lambda: self.draining)
        self.asked = 0
        self.logged: list[bytes] = []
        self.age_s: float | None = 3.7
        self.body = b"ok"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        headers = dict(scope["headers"])
        request = Request("GET", scope["path"], {}, headers, b"", b"", "req_1")
        response = Response(200, self.body, headers=[(b"etag", b'"v2"'), (b"age", b"0")])
        response.still = lambda: self.age_s
        reply = scope["extensions"][EXTENSION]["send"]
        await reply(200, b"content-length: %d\r\n" % len(self.body), self.body, False)
        self.repeats.keep(self, scope, "/", request, response)

    def again(self, route: str, request: Request, response: Response) -> Logged:
        return lambda request_id, took_s: self.logged.append(request_id)


def packet(*lines: str, path: str = "/") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "host: shop", *lines)).encode() + b"\r\n\r\n"


async def test_bytes_that_come_again_are_not_read_again() -> None:
    app = App()
    wire = Wire(app)
    await wire.ask(packet())
    answers = [await wire.ask(packet()) for _ in range(3)]
    assert (app.asked, len(app.logged)) == (1, 3)
    for answer, request_id in zip(answers, app.logged, strict=True):
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        names = [line.partition(b": ")[0] for line in lines]
        assert (status, body) == (b"HTTP/1.1 200 OK", b"ok")
        assert b"age: 3" in lines
        assert b"request-id: " + request_id in lines
        assert len(names) == len(set(names)), "each header once"


async def test_an_answer_that_may_not_be_given_again_is_forgotten() -> None:
    app = App()
    wire = Wire(app)
    await wire.ask(packet())
    app.age_s, app.body = None, b"new"
    assert (await wire.ask(packet())).endswith(b"new")
    app.age_s = 1.0
    assert app.asked == 2
    assert (await wire.ask(packet())).endswith(b"new")
    assert app.asked == 2


async def test_only_plain_requests_are_kept() -> None:
    app = App()
    wire = Wire(app)
    for line in (
        "content-length: 0",
        "connection: close, te",
        "expect: 100-continue",
        "range: bytes=0-1",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "x-request-id: 1",
    ):
        for _ in range(2):
            await Wire(app).ask(packet(line))
    assert app.repeats.bytes == len(app.repeats.kept) == 0
    for _ in range(2):
        await wire.ask(packet("connection: keep-alive", "accept: */*"))
    assert len(app.repeats.kept) == 1
    for _ in range(2):
        await Wire(app).ask(packet().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert len(app.repeats.kept) == 1


async def test_the_memory_is_bounded() -> None:
    app = App()
    wire = Wire(app)
    for n in range(200):
        await wire.ask(packet(path=f"/{n}"))
        assert app.repeats.bytes <= MOST
    assert 20 < len(app.repeats.kept) < 100
    assert packet(path="/199") in app.repeats.kept
    app.body = bytes(MOST)
    await wire.ask(packet(path="/large"))
    assert packet(path="/large") not in app.repeats.kept
    for kept in list(app.repeats.kept):
        app.age_s = None
        await wire.ask(kept)
    assert app.repeats.bytes == len(app.repeats.kept) == 0


async def test_a_gateway_that_stops_lets_each_answer_close_its_connection() -> None:
    app = App()
    wire = Wire(app)
    await wire.ask(packet())
    app.draining = True
    await wire.ask(packet())
    assert app.asked == 2


async def test_a_client_that_does_not_read_gets_no_more() -> None:
    app = App()
    wire = Wire(app)
    await wire.ask(packet())
    wire.protocol.pause_writing()
    wire.protocol.data_received(packet())
    await asyncio.sleep(0)
    assert wire.said() == b""
    wire.protocol.resume_writing()
    assert (await wire.answer()).endswith(b"ok")


async def test_a_connection_that_polls_is_not_idle() -> None:
    app = App()
    wire = Wire(app)
    await wire.ask(packet())
    for _ in range(40):  # two of the ten seconds that an idle connection has
        wire.clients.now += 2
        wire.protocol.check(wire.clients.now)
        assert not wire.is_closing()
        await wire.ask(packet())
    assert app.asked == 1
    for _ in range(8):
        wire.clients.now += 2
        wire.protocol.check(wire.clients.now)
    assert wire.is_closing()


async def test_bytes_with_more_than_one_request_are_not_kept() -> None:
    app = App()
    wire = Wire(app)
    wire.protocol.data_received(packet() + packet(path="/two"))
    while app.asked < 2:
        await wire.answer()
    assert not app.repeats.kept
    wire.protocol.data_received(packet()[:20])
    await wire.ask(packet()[20:])
    assert not app.repeats.kept
    assert PACKET not in wire.protocol.scope


async def test_every_answer_has_the_date_of_its_second() -> None:
    app = App()
    wires = Wire(app), Wire(app)
    for date in (b"Mon, 30 Nov 2026 16:00:00 GMT", b"Mon, 30 Nov 2026 16:00:01 GMT"):
        for wire in wires:
            wire.protocol.server_state.default_headers = [(b"date", date)]
            for path in ("/", "/", f"/{date[-6:-4].decode()}"):
                assert b"\r\ndate: %b\r\n" % date in await wire.ask(packet(path=path))
