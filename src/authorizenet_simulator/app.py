"""The ASGI program: the wire at /xml/v1/request.api, the control surface under /simulator."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from authorizenet_simulator import wire
from authorizenet_simulator.answers import ApiError
from authorizenet_simulator.control import Control
from authorizenet_simulator.simulator import Connection, Simulator

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
Answer = tuple[int, Header, bytes]
"""HTTP status, content type header, body."""

WIRE_PATH: Final = "/xml/v1/request.api"
CONNECTION: Final = "simulator.connection"
"""Where the server puts the client's connection, among the scope's extensions."""
MOST_BYTES: Final = 4 << 20
"""A longer body is answered as an empty one."""
_JSON: Final = (b"content-type", b"application/json; charset=utf-8")
_XML: Final = (b"content-type", b"text/xml; charset=utf-8")
_ALLOWED: Final = (b"access-control-allow-headers", b"content-type")
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
COMMON_HEADERS: Final = (
    (b"cache-control", b"private"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET,POST,OPTIONS"),
)
_READABLE: Final = frozenset(
    {b"application/json", b"text/json", b"text/xml", b"application/xml", b""}
)
_SERVER_ERROR: Final = b"<html><body><h1>Server Error</h1></body></html>"
_GARBAGE: Final = (
    b"<!DOCTYPE html><html><head><title>One moment</title></head>"
    b"<body>Please wait while your request is being verified.</body></html>"
)
_NO_XML: Final = wire.BOM + (
    b'<?xml version="1.0" encoding="utf-8"?><ErrorResponse'
    b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    b' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    b' xmlns="AnetApi/xml/v1/schema/AnetApiSchema.xsd"><messages><resultCode>Error</resultCode>'
    b"<message><code>E00001</code><text>An error occurred during processing. Please try again."
    b"</text></message></messages></ErrorResponse>"
)


class App:
    """One simulator as an ASGI application."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.control = Control(simulator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == WIRE_PATH:
            await self._wire(scope, receive, send)
        elif path.startswith("/simulator"):
            await self._control(scope, receive, send)
        else:
            await _reply(send, 404, _HTML, b"<html><body><h1>Not Found</h1></body></html>")

    def quick_answer(self, headers: list[Header], data: bytes) -> Answer:
        """The answer to a POST on the wire while no fault is on order."""
        answer = _unreadable(headers, data)
        if answer is not None:
            return answer
        try:
            return 200, _JSON, self._answer(wire.read(data))
        except ApiError as error:
            return 200, _JSON, wire.refusal(error.code, error.text)

    async def _wire(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = await _body(receive)
        headers: list[Header] = scope["headers"]
        answer: Answer | None
        if scope["method"] == "OPTIONS":
            answer = (200, _ALLOWED, b"")
        elif data is None or scope["method"] != "POST":
            answer = (200, _JSON, wire.UNREADABLE)
        elif not self.simulator.faults.active or _unreadable(headers, data) is not None:
            answer = self.quick_answer(headers, data)
        else:
            try:
                answer = await self._faulty(wire.read(data), scope, receive)
            except ApiError as error:
                answer = (200, _JSON, wire.refusal(error.code, error.text))
        if answer is not None:
            await _reply(send, *answer)

    def _answer(self, call: wire.Call) -> bytes:
        return wire.answer(self.simulator.ledger, self.simulator.rules, call)

    async def _faulty(self, call: wire.Call, scope: Scope, receive: Receive) -> Answer | None:
        """The answer with the faults on order; None when the connection was cut."""
        fault, latency_s = self.simulator.faults.plan(call)
        if fault is None:
            reply = self._answer(call)
            await asyncio.sleep(latency_s)
            return 200, _JSON, reply
        kind = fault.kind
        if kind == "reset_before":
            return await _hang_up(scope, receive, reset=True)
        if kind == "error_before":
            return fault.status, _HTML, _SERVER_ERROR
        if kind == "late_charge":
            await asyncio.sleep(fault.delay_ms / 1000)
        reply = wire.refusal("E00053") if kind == "busy" else self._answer(call)
        if kind == "late_reply":
            latency_s += fault.delay_ms / 1000
        await asyncio.sleep(latency_s)
        if kind == "drop_reply":
            return await _hang_up(scope, receive, reset=False)
        if kind == "error_after":
            return fault.status, _HTML, _SERVER_ERROR
        if kind == "garbage":
            return 200, _HTML, _GARBAGE
        if kind == "truncate":
            reply = reply[: len(reply) // 2]
        return 200, _JSON, reply

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = await _body(receive)
        connection = scope.get("extensions", {}).get(CONNECTION)
        status, chunks = await self.control.answer(
            scope["method"], scope["path"], scope["query_string"], data or b"", connection
        )
        headers = [_JSON, (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)  # a long list must not keep the wire waiting
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too long or the client left."""
    message = await receive()
    data: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        data += message.get("body", b"")
        if len(data) > MOST_BYTES or message["type"] == "http.disconnect":
            return None
    return data


def _unreadable(headers: list[Header], data: bytes) -> Answer | None:
    """The answer to a content type or an XML body that is not understood."""
    kind = _content_type(headers)
    if kind == b"application/json" and data[:1] == b"{":
        return None
    if kind not in _READABLE:
        return 200, _JSON, wire.refusal("E00002")
    start = data.removeprefix(wire.BOM).lstrip()[:1]
    if start == b"<" or (kind.endswith(b"xml") and start != b"{"):
        return 200, _XML, _NO_XML
    return None


def _content_type(headers: list[Header]) -> bytes:
    for name, value in headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""


async def _reply(send: Send, status: int, kind: Header, body: bytes) -> None:
    headers = [kind, *COMMON_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _hang_up(scope: Scope, receive: Receive, *, reset: bool) -> Answer | None:
    """End the connection with no byte sent, and wait until the server has noticed."""
    connection: Connection = scope["extensions"][CONNECTION]
    connection.abort(reset=reset)
    while (await receive())["type"] != "http.disconnect":
        pass
    return None
