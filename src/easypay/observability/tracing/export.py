"""Sends encoded spans to a collector: OTLP over HTTP, as protobuf, from a thread of its own.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. The queue is bounded; what finds no room is
dropped and counted. A collector that is away, slow or overloaded holds up this thread and nobody
else. 429, 502, 503 and 504 are tried again, when Retry-After says so; other refusals are final.
"""

import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from easypay import clock
from easypay.card_numbers import scrub
from easypay.clock import monotonic
from easypay.observability.tracing.otlp import of_process, refused_of, request_of

log = logging.getLogger(__name__)

Counted = Callable[[str, int], None]
"""Called with what became of so many spans: `sent`, `refused`, `failed` or `full`."""

MOST_QUEUED_BYTES: Final = 4 * 1024 * 1024
MOST_BATCH_BYTES: Final = 256 * 1024
GATHER_S: Final = 1.0
"""How long spans wait for others to be sent with."""
ANSWER_WITHIN_S: Final = 5.0
"""From the first byte of a request to the last one of its answer."""
MOST_TRIES: Final = 4
_MOST_ANSWER: Final = 64 * 1024
_FIRST_PAUSE_S: Final = 0.5
_MOST_PAUSE_S: Final = 30.0
_AGAIN: Final = frozenset({429, 502, 503, 504})
_WARN_EVERY_S: Final = 60.0
_SUFFIX: Final = "/v1/traces"


