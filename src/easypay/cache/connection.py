"""One connection to Valkey or Redis, in RESP3, which many callers share.

Commands are written one after another, and answers come in that order. A caller who gives up leaves
his place in the order: the answer to his command comes, is thrown away, and reaches nobody else.
Invalidations come over the same connection, so one that was sent after an answer arrives after it.

A connection that is given anything that cannot be an answer is dropped: whatever comes after that
might be an answer to another command.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis

from easypay.cache.announced import Announced
from easypay.cache.url import Address, CacheUrl
from easypay.clock import monotonic

log = logging.getLogger(__name__)

_MOST_WAITING: Final = 2_000
"""Commands without an answer. More would not be answered in time anyway."""
_MOST_BUFFERED: Final = 8 * 1024 * 1024
"""Bytes of one answer that has not come whole."""
_NOT_WHOLE: Final = object()
_NEVER: Final = float("-inf")

Word = bytes | str | int | float
Invalidated = Callable[[Sequence[bytes] | None], None]
"""Called with the keys that have changed, or None: all of them."""


class CacheUnavailable(Exception):
    """The shared cache does not answer, or not in time, or not as it should."""


class Connection(asyncio.Protocol):
    """An open connection."""

    def __init__(self, invalidated: Invalidated) -> None:
        self._invalidated = invalidated
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOT_WHOLE)
        self._announced = Announced()
        self._unfinished = 0
        """Bytes of the answer that is coming, at most: what came since the last one was whole."""
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._loop = asyncio.get_running_loop()
        self.known_at = _NEVER
        """When the newest command that was answered was sent: everything before has been told. Long
        ago once the connection has ended."""

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waits_since(self) -> float:
        """When the oldest command without an answer was sent, by the monotonic clock."""
        return self._waiting[0][1] if self._waiting else monotonic()

    def send(self, *words: Word) -> asyncio.Future[Any]:
        """Send a command. The future gets its answer: a ReplyError if the server refuses it.

        Raises CacheUnavailable if it cannot be sent.
        """
        if self._transport is None or not self.is_open or len(self._waiting) >= _MOST_WAITING:
            raise CacheUnavailable("the connection is closed or full")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((future, monotonic()))
        self._transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # any number of words
        return future

    def drop(self, why: str) -> None:
        """Close the connection at once. Whoever waits gets CacheUnavailable."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop calls this once."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of its own class

    def data_received(self, data: bytes) -> None:
        """The event loop calls this with what has come."""
        try:
            self._announced.check(data)
            self._reader.feed(data)
            self._unfinished += len(data)
            while (answer := self._reader.gets()) is not _NOT_WHOLE:
                self._unfinished = self._reader.len()
                if isinstance(answer, hiredis.PushNotification):
                    self._pushed(answer)
                elif not self._waiting:
                    self.drop("it answered what nobody asked")
                    return
                else:
                    future, self.known_at = self._waiting.popleft()
                    if not future.done():
                        future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - whatever the reader makes of what was sent
            self.drop(f"what it answered is not the protocol: {error}")
            return
        if self._unfinished > _MOST_BUFFERED:
            self.drop("its answer is too long")

    def connection_lost(self, exc: Exception | None) -> None:
        """The event loop calls this once, at the end."""
        self._transport = None
        self._fail("the connection was lost" if exc is None else f"the connection was lost: {exc}")

    def _pushed(self, message: Sequence[Any]) -> None:
        if message[0] != b"invalidate":
            return
        keys = message[1]
        try:
            self._invalidated(keys)
        except Exception:
            # What was not forgotten must not be used, and without a connection nothing is.
            log.exception("what the shared cache tells cannot be followed")
            self.drop("what it tells cannot be followed")

    def _fail(self, why: str) -> None:
        self.known_at = _NEVER
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(CacheUnavailable(why))
                future.exception()  # who has left needs no warning


async def connect(
    url: CacheUrl, address: Address, invalidated: Invalidated, within_s: float
) -> Connection:
    """Return a connection to a server. Raises CacheUnavailable."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within_s):
            if address.path:
                _, made = await loop.create_unix_connection(
                    lambda: Connection(invalidated), address.path
                )
            else:
                _, made = await loop.create_connection(
                    lambda: Connection(invalidated), address.host, address.port, ssl=url.context()
                )
    except ssl.SSLCertVerificationError as error:
        raise CacheUnavailable(
            f"{address}: its certificate is refused ({error.verify_message}): name the host as the "
            "certificate does, and the authority that signed it by ?ca=/path in EASYPAY_CACHE_URL"
        ) from error
    except ssl.SSLError as error:
        raise CacheUnavailable(
            f"{address}: no connection with TLS ({error.reason or error}): if the server has none, "
            "EASYPAY_CACHE_URL begins with redis://, or has no tls=true"
        ) from error
    except (OSError, TimeoutError, ValueError, OverflowError) as error:
        # A sentinel or a cluster may have named a host or a port that cannot be one.
        raise CacheUnavailable(f"{address}: {error or 'no answer'}") from error
    return made
