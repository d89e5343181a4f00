"""uvicorn's HTTP/1.1 protocol with limits, and with whole responses sent in one write.

Through ASGI's `send` a response leaves in two messages, each checked and written by uvicorn: more
Python, and a client that wakes twice (docs/decisions/0015). So each request carries, as an ASGI
extension, a function that takes the whole response.

uvicorn does not limit heads, pipelined requests or time, and drops the body of a request that
offers an upgrade. Here an upgrade is ignored, as RFC 9110 (7.8) allows, and an unreadable request
is refused with a problem, after the responses to earlier requests. A request that arrives whole in
one packet pays for none of this.
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
from easypay.api.batches import PATH as UPLOADS
from easypay.api.repeats import PACKET, Repeats
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
"""The parser is fed at most this much at once, so a limit is exceeded by at most as much."""
_PARSER_STOPS: Final = (httptools.HttpParserUpgrade, httptools.HttpParserError)
_G: Final = ord("G")
"""No method but GET begins with it."""
_RESET: Final = pack("ii", 1, 0)
MAX_BODY_ON_WIRE: Final = 512 * 1024
"""A chunked body with its sizes, extensions and trailers; eight times the largest body."""


class _Dropped(list[tuple[bytes, bytes]]):
    """Discards trailers: they come after the checks of the head, so they are not headers."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        pass


_TRAILERS: Final = _Dropped()


