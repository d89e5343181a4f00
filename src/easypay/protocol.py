"""uvicorn's HTTP/1.1 protocol, with a short way out: a whole answer in one write.

Through ASGI's `send` an answer leaves in two messages, each of which uvicorn checks and writes by
itself: more Python, and a client that wakes twice (docs/decisions/0015). So every request carries,
as an ASGI extension, a function that takes its answer whole.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

ANSWER: Final = "easypay.answer"
"""The extension's name in `scope["extensions"]`; its `send` is an Answer."""

Answer = Callable[[int, bytes, bytes, bool], Awaitable[None]]
"""Called with the status; the head's lines, each ended by CRLF, with the body's length among them
and without those that are the server's (Date, Connection); the body; and whether the connection
closes after it."""


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client. Nobody cancels what its requests do, whatever becomes of it."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # In time: the request's task begins in a later turn of the loop.
        self.scope["extensions"] = {ANSWER: {"send": partial(_answer, self.cycle, self.flow)}}

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Not among the server's tasks, which it cancels where a stop takes too long: between its
        # call and its record a payment is not abandoned. The gateway waits for it by itself.
        self._task = self.loop.create_task(cycle.run_asgi(app))


async def _answer(
    cycle: RequestResponseCycle,
    flow: FlowControl,
    status: int,
    lines: bytes,
    body: bytes,
    closes: bool,
) -> None:
    """What two calls of `cycle.send` come to. A HEAD is answered without the body."""
    if flow.write_paused and not cycle.disconnected:
        await flow.drain()
    if cycle.disconnected:
        return
    assert not cycle.response_started, "a request has one answer"
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    if closes:
        cycle.keep_alive = False
    parts = [STATUS_LINE[status]]
    parts += [b"%b: %b\r\n" % line for line in cycle.default_headers]
    parts += (lines, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
    if cycle.scope["method"] != "HEAD":
        parts.append(body)
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
