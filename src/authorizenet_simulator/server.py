"""Runs uvicorn with a listening socket that can be closed to refuse connections."""

import contextlib
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from authorizenet_simulator.app import COMMON_HEADERS, CONNECTION, MOST_BYTES, WIRE_PATH, App
from authorizenet_simulator.control.control_api import Connection
from authorizenet_simulator.simulator import Simulator

_BACKLOG: Final = 4096
_KEEP_ALIVE_S: Final = 600
_GRACE_S: Final = 2


class _Connection(HttpToolsProtocol):
    """A client's connection, which the application finds in its scope and can cut.

    While no fault is active, a POST to the API is answered without a task of its own, which
    saves more than half of the cost of a request. Other requests take the ASGI path.
    """

    app_itself: App
    _at_once: bytearray | None = None
    """The body so far of a request that is answered without a task."""

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, ignoring an offered upgrade (RFC 9110, 7.8). At an upgrade the
        parser stops and would lose the body, so a new one reads the request without the offer."""
        self._unset_keepalive_if_required()
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._without_offer() + data[upgrade.args[0] :]
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _without_offer(self) -> bytes:
        """Return the head that was just read, without its Upgrade header."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":  # its head cannot be read in another way
            raise httptools.HttpParserError("CONNECT is not supported")
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the request is read again without the offer
        if (
            self.url == _WIRE_URL
            and not self.app_itself.simulator.faults.active
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and self.parser.get_method() == b"POST"
        ):
            self._at_once = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._at_once is None:
            super().on_body(body)
        elif len(self._at_once) <= MOST_BYTES:
            self._at_once += body

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self._at_once is None:
            super().on_message_complete()
        else:
            data, self._at_once = bytes(self._at_once), None
            self._answer_at_once(data if len(data) <= MOST_BYTES else b"")

    def _answer_at_once(self, data: bytes) -> None:
        calls = self.app_itself.simulator.calls
        begun = calls.begin()
        try:
            status, kind, body = self.app_itself.quick_answer(self.headers, data)
        except Exception:
            self.logger.exception("request failed")
            status, kind, body = 500, (b"content-type", b"text/plain"), b"Internal Server Error"
        keep_alive = self.parser.should_keep_alive()
        self.transport.write(_head(status, kind[1], len(body), keep_alive) + body)
        if not keep_alive:
            self.transport.close()
        if begun:  # recorded after the answer, so that the client does not wait for it
            calls.end(begun, self.client, data, status, kind[1], body)

    def abort(self, *, reset: bool) -> None:
        if reset and (connected := self.transport.get_extra_info("socket")) is not None:
            # A linger time of zero makes the kernel send a reset on close.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


_WIRE_URL: Final = WIRE_PATH.encode()
_COMMON: Final = b"".join(b"%s: %s\r\n" % header for header in COMMON_HEADERS)


def _head(status: int, kind: bytes, length: int, keep_alive: bool) -> bytes:
    return b"%scontent-type: %s\r\n%scontent-length: %d\r\n%s\r\n" % (
        STATUS_LINE[status],
        kind,
        _COMMON,
        length,
        b"" if keep_alive else b"connection: close\r\n",
    )


class Server(uvicorn.Server):
    """Serves one simulator on one listening socket and prints its URL when ready."""

    def __init__(
        self, simulator: Simulator, host: str, port: int, log_level: str, names: Sequence[str] = ()
    ) -> None:
        app = App(simulator, (host, *names))
        protocol = type("Connection", (_Connection,), {"app_itself": app})
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                loop="uvloop",
                http=protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_level=log_level,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._bound = _bind(host, port)
        self.address: tuple[str, int] = self._bound.getsockname()[:2]
        self._simulator = simulator
        app.control.listener = self

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def serve_until_signal(self) -> None:
        await self.serve(sockets=[self._bound])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._simulator.deliveries.start()
        print(f"listening on {self.url}", flush=True)  # noqa: T201 - callers wait for it

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._simulator.deliveries.stop()
        await super().shutdown(sockets)

    def stop(self, spare: Connection | None) -> None:
        for server in self.servers:
            server.close()
        self.servers = []
        self._bound.close()
        for connection in list(self.server_state.connections):
            if connection is not spare:
                connection.shutdown()

    async def resume(self) -> None:
        if self.servers:
            return
        self._bound = _bind(*self.address)
        await super().startup([self._bound])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """On a signal, close everything and end the process with status 0."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop_serving)
        yield

    def _stop_serving(self, number: int, frame: Any) -> None:
        self.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound
