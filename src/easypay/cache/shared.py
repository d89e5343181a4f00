"""The cache that all processes share: Valkey or Redis.

A reader who finds nothing leaves a token in the value's place, and then asks the database. Whoever
records a change afterwards deletes what is in that place. So when the reader comes to store what it
has read, its token is still there only if nothing has changed since before it asked the database:
one small script compares and stores. However slow a reader is, it cannot bring back the past. A
value that is too old for a reader is replaced in the same way; then the value itself is the token.
What nobody has asked for has no place, and deleting it does nothing.

    easypay:<run and reign of the server>:<number of the merchant>:{<name>}    a token or a value
    easypay:<run and reign of the server>:{merchant:<id>}                      that number

What is within the braces decides which server of a cluster has the key.

A value says in which form it is: gateways of two versions may share a server, and each reads only
what its own has stored. Either deletes both.

A value is signed together with its name. So nothing that this gateway did not store under that name
is ever taken for it: another's answer, half an answer, somebody's forgery. It carries the time at
which the database was read, by the database's clock.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import hiredis
import msgspec

from easypay.cache.caches import Caches, Found, PaymentRef, size_of
from easypay.cache.connection import CacheUnavailable
from easypay.cache.database_clock import DatabaseClock
from easypay.cache.link import PREFIX, Link
from easypay.cache.merchant_numbers import SETTLES_S, MerchantNumbers
from easypay.cache.names import LIFE_S, Answer
from easypay.cache.near import Entry
from easypay.cache.servers import servers_of
from easypay.cache.telling import Telling
from easypay.cache.url import CacheUrl
from easypay.clock import monotonic
from easypay.hmac_sha256 import Digest

_TOKEN: Final = b"T"
_VALUE: Final = b"V"
_FORM: Final = 4
_SIGNATURE: Final = 16
_TOKEN_MS: Final = 5_000
"""A reader who takes longer to read the database stores nothing."""
_LARGEST: Final = 256 * 1024
"""Bytes. A larger value is not shared."""
_FILL: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_NOTHING: Final = Found(None, None)


class _Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A value as it is stored, after its signature."""

    read_at_us: int
    timeline: str
    version: int
    answer: Answer


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class SharedCache:
    """What `Caches` calls `Shared`. `digest` signs; every gateway must have the same. `form`
    differs between versions of the gateway that answer differently."""

    def __init__(
        self,
        url: CacheUrl,
        caches: Caches,
        clock: DatabaseClock,
        digest: Digest,
        settles_s: float = SETTLES_S,
        form: str = "",
    ) -> None:
        self._begins = _VALUE + _form_of(form)
        self._caches = caches
        self._clock = clock
        self._digest = digest
        self._servers = servers_of(url, self._invalidated, self._forget_all_here)
        self.hears = self._servers.hears
        """Whether every change up to a second ago is known here."""
        self._numbers = MerchantNumbers(self._servers, clock, settles_s)
        self.telling = Telling(self._servers, self._numbers, caches.drop)

    @property
    def is_usable(self) -> bool:
        """Whether values can be looked up and stored now."""
        return self.hears() and self._clock.is_known

    async def run(self) -> None:
        """Stay connected and tell of changes, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._servers.run())
            tasks.create_task(self._clock.run())
            tasks.create_task(self.telling.run())

    # values ------------------------------------------------------------------------------------

    async def look_up(self, name: str) -> Found:
        """Return what is there, and leave a token if there is nothing. Never raises."""
        if not self._clock.is_known:
            return _NOTHING
        try:
            place = await self._place(name)
            if place is None:
                return _NOTHING
            link, key = place
            token = _TOKEN + secrets.token_bytes(12)
            there, left = await link.ask(("GET", key), ("SET", key, token, "NX", "PX", _TOKEN_MS))
        except CacheUnavailable:
            self._caches.failed(name)
            return _NOTHING
        if there is None:
            if isinstance(left, hiredis.ReplyError):  # it is full
                self._caches.failed(name)
                return _NOTHING
            return Found(None, token if left == b"OK" else None, told=True)
        if not isinstance(there, bytes):
            self._caches.failed(name)
            return _NOTHING
        if there[:1] == _TOKEN:  # another process reads it now
            return Found(None, None, told=True)
        if self.telling.has_changed(name):
            return _NOTHING
        if there[:1] == _VALUE and not there.startswith(self._begins):
            return Found(None, there, told=True)  # another version of the gateway stored it
        try:
            entry = self._opened(name, there)
        except ValueError:
            entry = None
            self._caches.failed(name)
        return Found(entry, there, told=True)

    async def fill(self, name: str, held: bytes, entry: Entry) -> None:
        """Store an entry if `held` is still in its place. Never raises."""
        if not self._clock.is_known:
            return
        try:
            place = await self._place(name)
            if place is None:
                return
            link, key = place
            if entry.value is None or entry.size > _LARGEST:
                await link.ask(("UNLINK", key))  # nothing is shared but values
                return
            sealed = self._sealed(name, entry)
            life_ms = int((entry.ends_at - monotonic()) * 1000)
            if life_ms > 0:
                await link.ask(("EVAL", _FILL, 1, key, held, sealed, life_ms))
        except CacheUnavailable:
            self._caches.failed(name)

    def _sealed(self, name: str, entry: Entry) -> bytes:
        read_at_us, timeline = self._clock.earliest(entry.read_at), self._clock.timeline
        stored = _encode(_Stored(read_at_us, timeline, entry.version, entry.value))
        return self._begins + self._signature(name, stored) + stored

    def _opened(self, name: str, blob: bytes) -> Entry | None:
        """Return the entry in what was stored; None if nobody may use it any more.

        Raises ValueError if we did not store it under this name.
        """
        at = len(self._begins)
        signature, stored = blob[at : at + _SIGNATURE], blob[at + _SIGNATURE :]
        signed = hmac.compare_digest(signature, self._signature(name, stored))
        if blob[:at] != self._begins or not signed:
            raise ValueError("it is not signed for this name")
        value = _decode(stored)  # its errors are ValueErrors
        if value.timeline != self._clock.timeline:  # read from a server that was replaced
            return None
        now = monotonic()
        age_s = (self._clock.latest(now) - value.read_at_us) / 1_000_000
        if age_s < 0:  # the database's clock was set back: nobody knows how old it is
            return None
        read_at, size = now - age_s, size_of(value.answer)
        return Entry(value.answer, value.version, read_at, read_at + LIFE_S, size, told=True)

    def _signature(self, name: str, stored: bytes) -> bytes:
        return self._digest(b"%b\0%b%b" % (name.encode(), self._begins, stored))[:_SIGNATURE]

    async def _place(self, name: str) -> tuple[Link, bytes] | None:
        """Return the server and the key of a name; None if the merchant's number is too new.

        Raises CacheUnavailable.
        """
        number = await self._numbers.of(name.split(":", 2)[1])
        if number is None:
            return None
        link = self._numbers.link_of(name)
        return link, b"%b%b:{%b}" % (link.prefix, number, name.encode())

    # changes elsewhere -------------------------------------------------------------------------

    def _invalidated(self, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self._forget_all_here()
            return
        for key in keys:
            if not isinstance(key, bytes) or not key.startswith(PREFIX):
                continue
            name = key[key.find(b"{") + 1 : -1].decode("ascii", "replace")
            kind, _, merchant = name.partition(":")
            if kind != "merchant":
                self._caches.drop(name)
            elif self._numbers.changed(merchant):
                with suppress(ValueError):
                    self._caches.drop_merchant(UUID(merchant))

    def _forget_all_here(self) -> None:
        self._numbers.clear()
        self._caches.drop_all()

    # changes here ------------------------------------------------------------------------------

    def forget(self, name: str) -> None:
        """Drop a name everywhere, soon."""
        self.telling.name(name)

    def forget_payments(self, changed: Sequence[PaymentRef]) -> None:
        """Drop payments everywhere, soon."""
        self.telling.payments(changed)

    def forget_merchant(self, merchant_id: UUID) -> None:
        """Drop everything of a merchant everywhere, soon."""
        self.telling.merchant(merchant_id)


def _form_of(form: str) -> bytes:
    """Return the form of a stored value: of what is in it, and of how it is stored."""
    said = [form, *_Stored.__struct_fields__, *Answer.__struct_fields__]
    return hashlib.blake2b("\n".join(said).encode(), digest_size=_FORM).digest()


def shared_by(
    url: CacheUrl,
    caches: Caches,
    pool: Any,
    digest: Digest,
    settles_s: float = SETTLES_S,
    form: str = "",
) -> SharedCache:
    """Return the shared cache of some near caches, connected to them. It has to run."""
    clock = DatabaseClock(pool, on_failover=caches.drop_all)
    shared = SharedCache(url, caches, clock, digest, settles_s, form)
    caches.connect(shared, shared.hears)
    return shared
