"""Requests that come again byte for byte, and get an answer from the caches again.

A client that polls sends the same bytes each time. Reading them, finding their route and building
the header lines takes most of what a hit of the caches costs, so their result is kept here by the
bytes of the whole request. Whether the answer may still be given is not kept: that is asked each
time of those who know, the API keys and the near cache (`Response.still`). If it may not, the
request goes the ordinary way.

Only plain requests are kept. A header that is not in `_PLAIN`, such as Range, Expect or the length
of a body, leads the ordinary way; so does one that is new each time, such as `traceparent`, which
would only fill the memory.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from easypay import ids
from easypay.api.http import Request, Response, header_lines, server_timing
from easypay.clock import stopwatch

PACKET: Final = "easypay.packet"
"""Where the server puts the bytes of a request into its scope, if they came alone and at once."""

_PLAIN: Final = frozenset(
    {
        b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control",
        b"forwarded", b"host", b"if-none-match", b"user-agent", b"via", b"x-forwarded-for",
        b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip",
    }
)  # fmt: skip
"""Headers that stay the same from one request of a client to its next one."""
_KEEPS_ALIVE: Final = (b"connection", b"keep-alive")
_NO_ID: Final = "req_"
"""Stands where each request's own id comes."""
_OVERHEAD: Final = 2_000
"""Bytes that an answer takes beside its request and its body."""

Logged = Callable[[bytes, float], None]
"""Counts and logs a request that came again: with its id, and its duration in seconds."""


class Watch(Protocol):
    """Who makes the function that logs a request each time it comes again."""

    def again(self, route: str, request: Request, response: Response) -> Logged: ...


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """An answer that is given again."""

    status: int
    before_id: bytes
    """Its header lines up to the request's id."""
    after_id: bytes
    """The others, but for those of one request."""
    body: bytes
    still: Callable[[], float | None]
    """Returns how old it is, in seconds; None if it must not be given any more."""
    logged: Logged


class Repeats:
    """Answers by the bytes of their requests, at most `most_bytes` of both. What was kept first
    leaves first: if it is still asked for, it is kept anew."""

    def __init__(self, most_bytes: int, is_draining: Callable[[], bool]) -> None:
        self.kept: OrderedDict[bytes, Repeat] = OrderedDict()
        """For others only to see whether there is an answer."""
        self._most_bytes = most_bytes
        self._is_draining = is_draining
        self.bytes = 0

    def keep(
        self, watch: Watch, scope: Mapping[str, Any], route: str, request: Request, given: Response
    ) -> None:
        """Keep an answer that was just given, if the request is a plain one."""
        still = given.still
        if PACKET not in scope or still is None or not _is_plain(scope):
            return
        packet = scope[PACKET]
        self._drop(packet)
        lasting = [each for each in given.headers if each[0] != b"age"]
        lines = header_lines(msgspec.structs.replace(given, headers=lasting), _NO_ID)
        before_id, _, after_id = lines.partition(_NO_ID.encode())
        repeat = Repeat(
            given.status,
            before_id,
            after_id,
            given.body,
            still,
            watch.again(route, request, given),
        )
        if _cost(packet, repeat) > self._most_bytes // 4:
            return
        self.kept[packet] = repeat
        self.bytes += _cost(packet, repeat)
        while self.bytes > self._most_bytes:
            self._drop(next(iter(self.kept)))

    def answer(self, packet: bytes) -> tuple[int, bytes, bytes] | None:
        """Return the status, the header lines and the body for a request that came again, and log
        it. None: it has to go the ordinary way."""
        started = stopwatch()
        repeat = self.kept.get(packet)
        if repeat is None or self._is_draining():
            return None
        age_s = repeat.still()
        if age_s is None:
            self._drop(packet)
            return None
        request_id = ids.new_request_id().encode()
        took_s = stopwatch() - started
        lines = b"%b%b%bage: %d\r\n%b" % (
            repeat.before_id,
            request_id,
            repeat.after_id,
            age_s,
            server_timing(0.0, None, took_s),
        )
        repeat.logged(request_id, took_s)
        return repeat.status, lines, repeat.body

    def _drop(self, packet: bytes) -> None:
        repeat = self.kept.pop(packet, None)
        if repeat is not None:
            self.bytes -= _cost(packet, repeat)


def _is_plain(scope: Mapping[str, Any]) -> bool:
    return scope["http_version"] == "1.1" and all(
        header[0] in _PLAIN or header == _KEEPS_ALIVE for header in scope["headers"]
    )


def _cost(packet: bytes, repeat: Repeat) -> int:
    return len(packet) + len(repeat.before_id + repeat.after_id) + len(repeat.body) + _OVERHEAD
