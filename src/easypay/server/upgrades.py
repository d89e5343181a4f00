"""Ignore an offered upgrade: a second parser reads on where the first one stops.

The parser takes everything after a head with an upgrade, or with CONNECT, as another protocol, and
httptools cannot tell it otherwise. So a fresh parser is fed the same request without the offer
(only the headers that frame the body), and reads on from there.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import httptools

_FRAMING: Final = (b"content-length", b"transfer-encoding")


def past_upgrade(
    protocol: Any, headers: Iterable[tuple[bytes, bytes]]
) -> tuple[httptools.HttpRequestParser, Callable[[], None]]:
    """Return a parser for what follows a head with these headers, and a function to prime it.

    The function calls `protocol.on_message_complete` if there is no body, and raises
    HttpParserError if the framing is invalid.
    """
    callbacks = _AfterHead(protocol)
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    lines = [b"%b: %b\r\n" % header for header in headers if header[0] in _FRAMING]

    def prime() -> None:
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(lines))
        callbacks.read = True

    return parser, prime


class _AfterHead:
    """The protocol's callbacks, except for the head, which was `read` before."""

    def __init__(self, protocol: Any) -> None:
        self.read = False
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete
        self._protocol = protocol

    def on_message_begin(self) -> None:
        if self.read:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.read:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.read:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.read:
            self._protocol.on_headers_complete()
