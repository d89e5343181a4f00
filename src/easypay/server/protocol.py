"""uvicorn's HTTP/1.1 protocol, with limits, and with a short way out: a whole answer in one write.

Through ASGI's `send` an answer leaves in two messages, each of which uvicorn checks and writes by
itself: more Python, and a client that wakes twice (docs/decisions/0015). So every request carries,
as an ASGI extension, a function that takes its answer whole.

uvicorn has no limits on heads, on pipelined requests and on time, and drops the body of a request
that offers an upgrade. Here an upgrade is ignored, as RFC 9110 (7.8) allows, and what cannot be
read on is refused with a problem, after the answers that are due before it. A request that comes
whole in one packet pays for none of this.
"""

from collections.abc import Callable
from functools import partial
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from easypay import ids
from easypay.api.send_response import EXTENSION
from easypay.errors import (
    BodyTooLarge,
    EasyPayError,
    HeadTooLarge,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
)
from easypay.problems import MEDIA_TYPE, render
from easypay.server.client_connections import SWEEP_S, Clients, Phase
from easypay.server.upgrades import past_upgrade

SLICE_BYTES: Final = 4096
"""The parser is fed so much at once: a limit is noticed after as many bytes more, at most."""
_PARSER_STOPS: Final = (httptools.HttpParserUpgrade, httptools.HttpParserError)
_RESET: Final = pack("ii", 1, 0)
MAX_BODY_ON_WIRE: Final = 512 * 1024
"""A chunked body with the sizes, extensions and trailers around it; eight times a whole body."""


