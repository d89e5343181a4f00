"""The connections of one process's clients: who may come in, and how long each may take.

uvicorn bounds neither. What a connection does is seen by one sweep a second over all of them, so
that no request pays for a timer of its own.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

log = logging.getLogger(__name__)

SWEEP_S: Final = 1.0
_AT_ONCE: Final = 1000
"""Connections that are looked at before others have their turn in the loop."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Phase(StrEnum):
    """What a connection is doing. Each but ANSWERING has a limit on how long."""

    HEAD = "head"
    """A request's head is awaited: of a new connection, or one of which a part has come."""
    BODY = "body"
    ANSWERING = "answering"
    UNREAD = "unread"
    """The client does not read what was written."""
    IDLE = "idle"
    LINGERING = "lingering"
    """The last answer is written; the client has a moment to read it."""


class Limits(msgspec.Struct, frozen=True):
    """What one connection may take."""

    head_bytes: int
    longest_s: dict[Phase, float]


class Connection(Protocol):
    """What the sweep asks of a connection."""

    def look(self, now: float) -> None: ...


class Clients:
    """Admits connections, counts them, and keeps the time they are held to.

    `at_most` bounds all of them, `per_address` those of one IPv4 address or IPv6 /64. Loopback and
    the `trusted` networks, where proxies stand, are bound by the first alone.
    """

    def __init__(
        self, limits: Limits, *, at_most: int, per_address: int, trusted: Sequence[Network]
    ) -> None:
        self.limits = limits
        self.turned_away: Counter[str] = Counter()
        """Connections that were refused or ended for what their client did, by reason."""
        self.now = 0.0
        """Seconds, advanced by the sweep. A process that was suspended holds nobody to it."""
        self._at_most = at_most
        self._per_address = per_address
        self._trusted = trusted
        self._open = 0
        self._of: Counter[str] = Counter()

    def why_not(self, address: str) -> str | None:
        """Why one more connection from `address` is refused: `total`, `address`, or None."""
        if self._open >= self._at_most:
            return "total"
        if self._of[_party(address)] >= self._per_address and not self._is_trusted(address):
            return "address"
        return None

    def came(self, address: str) -> None:
        """Count a connection. Each is told of once more, to `left`."""
        self._open += 1
        self._of[_party(address)] += 1

    def left(self, address: str) -> None:
        """The connection has ended."""
        party = _party(address)
        self._open -= 1
        self._of[party] -= 1
        if not self._of[party]:
            del self._of[party]  # the counter holds only who is here

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return found.is_loopback or any(found in network for network in self._trusted)

    async def sweep(self, connections: Callable[[], Iterable[Connection]]) -> None:
        """Look at every connection once a second, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.now += SWEEP_S
            for count, connection in enumerate(list(connections()), 1):
                try:
                    connection.look(self.now)
                except Exception:
                    log.exception("a connection could not be looked at")
                if not count % _AT_ONCE:
                    await asyncio.sleep(0)


def _party(address: str) -> str:
    """Who is counted as one: an IPv4 address, or the IPv6 /64 that one customer has."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
