"""Bounds what one answer of DNS costs.

The library reads an answer in one go, while everything else waits: 4,000 addresses take 0.1 s. So
only the first records of an answer are given to it. What follows them is cut off.
"""

import asyncio
import socket
import struct
from typing import Any, Final

import dns.asyncbackend
import dns.exception

MOST_RECORDS: Final = 64
"""Of one answer. It takes two milliseconds to read so many."""
MOST_BYTES: Final = 8 * 1024
_HEADER: Final = struct.Struct("!6H")
_QUESTION_BYTES: Final = 4
"""After its name: type and class."""
_RECORD: Final = struct.Struct("!8xH")
"""After its name: type, class and time to live, then the length of its data."""
_POINTER: Final = 0xC0


def first_records(wire: bytes) -> bytes:
    """Return an answer without what is too much: the first records if there are many, and nothing
    if it is not an answer to one question, or not one of its records can be kept."""
    try:
        number, flags, questions, answers, authorities, more = _HEADER.unpack_from(wire)
        if questions > 1:
            return b""
        if answers + authorities + more <= MOST_RECORDS and len(wire) <= MOST_BYTES:
            return wire
        at = _HEADER.size
        for _ in range(questions):
            at = _after_name(wire, at) + _QUESTION_BYTES
        kept, ends = 0, at
        while kept < min(answers, MOST_RECORDS):
            at = _after_name(wire, at)
            at += _RECORD.size + _RECORD.unpack_from(wire, at)[0]
            if at > min(len(wire), MOST_BYTES):
                break
            kept, ends = kept + 1, at
    except (struct.error, IndexError):
        return b""
    if answers and not kept:  # what is left would say that there is no address
        return b""
    return _HEADER.pack(number, flags, questions, kept, 0, 0) + wire[_HEADER.size : ends]


def _after_name(wire: bytes, at: int) -> int:
    """Return where a name ends. Raises IndexError."""
    while (length := wire[at]) != 0:
        if length >= _POINTER:
            return at + 2
        at += 1 + length
    return at + 1


class BoundedBackend:
    """The library's way to asyncio's sockets, for one question each. What it receives has passed
    `first_records`."""

    def __init__(self) -> None:
        self._inner: Any = dns.asyncbackend.get_backend("asyncio")

    def name(self) -> str:
        """Return whose sockets they are."""
        return "asyncio"

    def datagram_connection_required(self) -> bool:
        """Whether UDP needs a connection."""
        return False

    async def sleep(self, interval: float) -> None:
        """Wait some seconds."""
        await asyncio.sleep(interval)

    async def make_socket(self, af: int, socktype: int, *more: Any, **named: Any) -> Any:
        """Return an open socket. Raises OSError."""
        inner = await self._inner.make_socket(af, socktype, *more, **named)
        return _Datagrams(inner) if socktype == socket.SOCK_DGRAM else _Stream(inner)


class _Socket:
    def __init__(self, inner: Any) -> None:
        self._inner, self.family, self.type = inner, inner.family, inner.type

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.close()


class _Datagrams(_Socket):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.sendto = inner.sendto

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        wire, sender = await self._inner.recvfrom(size, timeout)
        return first_records(wire), sender


class _Stream(_Socket):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.sendall = inner.sendall
        self._received = b""

    async def recv(self, size: int, timeout: float | None) -> bytes:
        if not self._received:
            try:
                async with asyncio.timeout(timeout):
                    length = int.from_bytes(await self._exactly(2), "big")
                    wire = first_records(await self._exactly(length))
            except TimeoutError as error:
                raise dns.exception.Timeout from error
            self._received = len(wire).to_bytes(2, "big") + wire
        found, self._received = self._received[:size], self._received[size:]
        return found

    async def _exactly(self, count: int) -> bytes:
        """Return so many bytes. Raises EOFError if the connection ends before."""
        found = b""
        while len(found) < count:
            received = await self._inner.recv(count - len(found), None)
            if not received:
                raise EOFError("the answer ends too early")
            found += received
        return found