class _Dropped(list[tuple[bytes, bytes]]):
    """Where trailers go: they come after the checks of the head, so they are no headers."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        pass


_TRAILERS: Final = _Dropped()


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client. Nobody cancels what its requests do, whatever becomes of it."""

    def __init__(self, *arguments: Any, clients: Clients, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._clients = clients
        self._address: str | None = None
        """Under which it is counted; None where it was not admitted."""
        self.scope = cast(Any, {"method": ""})  # a head is awaited, and none has begun
        self._current: RequestResponseCycle | None = None
        """The request whose turn it is; `cycle` is the one that was read last."""
        self._careful = False
        """The next bytes need more than to be parsed: a request is unfinished, or we are deaf."""
        self._deaf = False
        self._held: memoryview | None = None
        """Bytes that wait until the pipelined requests before them are answered."""
        self._unfinished: object = None
        """The scope, while in a head, or the cycle, while in a body, that `_taken` bytes are of."""
        self._taken = 0
        self._refusal: EasyPayError | None = None
        self._phase = Phase.HEAD
        self._seen: RequestResponseCycle | None = None
        self._since = clients.now + SWEEP_S

    # The connection ---------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self._may_read)
        address = self.client[0] if self.client else ""
        refused = self._clients.why_not(address)
        if refused is None:
            self._address = address
            self._clients.came(address)
            return
        self._deaf = self._careful = True
        self._clients.turned_away[refused] += 1
        if refused == "address":
            told = "Your address has as many connections open as one may have. Close some."
            transport.write(self._problem(TooManyConnections(told, retry_after_s=1)))
            transport.close()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._held = None
        if self._current is not None and not self._current.response_complete:
            self._current.disconnected = True
            self._current.message_event.set()
        if self._address is not None:
            self._clients.left(self._address)

    def shutdown(self) -> None:
        if self._phase is Phase.LINGERING:
            self.transport.close()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._careful or len(data) > SLICE_BYTES:
            self._feed_in_slices(memoryview(data))
            return
        try:
            self.parser.feed_data(data)
        except _PARSER_STOPS as stop:
            self._go_on_after(stop, data)
        if "method" not in self.scope or (self.cycle is not None and self.cycle.more_body):
            self._watch(len(data))

    def _feed_in_slices(self, data: memoryview) -> None:
        if self._held is not None:
            data, self._held = memoryview(bytes(self._held) + data), None
        for start in range(0, len(data), SLICE_BYTES):
            if self._deaf:
                return
            if self._must_wait():
                self._held = data[start:]
                self.flow.pause_reading()
                return
            part = data[start : start + SLICE_BYTES]
            self._feed(part)
            self._watch(len(part))

    def _feed_held(self) -> None:
        held = self._held
        if held is None or self._must_wait() or self.transport.is_closing():
            return
        self._held = None
        self._feed_in_slices(held)
        self.flow.resume_reading()

    def _must_wait(self) -> bool:
        return bool(self.pipeline) or (
            self.cycle is not None and len(self.cycle.body) > HIGH_WATER_LIMIT
        )

    def _may_read(self) -> bool:
        """Asked by the flow before it goes on reading."""
        if self._held is not None:
            self.loop.call_soon(self._feed_held)
        return self._held is None and not self.pipeline

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except _PARSER_STOPS as stop:
            self._go_on_after(stop, data)

    def _go_on_after(self, stop: Exception, data: bytes | memoryview) -> None:
        """Where a request offers an upgrade, a fresh parser reads on from its body."""
        rest = data
        while isinstance(stop, httptools.HttpParserUpgrade):
            rest = memoryview(rest)[stop.args[0] :]
            try:
                self.parser, prime = past_upgrade(self, self.scope["headers"])
                prime()
                self.parser.feed_data(rest)
            except _PARSER_STOPS as again:
                stop = again
            else:
                return
        self._refuse_what_broke(stop)

    def _watch(self, size: int) -> None:
        """Bound what an unfinished request sends, after `size` bytes more, and begin its time."""
        cycle = self.cycle
        unfinished: object = None
        if "method" not in self.scope:
            unfinished, most, phase = self.scope, self._clients.limits.head_bytes, Phase.HEAD
        elif cycle is not None and cycle.more_body:
            unfinished, most, phase = cycle, MAX_BODY_ON_WIRE, Phase.BODY
        self._careful = self._deaf or unfinished is not None
        if unfinished is None or self._deaf:
            self._unfinished = None
            return
        if unfinished is not self._unfinished:
            self._unfinished, self._taken = unfinished, 0
            # The time of a new connection's first head runs since it came, and where other
            # requests are still being answered, the sweep sees when this one's turn has come.
            if self._is_answering():
                begins = phase is Phase.BODY and cycle is self._current
            else:
                begins = self._current is not None
            if begins:
                self._begin(phase)
        self._taken += size
        if self._taken > most + SLICE_BYTES:
            self._refuse(self._too_long() if phase is Phase.HEAD else _too_much())

    def _is_answering(self) -> bool:
        current = self._current
        return current is not None and not (current.response_complete or current.disconnected)

    def _too_long(self) -> EasyPayError:
        most = self._clients.limits.head_bytes
        return HeadTooLarge(f"The request's head has more than {most} bytes. Send fewer headers.")

    # What the parser calls --------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        if self._unfinished is self.scope:  # it came in several pieces
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._clients.limits.head_bytes:
                raise self._too_long()
        if self.parser.should_upgrade() and self.parser.get_method() == b"CONNECT":
            self.url = b"/" + self.url.lstrip(b"/")  # there is no such path, and no tunnel
        super().on_headers_complete()
        self.headers = _TRAILERS
        # In time: the request's task begins in a later turn of the loop.
        self.scope["extensions"] = {EXTENSION: {"send": partial(self._answer, self.cycle)}}

    def on_message_complete(self) -> None:
        # Where it offers an upgrade its body is yet to be read.
        if not self.parser.should_upgrade() and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Not among the server's tasks, which it cancels where a stop takes too long: between its
        # call and its record a payment is not abandoned. The gateway waits for it by itself.
        self._current = cycle
        # Given a name, the task need not format one.
        self._task = self.loop.create_task(cycle.run_asgi(app), name="request")

    # Answers ----------------------------------------------------------------------------------

    async def _answer(
        self, cycle: RequestResponseCycle, status: int, lines: bytes, body: bytes, closes: bool
    ) -> None:
        """What two calls of `cycle.send` come to. A HEAD is answered without the body."""
        # The extension refers to the cycle, and the cycle to it. Left so, every request would wait
        # for the garbage collector, which then stops all payments for tens of milliseconds.
        cycle.scope.pop("extensions", None)
        flow = self.flow
        if flow.write_paused and not cycle.disconnected:
            await flow.drain()
        if cycle.disconnected:
            return
        assert not cycle.response_started, "a request has one answer"
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        if closes or cycle.more_body:  # what was not read of it is no request
            cycle.keep_alive = False
        parts = [STATUS_LINE[status]]
        for line in cycle.default_headers:
            parts.append(b"%b: %b\r\n" % line)
        parts += (lines, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        if cycle.scope["method"] != "HEAD":
            parts.append(body)
        cycle.transport.write(b"".join(parts))
        cycle.message_event.set()
        if cycle.more_body:
            self._linger()
        elif not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def on_response_complete(self) -> None:
        """The next request's turn. Unlike uvicorn's it sets no timer: the sweep sees idleness."""
        self.server_state.total_requests += 1
        if self._phase is Phase.LINGERING or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._say(self._refusal)
            return
        self.flow.resume_reading()

    # Refusals ---------------------------------------------------------------------------------

    def _refuse_what_broke(self, error: Exception) -> None:
        if isinstance(error.__context__, EasyPayError):
            self._refuse(error.__context__)
        else:
            # A callback breaks off where the target names no path.
            why = "its target" if isinstance(error, httptools.HttpParserCallbackError) else error
            self._refuse(MalformedRequest(f"This is no HTTP/1.1 request that can be read: {why}"))

    def _refuse(self, error: EasyPayError) -> None:
        """Read no more. The request that is being received is refused, and its handler is told
        that its client has left; those before it get their answers first."""
        if self._deaf:
            return
        self._deaf = self._careful = True
        self._held = None
        self._clients.turned_away[error.code] += 1
        broken = self.cycle
        if broken is not None and broken.more_body and not broken.response_complete:
            broken.disconnected = True
            broken.message_event.set()
            if self.pipeline and self.pipeline[0][0] is broken:
                self.pipeline.popleft()
        if self._is_answering():
            self._refusal = error
        else:
            self._say(error)

    def _say(self, error: EasyPayError) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._problem(error))
            self._linger()

    def _problem(self, error: EasyPayError) -> bytes:
        request_id = ids.new_request_id()
        body = render(error, request_id=request_id)
        lines = [b"%b: %b\r\n" % line for line in self.server_state.default_headers]
        if error.retry_after_s is not None:
            lines.append(b"retry-after: %d\r\n" % error.retry_after_s)
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n" % (
            STATUS_LINE[error.http_status],
            b"".join(lines),
            MEDIA_TYPE.encode(),
            len(body),
        ) + b"request-id: %b\r\nconnection: close\r\n\r\n%b" % (request_id.encode(), body)

    def _linger(self) -> None:
        """Close, when the client has had time to read the answer: a close while bytes of its own
        are unread would take the answer away from it (RFC 9112, 9.6)."""
        self._deaf = self._careful = True
        self._held = None
        self._begin(Phase.LINGERING)
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()

    # The sweep --------------------------------------------------------------------------------

    def _begin(self, phase: Phase) -> None:
        self._phase, self._seen = phase, self._current
        self._since = self._clients.now + SWEEP_S  # now, or a little later

    def look(self, now: float) -> None:
        """Called once a second: end what takes too long. `now` is of the clients' time."""
        phase, current = self._phase, self._current
        if phase is not Phase.LINGERING:
            if self.transport.get_write_buffer_size():
                phase = Phase.UNREAD
            elif self._is_answering():
                assert current is not None
                phase = Phase.BODY if current.more_body else Phase.ANSWERING
            elif current is None or "method" not in self.scope:
                phase = Phase.HEAD
            else:
                phase = Phase.IDLE
            if phase is not self._phase or current is not self._seen:
                self._begin(phase)
                self._since = now
                return
        if now - self._since >= self._clients.limits.longest_s[phase]:
            self._end(phase)

    def _end(self, phase: Phase) -> None:
        if phase is Phase.LINGERING:
            self.transport.abort()
        elif phase is Phase.UNREAD:
            self._clients.turned_away["unread"] += 1
            # The system forgets what was written, too, instead of offering it for minutes.
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
            self.transport.abort()
        elif phase is Phase.BODY or "method" not in self.scope:
            longest = self._clients.limits.longest_s[phase]
            self._refuse(RequestTimeout(f"The request's {phase} was not whole in {longest:g} s."))
        else:
            if phase is Phase.HEAD:
                self._clients.turned_away["silent"] += 1
            self.transport.close()


class _Flow(FlowControl):
    """Reads on only when its connection says so, whoever asks for it."""

    def __init__(self, transport: Any, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    def resume_reading(self) -> None:
        if self.read_paused and self._may_read():
            super().resume_reading()


def _too_much() -> EasyPayError:
    return BodyTooLarge("The body, with what frames it, is too large. Send it in larger chunks.")
