"""Keeps one connection to one server, and knows whether the server still tells of changes.

Four times a second it is asked for an echo. While an echo is at most a second old, every change
that the server made before that echo was asked for is known here. A server that is silent for a
second is left, and connected to anew; so is one that echoes something else.

With the echo it is asked which reign it is in: its replication id, which is a new one whenever it
becomes the primary again. What it had from an earlier reign may have changed under another server.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import hiredis

from easypay.cache.connection import CacheUnavailable, Connection, Invalidated, Word, connect
from easypay.cache.url import Address, CacheUrl
from easypay.clock import monotonic

log = logging.getLogger(__name__)

PREFIX: Final = b"easypay:"
"""All keys begin with this."""
ANSWER_WITHIN_S: Final = 0.05
"""A reader waits no longer for the shared cache: the database is as quick."""
SILENT_S: Final = 1.0
_ECHO_EVERY_S: Final = 0.25
_CONNECT_WITHIN_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_WARN_EVERY_S: Final = 60.0
_OF_PREFIX: Final = 8
"""Letters of the run's id and of the reign's in a key."""
_LEAVE_AFTER: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS")
"""Refusals of a server that is not the primary any more, or not yet."""
_LOGIN: Final = (
    "correct user and password in EASYPAY_CACHE_URL (redis://user:password@host; write %, /, ?, # "
    "and @ in them as %25, %2F, %3F, %23, %40)"
)
_ADVICE: Final = {
    "WRONGPASS": _LOGIN,
    "NOAUTH": _LOGIN,
    "ERR AUTH": _LOGIN,
    "NOPERM": "let the user run the commands that docs/caching.md lists, on the keys easypay:*",
}


class Link:
    """The connection to one server. `find` returns where that is now. `on_fresh` is called for a
    new connection: changes may have been missed before it."""

    def __init__(
        self,
        url: CacheUrl,
        find: Callable[[], Awaitable[Address]],
        invalidated: Invalidated,
        on_fresh: Callable[[], None],
    ) -> None:
        self._url = url
        self._find = find
        self._invalidated = invalidated
        self._on_fresh = on_fresh
        self._connection: Connection | None = None
        self._is_away = False
        self.why_away = ""
        """Why there is no connection, in words for the log."""
        self._warn_at = 0.0
        self.prefix = PREFIX
        """What this server's keys begin with: another server, or this one after a restart or when
        it is the primary again, finds none of them. So nothing is found that changed meanwhile."""
        self._reign = b"", b""

    def hears(self) -> bool:
        """Whether every change up to a second ago is known here. Each hit asks this."""
        connection = self._connection
        return connection is not None and monotonic() - connection.known_at <= SILENT_S

    @property
    def answers(self) -> bool:
        """Whether it is worth to ask: nobody has been waiting for long."""
        connection = self._connection
        return (
            connection is not None
            and self.hears()
            and monotonic() - connection.waits_since <= ANSWER_WITHIN_S
        )

    async def ask(
        self, *commands: tuple[Word, ...], within_s: float = ANSWER_WITHIN_S
    ) -> list[Any]:
        """Return the answers to some commands, in one round trip. A refusal is a ReplyError.

        Raises CacheUnavailable.
        """
        connection = self._connection
        if connection is None or not self.answers:
            raise CacheUnavailable("the shared cache is away")
        answers = [connection.send(*words) for words in commands]
        try:
            async with asyncio.timeout(within_s):
                found = [await answer for answer in answers]
        except TimeoutError as error:
            raise CacheUnavailable("no answer in time") from error
        for each in found:
            if isinstance(each, hiredis.ReplyError) and str(each).startswith(_LEAVE_AFTER):
                connection.drop(str(each))
        return found

    async def run(self) -> None:
        """Connect and stay connected, until cancelled."""
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                try:
                    await self._connect()
                    pause_s = _FIRST_PAUSE_S
                    await self._listen()
                except CacheUnavailable as error:
                    self._left(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        finally:
            if self._connection is not None:
                self._connection.drop("this gateway stops")

    async def _connect(self) -> None:
        address = await self._find()
        connection = await connect(self._url, address, self._invalidated, _CONNECT_WITHIN_S)
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                self._reign = await _greet(connection, self._url)
        except (TimeoutError, CacheUnavailable) as error:
            connection.drop("it was not greeted")
            raise CacheUnavailable(
                f"{address}: {error or 'no answer'}{'' if self._url.tls else _maybe_tls(error)}"
            ) from error
        self.prefix = b"%b%b%b:" % (PREFIX, *(part[:_OF_PREFIX] for part in self._reign))
        self._on_fresh()
        self._connection = connection
        if self._is_away:
            log.info("the shared cache at %s answers again", address)
        self._is_away = False

    async def _listen(self) -> None:
        """Ask for echoes until the connection ends. Raises CacheUnavailable then."""
        connection = self._connection
        assert connection is not None
        while True:
            said = secrets.token_bytes(8)
            try:
                async with asyncio.timeout(SILENT_S):
                    asked = connection.send("ECHO", said), connection.send("INFO", "replication")
                    echo, info = [await answer for answer in asked]
            except TimeoutError:
                connection.drop("it is silent")
                raise CacheUnavailable("it is silent") from None
            if echo != said:
                connection.drop("its answers are out of order")
                raise CacheUnavailable("it answered another question than the one asked")
            if _said(info, b"master_replid") != self._reign[1]:
                connection.drop("its reign has ended")
                raise CacheUnavailable("it has become the primary, or a replica, anew")
            await asyncio.sleep(_ECHO_EVERY_S)

    def _left(self, why: str) -> None:
        if self._connection is not None:
            self._connection.drop(why)
            self._connection = None
        if not self._is_away or monotonic() >= self._warn_at:
            log.warning("the shared cache is left out; answers come from the database: %s", why)
            self._warn_at = monotonic() + _WARN_EVERY_S
        self._is_away, self.why_away = True, why


async def _greet(connection: Connection, url: CacheUrl) -> tuple[bytes, bytes]:
    """Log in, and ask to be told of changes. Return what tells this run of the server from others,
    and its reign from earlier ones.

    Raises CacheUnavailable if the server refuses, or is a replica.
    """
    login = ("AUTH", *url.login()) if url.login() else ()
    commands: list[tuple[Word, ...]] = [
        ("HELLO", 3, *login, "SETNAME", "easypay"),
        *([("SELECT", url.database)] if url.database else []),
        ("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP", "PREFIX", PREFIX),
        ("ROLE",),
        ("INFO", "server"),
        ("INFO", "replication"),
    ]
    answers = [await answer for answer in [connection.send(*words) for words in commands]]
    for words, answer in zip(commands, answers, strict=True):
        if isinstance(answer, hiredis.ReplyError):
            raise CacheUnavailable(f"{words[0]!r} was refused ({answer}){_advice(str(answer))}")
    *_, role, server, replication = answers
    if not isinstance(role, list) or not role or role[0] != b"master":
        raise CacheUnavailable("it is a replica")
    return _said(server, b"run_id"), _said(replication, b"master_replid")


def _maybe_tls(error: Exception) -> str:
    """Return what may be wrong with a server that hangs up on a greeting without TLS."""
    hangs_up = "not the protocol" in str(error) or "was lost" in str(error)
    return ": if the server wants TLS, write rediss:// or tls=true" if hangs_up else ""


def _advice(refusal: str) -> str:
    """Return what to do about a refusal: the end of a sentence, or nothing."""
    for begins, what in _ADVICE.items():
        if refusal.startswith(begins):
            return f": {what}"
    return ""


def _said(info: Any, wanted: bytes) -> bytes:
    """Return a line of what INFO answered. Raises CacheUnavailable if it is not there."""
    text = info.encode() if isinstance(info, str) else info  # a verbatim string
    if isinstance(text, bytes):
        for line in text.splitlines():
            name, _, value = line.partition(b":")
            if name == wanted and value.strip():
                return value.strip()
    raise CacheUnavailable(f"INFO does not say its {wanted.decode()}")
