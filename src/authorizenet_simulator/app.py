"""The ASGI application: routes each request to the wire, webhooks, hosted pages or control API."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from importlib import resources
from typing import Any, Final

import msgspec

from authorizenet_simulator import dispatch
from authorizenet_simulator.control import access_check
from authorizenet_simulator.control.control_api import Connection, Control
from authorizenet_simulator.control.control_page import PAGE, PAGE_HEADERS
from authorizenet_simulator.control.faults import Fault
from authorizenet_simulator.hosted import hosted_pages
from authorizenet_simulator.simulator import Simulator
from authorizenet_simulator.webhooks.rest_api import PREFIX as REST_PREFIX
from authorizenet_simulator.webhooks.rest_api import WebhooksApi
from authorizenet_simulator.wire import json_wire
from authorizenet_simulator.wire.json_wire import JSON
from authorizenet_simulator.wire.replies import ApiError
from authorizenet_simulator.wire.xml_wire import XML

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]
Answer = tuple[int, Header, bytes]
"""HTTP status, content type header, body."""

WIRE_PATH: Final = "/xml/v1/request.api"
CONNECTION: Final = "simulator.connection"
"""The key of the client's connection in the scope's extensions."""
MOST_BYTES: Final = 4 << 20
"""A longer body is treated as an empty one."""
_CLOCK_POLL_S: Final = 0.01
_ALLOWED: Final = (b"access-control-allow-headers", b"content-type")
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
COMMON_HEADERS: Final = (
    (b"cache-control", b"private"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET,POST,OPTIONS"),
)
_TEXTS: Final = frozenset({b"application/json", b"text/json", b"text/xml", b"application/xml"})
_SERVER_ERROR: Final = b"<html><body><h1>Server Error</h1></body></html>"
_GARBAGE: Final = (
    b"<!DOCTYPE html><html><head><title>One moment</title></head>"
    b"<body>Please wait while your request is being verified.</body></html>"
)
_CDN_PAGE: Final = (
    b"<!DOCTYPE html><html><head><title>Request blocked</title></head>"
    b"<body><h1>Request blocked</h1><p>Incident 1234567890</p></body></html>"
)
_REFUSED: Final = {"busy": "E00053", "throttle": "E00053", "maintenance": "E00104"}
"""Faults that reject the request before it is executed, with their error code."""
_NO_REPLY: Final = (b"content-type", b"")
_PRIVATE: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_PAGE_PATHS: Final = frozenset({"/simulator", "/simulator/"})
_ACCEPT_JS_PATH: Final = "/v1/Accept.js"
_ACCEPT_JS: Final = (resources.files("authorizenet_simulator") / "data/accept.js").read_bytes()
_SCRIPT: Final = (b"content-type", b"text/javascript; charset=utf-8")
_LIVENESS_PATH: Final = "/simulator/livez"
"""Liveness check: answers under any host name, as it reveals nothing else."""
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def _unsupported(data: bytes) -> json_wire.Call:
    raise ApiError("E00002")


_NO_JSON: Final = JSON._replace(read=_unsupported)
_NO_XML: Final = XML._replace(read=_unsupported)


class App:
    """Serves one simulator as an ASGI application."""

    def __init__(self, simulator: Simulator, names: Collection[str] = ()) -> None:
        self.simulator = simulator
        self._names = frozenset(name.lower() for name in names)
        self.control = Control(simulator.ledger, simulator.faults, simulator.calls)
        self.webhooks = WebhooksApi(simulator.ledger, simulator.deliveries)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == WIRE_PATH:
            await self._wire(scope, receive, send)
        elif (
            path.startswith("/simulator")
            and path != _LIVENESS_PATH
            and (reason := access_check.refusal_reason(scope["headers"], self._names))
        ):
            body = msgspec.json.encode({"error": reason})
            await _send(send, 403, [JSON.header, *_PRIVATE], body)
        elif path in _PAGE_PATHS and scope["method"] in ("GET", "HEAD"):
            await _send(send, 200, PAGE_HEADERS, PAGE)
        elif path.startswith("/simulator"):
            await self._control(scope, receive, send)
        elif path.startswith(REST_PREFIX):
            await self._rest(scope, receive, send)
        elif path in hosted_pages.PATHS:
            await self._hosted(scope, receive, send)
        elif path == _ACCEPT_JS_PATH and scope["method"] in ("GET", "HEAD"):
            await _send(send, 200, [_SCRIPT, *_PRIVATE], _ACCEPT_JS)
        else:
            await _reply(send, 404, _HTML, b"<html><body><h1>Not Found</h1></body></html>")

    def quick_answer(self, headers: list[Header], data: bytes) -> Answer:
        """Answer a POST to the API while no fault is active."""
        form = _form(headers, data)
        try:
            return 200, form.header, self._answer(form.read(data))
        except ApiError as error:
            return 200, form.header, self._refusal(form, "", error)

    async def _wire(self, scope: Scope, receive: Receive, send: Send) -> None:
        calls = self.simulator.calls
        begun = calls.begin()
        data = await _body(receive)
        headers: list[Header] = scope["headers"]
        answer: Answer | None
        fault: Fault | None = None
        if scope["method"] == "OPTIONS":
            answer = (200, _ALLOWED, b"")
        elif data is None or scope["method"] != "POST":
            answer = self.quick_answer(headers, b"")
        elif not self.simulator.faults.active:
            answer = self.quick_answer(headers, data)
        else:
            form = _form(headers, data)
            try:
                call = form.read(data)
                fault, latency_s = self.simulator.faults.plan(call)
                answer = await self._faulty(call, fault, latency_s, scope, receive)
            except ApiError as error:
                answer = (200, form.header, self._refusal(form, "", error))
        if begun and scope["method"] == "POST":
            status, kind, body = answer or (0, _NO_REPLY, b"")
            client, name = scope["client"], fault.kind if fault else ""
            calls.end(begun, client, data or b"", status, kind[1], body, name)
        if answer is not None and fault is not None and fault.kind == "slow_body":
            await _dribble(send, answer, fault)
        elif answer is not None:
            await _reply(send, *answer)

    def _answer(self, call: json_wire.Call) -> bytes:
        return dispatch.answer(self.simulator.ledger, self.simulator.rules, call)

    def _refusal(self, form: json_wire.Form, method: str, error: ApiError) -> bytes:
        return form.render(self.simulator.rules, method, json_wire.refusal(error), None)

    async def _faulty(
        self,
        call: json_wire.Call,
        fault: Fault | None,
        latency_s: float,
        scope: Scope,
        receive: Receive,
    ) -> Answer | None:
        """Answer a call with its fault applied; return None if the connection was cut."""
        if fault is None:
            reply = self._answer(call)
            await asyncio.sleep(latency_s)
            return 200, call.form.header, reply
        kind = fault.kind
        if kind == "reset_before":
            return await _hang_up(scope, receive, reset=True)
        if kind == "error_before":
            return fault.status, _HTML, _SERVER_ERROR
        if kind == "html":
            return fault.status, _HTML, _CDN_PAGE
        if kind == "late_charge":
            await self._until_due(fault)
        refused = fault.code or _REFUSED.get(kind)
        reply = b""
        if refused is None or kind == "code_after":
            reply = self._answer(call)
        if refused is not None:
            reply = self._refusal(call.form, call.method, ApiError(refused))
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
        if kind == "wrong_content_type":
            return 200, (b"content-type", fault.content_type.encode()), reply
        return 200, call.form.header, reply

    async def _until_due(self, fault: Fault) -> None:
        """Wait for a late charge's delay, by the real or by the simulator's clock."""
        if not fault.by_clock:
            await asyncio.sleep(fault.delay_ms / 1000)
            return
        clock = self.simulator.clock
        due = clock.now_ms() + fault.delay_ms
        while clock.now_ms() < due:  # noqa: ASYNC110 - a clock that tests set notifies nobody
            await asyncio.sleep(_CLOCK_POLL_S)

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = await _body(receive)
        status, body = await self.webhooks.answer(
            scope["method"], scope["path"], scope["query_string"], scope["headers"], data or b""
        )
        headers = [JSON.header, *_PRIVATE]
        if status == 401:
            headers.append((b"www-authenticate", b'Basic realm="Authorize.Net"'))
        await _send(send, status, headers, body)

    async def _hosted(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = await _body(receive)
        status, headers, body = hosted_pages.answer(
            self.simulator.ledger, self.simulator.rules, scope["method"], scope["path"], data or b""
        )
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = await _body(receive)
        connection = scope.get("extensions", {}).get(CONNECTION)
        status, chunks = await self.control.answer(
            scope["method"], scope["path"], scope["query_string"], data or b"", connection
        )
        headers = [JSON.header, *_PRIVATE]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)  # a long list must not delay API calls
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes | None:
    """Read the whole body; return None if it is too long or the client disconnected."""
    message = await receive()
    data: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        data += message.get("body", b"")
        if len(data) > MOST_BYTES or message["type"] == "http.disconnect":
            return None
    return data


def _form(headers: list[Header], data: bytes) -> json_wire.Form:
    """Choose JSON or XML by the request's content type and first character."""
    kind = _content_type(headers)
    if kind == b"application/json" and data[:1] == b"{":
        return JSON
    start = data.removeprefix(json_wire.BOM).lstrip()[:1]
    if kind in _TEXTS:
        if start == b"<" or (kind.endswith(b"xml") and start != b"{"):
            return XML
        return JSON
    if kind:
        return _NO_XML if start == b"<" else _NO_JSON
    if start == b"<" or data.startswith(_UTF_16):
        return XML
    return JSON if start in (b"{", b"") else _NO_JSON


def _content_type(headers: list[Header]) -> bytes:
    for name, value in headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""


async def _reply(send: Send, status: int, kind: Header, body: bytes) -> None:
    await _send(send, status, [kind, *COMMON_HEADERS], body)


async def _send(send: Send, status: int, headers: Iterable[Header], body: bytes) -> None:
    whole = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": body})


async def _dribble(send: Send, answer: Answer, fault: Fault) -> None:
    """Send the whole answer a few bytes at a time."""
    status, kind, body = answer
    headers = [kind, *COMMON_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for start in range(0, len(body), fault.step_bytes):
        await asyncio.sleep(fault.delay_ms / 1000)
        step = body[start : start + fault.step_bytes]
        await send({"type": "http.response.body", "body": step, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _hang_up(scope: Scope, receive: Receive, *, reset: bool) -> Answer | None:
    """Close the connection without sending a byte; wait until the server has noticed."""
    connection: Connection = scope["extensions"][CONNECTION]
    connection.abort(reset=reset)
    while (await receive())["type"] != "http.disconnect":
        pass
    return None
