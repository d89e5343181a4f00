"""Which server has a value: the only one, the one that sentinels name, or one of a cluster."""

import asyncio
from binascii import crc_hqx
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import hiredis

from easypay.cache.connection import CacheUnavailable, Invalidated, connect
from easypay.cache.link import Link
from easypay.cache.url import Address, CacheUrl

_SLOTS: Final = 16_384
_LOOK_EVERY_S: Final = 2.0
"""How often it is looked which server of a cluster has what."""
_FIND_WITHIN_S: Final = 1.0


class Servers(Protocol):
    """The servers of one shared cache."""

    def hears(self) -> bool:
        """Whether every change up to a second ago is known here."""

    @property
    def is_cluster(self) -> bool:
        """Whether one command may name only keys that belong together."""

    def link_of(self, name: bytes) -> Link | None:
        """Return the connection to the server that has a name; None if it is not known."""

    @property
    def why_away(self) -> str:
        """Why a server cannot be reached, in words; empty if none was tried in vain."""

    async def run(self) -> None:
        """Stay connected, until cancelled."""


def servers_of(url: CacheUrl, invalidated: Invalidated, on_fresh: Callable[[], None]) -> Servers:
    """Return the servers of a URL. They connect when they run."""
    if url.kind == "cluster":
        return _Cluster(url, invalidated, on_fresh)
    return _One(url, invalidated, on_fresh)


class _One:
    """One server, maybe another one after a failover."""

    is_cluster = False

    def __init__(
        self, url: CacheUrl, invalidated: Invalidated, on_fresh: Callable[[], None]
    ) -> None:
        self._url = url
        find = self._ask_sentinels if url.kind == "sentinel" else self._the_only
        self._link = Link(url, find, invalidated, on_fresh)
        self.hears = self._link.hears

    @property
    def why_away(self) -> str:
        return self._link.why_away

    def link_of(self, name: bytes) -> Link | None:
        return self._link

    async def run(self) -> None:
        await self._link.run()

    async def _the_only(self) -> Address:
        return self._url.addresses[0]

    async def _ask_sentinels(self) -> Address:
        """Return the primary that the first sentinel to answer names."""
        for sentinel in self._url.addresses:
            with suppress(CacheUnavailable, TimeoutError):
                async with asyncio.timeout(_FIND_WITHIN_S):
                    return await self._ask(sentinel)
        raise CacheUnavailable("no sentinel names a primary")

    async def _ask(self, sentinel: Address) -> Address:
        connection = await connect(self._url, sentinel, lambda _: None, _FIND_WITHIN_S)
        try:
            if login := self._url.login(self._url.sentinel_password):
                await connection.send("AUTH", *login)
            named = await connection.send(
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.primary_name
            )
        finally:
            connection.drop("it has been asked")
        try:
            host, port = named
            return Address(host.decode(), int(port))
        except (TypeError, ValueError, AttributeError) as error:
            raise CacheUnavailable(f"{sentinel} names no primary") from error


class _Cluster:
    """All primaries of a cluster."""

    is_cluster = True

    def __init__(
        self, url: CacheUrl, invalidated: Invalidated, on_fresh: Callable[[], None]
    ) -> None:
        self._url = url
        self._invalidated = invalidated
        self._on_fresh = on_fresh
        self._links: dict[Address, tuple[Link, asyncio.Task[None]]] = {}
        self._ranges: list[tuple[int, int, Link]] = []

    def hears(self) -> bool:
        return bool(self._ranges) and all(link.hears() for _, _, link in self._ranges)

    @property
    def why_away(self) -> str:
        return next((link.why_away for link, _ in self._links.values() if link.why_away), "")

    def link_of(self, name: bytes) -> Link | None:
        slot = crc_hqx(name, 0) % _SLOTS
        return next((link for low, high, link in self._ranges if low <= slot <= high), None)

    async def run(self) -> None:
        try:
            while True:
                await self._look()
                await asyncio.sleep(_LOOK_EVERY_S if self._ranges else _LOOK_EVERY_S / 10)
        finally:
            for _, task in self._links.values():
                task.cancel()

    async def _look(self) -> None:
        """Ask the first server that answers which one has what, and connect to those."""
        known = {address: link for address, (link, _) in self._links.items()}
        if not known:
            self._keep(self._url.addresses)
            return
        for address, link in known.items():
            try:
                (answer,) = await link.ask(("CLUSTER", "SLOTS"), within_s=_FIND_WITHIN_S)
                ranges = _ranges(answer, address)
            except CacheUnavailable:
                continue
            self._keep([at for _, _, at in ranges])
            self._ranges = [(low, high, self._links[at][0]) for low, high, at in ranges]
            return
        # All of them are gone, maybe for good: whoever the URL names may know others.
        self._keep([*known, *self._url.addresses])

    def _keep(self, addresses: Any) -> None:
        """Connect to these servers, and leave all others."""
        wanted = dict.fromkeys(addresses)
        for gone in self._links.keys() - wanted.keys():
            self._links.pop(gone)[1].cancel()
        for address in wanted:
            if address not in self._links:
                link = Link(self._url, _at(address), self._invalidated, self._on_fresh)
                self._links[address] = link, asyncio.create_task(link.run())


def _at(address: Address) -> Any:
    async def find() -> Address:
        return address

    return find


def _ranges(answer: Any, asked: Address) -> list[tuple[int, int, Address]]:
    """Return the slots, first and last, and who has them. Raises CacheUnavailable."""
    if isinstance(answer, hiredis.ReplyError):
        raise CacheUnavailable(f"{asked} is no cluster: {answer}")
    try:
        return [
            (int(low), int(high), Address((host or b"").decode() or asked.host, int(port)))
            for low, high, (host, port, *_), *_ in answer
        ]
    except (TypeError, ValueError, AttributeError) as error:
        raise CacheUnavailable(f"{asked} does not say who has what") from error
