"""A separate listener for the metrics: it shows them, and nothing else, to everyone who can reach
it. Its address decides who that is: on loopback, only this machine.

Several gateway processes of a host get the same address. The first to bind it answers for all of
them; the others try again every second, so that one takes over when that process ends.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

from easypay.addresses import host_and_port

LONGEST_HEAD: Final = 8192
HEAD_WITHIN_S: Final = 5.0
ANSWER_WITHIN_S: Final = 10.0
MOST_READERS: Final = 16
"""At once. Prometheus opens one connection; those above the limit are closed."""
_AGAIN_S: Final = 1.0
_TAKEN: Final = frozenset({errno.EADDRINUSE})

log = logging.getLogger(__name__)


class MetricsListener:
    """Answers `GET /metrics` at one address while `run` runs. `text` returns the metrics
    and their content type, for an Accept header."""

    def __init__(self, address: str, text: Callable[[bytes], tuple[bytes, bytes]]) -> None:
        self._address = host_and_port(address)
        self._text = text
        self._readers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled. An error is logged once, and binding is tried again."""
        logged = ""
        while True:
            try:
                bound = _bind(*self._address)
            except OSError as error:
                if error.errno not in _TAKEN and logged != str(error):
                    logged = str(error)
                    log.error("cannot show metrics at %s:%d: %s", *self._address, logged)
                await asyncio.sleep(_AGAIN_S)
                continue
            log.info("showing metrics at %s:%d", *self._address)
            await self._serve(bound)

    async def _serve(self, bound: socket.socket) -> None:
        server = await asyncio.start_server(self._accept, sock=bound, limit=LONGEST_HEAD)
        try:
            await server.serve_forever()
        finally:
            server.close()
            for reader in list(self._readers):
                reader.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._readers) >= MOST_READERS:
            writer.transport.abort()
            return
        self._readers.add(task)
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer(head))
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self._readers.discard(task)

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _whole(b"404 Not Found", b"text/plain", b"only /metrics is here\n")
        if method not in (b"GET", b"HEAD"):
            return _whole(b"405 Method Not Allowed", b"text/plain", b"GET\n", b"allow: GET\r\n")
        try:
            text, content_type = self._text(_accept_of(head))
        except Exception:
            log.exception("the metrics cannot be read")
            return _whole(b"500 Internal Server Error", b"text/plain", b"see the log\n")
        whole = _whole(b"200 OK", content_type, text)
        return whole if method == b"GET" else whole[: -len(text)]


def _accept_of(head: bytes) -> bytes:
    """Return the Accept header of a request; empty without one."""
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return b",".join(value for name, _, value in lines if name.lower() == b"accept")


def _whole(status: bytes, content_type: bytes, body: bytes, more: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
        b"cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n"
        b"%b\r\n%b"
    ) % (status, content_type, len(body), more, body)


def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises OSError if the address is taken or not ours."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(MOST_READERS)  # if two bind at once, only one gets this far
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