class _Later(Exception):
    """The same batch may be taken later."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class _Final(Exception):
    """The collector will never take this batch."""


class Exporter:
    """Sends spans to `url`, while its thread runs. `put` may be called from the event loop."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        resource: Mapping[str, str],
        counted: Counted,
    ) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._path = _path_of(parts.path)
        self._headers = {
            **headers,
            "Content-Type": "application/x-protobuf",
            "User-Agent": "easypay",
        }
        self._process = of_process(resource)
        self._counted = counted
        self._parts: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._full = threading.Event()
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self._connection: HTTPConnection | None = None
        self._warn_at = 0.0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, part: bytes, spans: int) -> None:
        """Send these spans soon. Never waits; if there is no room they are dropped."""
        with self._lock:
            room = self._bytes + len(part) <= MOST_QUEUED_BYTES and not self._stop.is_set()
            if room:
                self._parts.append((part, spans))
                self._bytes += len(part)
                enough = self._bytes >= MOST_BATCH_BYTES
        if not room:
            self._counted("full", spans)
        elif enough:
            self._full.set()

    def close(self, within_s: float) -> None:
        """Send what is queued, for at most so many seconds. Waits for it: call it in a thread."""
        self._give_up_at = monotonic() + within_s
        self._stop.set()
        self._full.set()
        self._thread.join(within_s)
        with self._lock:
            left = sum(spans for _, spans in self._parts)
            self._parts.clear()
            self._bytes = 0
        if left:
            self._counted("failed", left)

    # the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._stop.is_set() and not self._parts):
            self._full.wait(GATHER_S)
            self._full.clear()
            while (batch := self._batch()) is not None:
                parts, spans = batch
                try:
                    refused = self._send(request_of(parts, self._process))
                except _Final as error:
                    self._counted("failed", spans)
                    self._warn(f"{spans} spans were lost: {error}")
                except Exception:
                    self._counted("failed", spans)
                    if self._may_complain():
                        log.exception("spans cannot be sent")
                else:
                    refused = min(max(refused, 0), spans)  # a counter never falls
                    self._counted("sent", spans - refused)
                    if refused:
                        self._counted("refused", refused)
        self._drop_connection()

    def _batch(self) -> tuple[list[bytes], int] | None:
        """Take what is sent together."""
        parts: list[bytes] = []
        size = spans = 0
        with self._lock:
            while self._parts and size < MOST_BATCH_BYTES:
                part, count = self._parts.popleft()
                parts.append(part)
                size += len(part)
                spans += count
            self._bytes -= size
        return (parts, spans) if parts else None

    def _send(self, body: bytes) -> int:
        """Send a batch, with pauses between its tries. Returns how many spans were refused.
        Raises _Final."""
        pause_s = _FIRST_PAUSE_S
        for tries in range(1, MOST_TRIES + 1):
            try:
                return self._post(body)
            except _Later as error:
                wait_s = min(error.after_s or pause_s, _MOST_PAUSE_S)
                late = monotonic() + wait_s >= self._give_up_at
                if tries == MOST_TRIES or late:
                    raise _Final(str(error)) from error
                self._pause(wait_s)
                if monotonic() >= self._give_up_at:
                    raise _Final(str(error)) from error
                pause_s *= 2
        raise AssertionError("the last try returns or raises")

    def _pause(self, pause_s: float) -> None:
        """Wait. If a stop begins meanwhile, go on at once, with a last try."""
        if self._stop.is_set():
            threading.Event().wait(pause_s)
        else:
            self._stop.wait(pause_s)

    def _post(self, body: bytes) -> int:
        limit_s = max(0.05, min(ANSWER_WITHIN_S, self._give_up_at - monotonic()))
        try:
            answer, reply = self._exchange(body, limit_s)
        except (OSError, HTTPException) as error:
            self._drop_connection()
            raise _Later(f"the collector is away: {type(error).__name__}") from error
        if 200 <= answer.status < 300:
            return self._refused(reply)
        if answer.status in _AGAIN:
            after_s = _retry_after_s(answer.getheader("retry-after"))
            raise _Later(f"the collector answered {answer.status}", after_s)
        raise _Final(f"the collector answered {answer.status}")

    def _exchange(self, body: bytes, limit_s: float) -> tuple[HTTPResponse, bytes]:
        """Send a request over the open connection, or over a new one if it was closed meanwhile.
        A batch may arrive twice: spans have ids."""
        for fresh in (self._connection is None, True):
            connection = self._connection = self._connection or self._connect(limit_s)
            give_up_at = monotonic() + limit_s
            try:
                if connection.sock is None:
                    connection.connect()
                connection.sock.settimeout(limit_s)
                with _cut_after(limit_s, connection.sock):
                    connection.request("POST", self._path, body, self._headers)
                    answer = connection.getresponse()
                    reply = answer.read(_MOST_ANSWER)
            except TimeoutError:
                raise
            except (OSError, HTTPException):
                self._drop_connection()
                if fresh or monotonic() >= give_up_at:
                    raise
                continue
            if not answer.isclosed():  # longer than any answer should be
                self._drop_connection()
            return answer, reply
        raise AssertionError("a fresh connection returns or raises")

    def _connect(self, limit_s: float) -> HTTPConnection:
        if not self._tls:
            return HTTPConnection(self._host, self._port, timeout=limit_s)
        context = ssl.create_default_context()
        return HTTPSConnection(self._host, self._port, timeout=limit_s, context=context)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _refused(self, reply: bytes) -> int:
        try:
            refused, why = refused_of(reply)
        except ValueError as error:
            self._warn(f"spans were taken, but {error}")
            return 0
        if refused:
            self._warn(f"the collector refused {refused} spans: {scrub(why)[:200]!r}")
        return refused

    def _warn(self, what: str) -> None:
        """Log, if it is time. Payments are not affected."""
        if self._may_complain():
            log.warning("traces: %s", what)

    def _may_complain(self) -> bool:
        """Whether to log what is wrong with the collector: once a minute."""
        now = monotonic()
        if now < self._warn_at:
            return False
        self._warn_at = now + _WARN_EVERY_S
        return True


@contextmanager
def _cut_after(limit_s: float, connection: socket.socket) -> Iterator[None]:
    """Let the block wait no longer for a connection. The connection's own limit is for each piece
    of an answer: one byte now and then would meet it for ever."""
    cut = threading.Timer(limit_s, _cut, [connection])
    cut.daemon = True
    cut.start()
    try:
        yield
    finally:
        cut.cancel()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which would wait


def _path_of(path: str) -> str:
    """Return where a collector takes spans: `/v1/traces` below its base address."""
    return path if path.endswith(_SUFFIX) else path.rstrip("/") + _SUFFIX


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds from now that a `Retry-After` header says: a number, or a date."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