class HttpProtocol(HttpToolsProtocol):
    """One client connection. Its requests are never cancelled, whatever happens to it."""

    def __init__(self, *arguments: Any, clients: Clients, repeats: Repeats, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._clients = clients
        self._repeats = repeats
        self._address: str | None = None
        """The address it is counted under; None if it was not admitted."""
        self.scope = cast(Any, {"method": ""})  # waiting for a head, of which nothing has come
        self._current: RequestResponseCycle | None = None
        """The request being answered; `cycle` is the one that was read last."""
        self._careful = False
        """Whether the next bytes need more than parsing: a request is unfinished, or input is
        ignored."""
        self._ignores_input = False
        self._held: memoryview | None = None
        """Bytes held back until the pipelined requests before them are answered."""
        self._unfinished: object = None
        """The scope (in a head) or the cycle (in a body) that the `_taken` bytes belong to."""
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
        refused = self._clients.refusal(address)
        if refused is None:
            self._address = address
            self._clients.add(address)
            return
        self._ignores_input = self._careful = True
        self._clients.turned_away[refused] += 1
        if refused == "address":
            transport.write(self._problem(TooManyConnections.of_address()))
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
            self._clients.remove(self._address)

    def shutdown(self) -> None:
        if self._phase is Phase.LINGERING:
            self.transport.close()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._careful or len(data) > SLICE_BYTES:
            self._feed_in_slices(memoryview(data))
            return
        is_get = data[0] == _G
        if is_get and data in self._repeats.kept and self._answer_again(data):
            return
        try:
            self.parser.feed_data(data)
        except _PARSER_STOPS as stop:
            self._go_on_after(stop, data)
            is_get = False
        if "method" not in self.scope or (self.cycle is not None and self.cycle.more_body):
            self._watch(len(data))
        elif is_get and not self.pipeline:
            # One request and nothing else.
            self.scope[PACKET] = data  # type: ignore[typeddict-unknown-key]

    def _answer_again(self, data: bytes) -> bool:
        """Answer a request whose bytes are known, if the answer may be given again and can be
        written now. The first request of a connection never comes here."""
        current = self._current
        if current is None or not current.response_complete or self.flow.write_paused:
            return False
        again = self._repeats.answer(data)
        if again is None:
            return False
        status, lines, body = again
        self.transport.write(
            b"".join((STATUS_LINE[status], self._server_lines(), lines, b"\r\n", body))
        )
        self._since = self._clients.now + SWEEP_S  # it is not idle
        return True

    def _feed_in_slices(self, data: memoryview) -> None:
        if self._held is not None:
            data, self._held = memoryview(bytes(self._held) + data), None
        for start in range(0, len(data), SLICE_BYTES):
            if self._ignores_input:
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
        """Return whether the flow may resume reading."""
        if self._held is not None:
            self.loop.call_soon(self._feed_held)
        return self._held is None and not self.pipeline

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except _PARSER_STOPS as stop:
            self._go_on_after(stop, data)

    def _go_on_after(self, stop: Exception, data: bytes | memoryview) -> None:
        """Continue after the parser stopped. After an upgrade, a fresh parser reads the body."""
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
        self._refuse_broken(stop)

    def _watch(self, size: int) -> None:
        """Count `size` bytes of an unfinished request, check its limit, and start its time."""
        cycle = self.cycle
        unfinished: object = None
        if "method" not in self.scope:
            unfinished, most, phase = self.scope, self._clients.limits.head_bytes, Phase.HEAD
        elif cycle is not None and cycle.more_body:
            unfinished, most, phase = cycle, self._most_of_body(cycle), Phase.BODY
        self._careful = self._ignores_input or unfinished is not None
        if unfinished is None or self._ignores_input:
            self._unfinished = None
            return
        if unfinished is not self._unfinished:
            self._unfinished, self._taken = unfinished, 0
            # A new connection's time for its first head runs since it was opened. While earlier
            # requests are being answered, the sweep notices when this one's turn has come.
            if self._is_answering():
                begins = phase is Phase.BODY and cycle is self._current
            else:
                begins = self._current is not None
            if begins:
                self._begin(phase)
        self._taken += size
        if self._taken > most + SLICE_BYTES:
            self._refuse(self._head_too_large() if phase is Phase.HEAD else _body_too_large())

    def _most_of_body(self, cycle: RequestResponseCycle) -> int:
        """Return how many bytes a body may have on the wire. An upload may go on for as long as
        bytes arrive: its handler has a limit for all of it."""
        if cycle.scope["path"] != UPLOADS or cycle.scope["method"] != "POST":
            return MAX_BODY_ON_WIRE
        self._since = self._clients.now + SWEEP_S
        return max(MAX_BODY_ON_WIRE, self._clients.limits.upload_bytes)

    def _is_answering(self) -> bool:
        current = self._current
        return current is not None and not (current.response_complete or current.disconnected)

    def _is_streaming(self) -> bool:
        """Whether an answer is being sent in pieces. It has a time limit for each piece itself."""
        current = self._current
        return current is not None and current.response_started and not current.response_complete

    def _head_too_large(self) -> EasyPayError:
        most = self._clients.limits.head_bytes
        return HeadTooLarge(f"The request's head has more than {most} bytes. Send fewer headers.")

    # What the parser calls --------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        if self._unfinished is self.scope:  # it came in several pieces
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._clients.limits.head_bytes:
                raise self._head_too_large()
        if self.parser.should_upgrade() and self.parser.get_method() == b"CONNECT":
            self.url = b"/" + self.url.lstrip(b"/")  # an unknown path: no tunnel is opened
        super().on_headers_complete()
        self.headers = _TRAILERS
        # Early enough: the request's task starts in a later turn of the loop.
        self.scope["extensions"] = {EXTENSION: {"send": partial(self._answer, self.cycle)}}

    def on_message_complete(self) -> None:
        # If the request offers an upgrade, its body is still to be read.
        if not self.parser.should_upgrade() and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Not one of the server's tasks, which it cancels if a stop takes too long: a payment must
        # not be abandoned between its call and its record. The gateway itself waits for it.
        self._current = cycle
        # A given name saves the task from formatting one.
        self._task = self.loop.create_task(cycle.run_asgi(app), name="request")

    # Answers ----------------------------------------------------------------------------------

    async def _answer(
        self, cycle: RequestResponseCycle, status: int, lines: bytes, body: bytes, closes: bool
    ) -> None:
        """Send what two calls of `cycle.send` would. The response to a HEAD has no body."""
        # The extension and the cycle refer to each other. If they stayed so, each request would
        # wait for the garbage collector, which then stops all payments for tens of milliseconds.
        cycle.scope.pop("extensions", None)
        if cycle.response_started:  # in pieces: see `easypay.api.send_response.cut`
            cycle.disconnected = True
            self._reset()
            return
        flow = self.flow
        if flow.write_paused and not cycle.disconnected:
            await flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        if closes or cycle.more_body:  # the unread rest must not be parsed as a request
            cycle.keep_alive = False
        ends = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        if cycle.scope["method"] == "HEAD":
            body = b""
        cycle.transport.write(
            b"".join((STATUS_LINE[status], self._server_lines(), lines, ends, body))
        )
        cycle.message_event.set()
        if cycle.more_body:
            self._linger()
        elif not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def _server_lines(self) -> bytes:
        """Return the header lines that the server adds to every answer: Date. They are made once
        for all connections; uvicorn makes a new list of headers each second."""
        headers = self.server_state.default_headers
        made_of, lines = self._clients.server_lines
        if made_of is not headers:
            lines = b"".join([b"%b: %b\r\n" % line for line in headers])
            self._clients.server_lines = headers, lines
        return lines

    def on_response_complete(self) -> None:
        """Start the next request. Unlike uvicorn's this sets no timer: the sweep ends idle ones."""
        self.server_state.total_requests += 1
        if self._phase is Phase.LINGERING or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._send_problem(self._refusal)
            return
        self.flow.resume_reading()

    # Refusals ---------------------------------------------------------------------------------

    def _refuse_broken(self, error: Exception) -> None:
        if isinstance(error.__context__, EasyPayError):
            self._refuse(error.__context__)
        else:
            # A callback fails if the target is not a path.
            why = "its target" if isinstance(error, httptools.HttpParserCallbackError) else error
            self._refuse(MalformedRequest(f"This is not a readable HTTP/1.1 request: {why}"))

    def _refuse(self, error: EasyPayError) -> None:
        """Read no more. The request being received is refused, and its handler is told that its
        client has left. Earlier requests get their responses first."""
        if self._ignores_input:
            return
        self._ignores_input = self._careful = True
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
            self._send_problem(error)

    def _send_problem(self, error: EasyPayError) -> None:
        current = self._current
        if current is not None and current.response_started and not current.response_complete:
            self._reset()  # an answer is being sent in pieces: nothing may come among them
        elif not self.transport.is_closing():
            self.transport.write(self._problem(error))
            self._linger()

    def _problem(self, error: EasyPayError) -> bytes:
        request_id = ids.new_request_id()
        body = render(error, request_id=request_id)
        lines = [self._server_lines()]
        if error.retry_after_s is not None:
            lines.append(b"retry-after: %d\r\n" % error.retry_after_s)
        return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n" % (
            STATUS_LINE[error.http_status],
            b"".join(lines),
            MEDIA_TYPE.encode(),
            len(body),
        ) + b"request-id: %b\r\nconnection: close\r\n\r\n%b" % (request_id.encode(), body)

    def _linger(self) -> None:
        """Close once the client has had time to read the response. A close while bytes from the
        client are unread would discard the response (RFC 9112, 9.6)."""
        self._ignores_input = self._careful = True
        self._held = None
        self._begin(Phase.LINGERING)
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()

    # The sweep --------------------------------------------------------------------------------

    def _begin(self, phase: Phase) -> None:
        self._phase, self._seen = phase, self._current
        self._since = self._clients.now + SWEEP_S  # now, or a little later

    def check(self, now: float) -> None:
        """Called once a second: end what takes too long. `now` is the time of `Clients`."""
        phase, current = self._phase, self._current
        if phase is not Phase.LINGERING:
            if self.transport.get_write_buffer_size() and not self._is_streaming():
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

    def _reset(self) -> None:
        """Close at once, and drop what was written: the system would offer it for minutes."""
        if not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
            self.transport.abort()

    def _end(self, phase: Phase) -> None:
        if phase is Phase.LINGERING:
            self.transport.abort()
        elif phase is Phase.UNREAD:
            self._clients.turned_away["unread"] += 1
            self._reset()
        elif phase is Phase.BODY or "method" not in self.scope:
            self._refuse(RequestTimeout.of(phase, self._clients.limits.longest_s[phase]))
        else:
            if phase is Phase.HEAD:
                self._clients.turned_away["silent"] += 1
            self.transport.close()


class _Flow(FlowControl):
    """Resumes reading only if its connection allows it."""

    def __init__(self, transport: Any, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    def resume_reading(self) -> None:
        if self.read_paused and self._may_read():
            super().resume_reading()


def _body_too_large() -> EasyPayError:
    return BodyTooLarge("The chunked body is too large on the wire. Send it in larger chunks.")
