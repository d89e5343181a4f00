"""The client connections of one process: which are admitted, and how long each phase may take.

uvicorn limits neither. One sweep a second checks all connections, so that no request pays for a
timer of its own.
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
"""Connections checked before other tasks get their turn in the loop."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Phase(StrEnum):
    """What a connection is doing. Each phase but ANSWERING has a time limit."""

    HEAD = "head"
    """Waiting for a request's head: the first one, or one that has partly arrived."""
    BODY = "body"
    ANSWERING = "answering"
    UNREAD = "unread"
    """The client does not read what was written."""
    IDLE = "idle"
    LINGERING = "lingering"
    """The last response is written; the client has a moment to read it."""


class Limits(msgspec.Struct, frozen=True):
    """The limits of one connection."""

    head_bytes: int
    longest_s: dict[Phase, float]
    upload_bytes: int = 0
    """Of the body of an upload, on the wire, if that is more than any other body may have."""


class Connection(Protocol):
    """What the sweep needs of a connection."""

    def check(self, now: float) -> None: ...


class Clients:
    """Admits and counts connections, and keeps the time for their limits.

    `at_most` limits all of them, `per_address` those of one IPv4 address or IPv6 /64. Loopback and
    the `trusted` networks, where proxies are, are limited only by the first.
    """

    def __init__(
        self, limits: Limits, *, at_most: int, per_address: int, trusted: Sequence[Network]
    ) -> None:
        self.limits = limits
        self.turned_away: Counter[str] = Counter()
        """Connections refused, or ended for what their client did, by reason."""
        self.server_lines: tuple[object, bytes] = None, b""
        """The header lines of all answers, and the list that they were made of."""
        self.now = 0.0
        """Seconds, advanced by the sweep: time in which the process is suspended does not count."""
        self._at_most = at_most
        self._per_address = per_address
        self._trusted = trusted
        self._open = 0
        self._of: Counter[str] = Counter()

    def refusal(self, address: str) -> str | None:
        """Return why one more connection from `address` is refused: `total`, `address` or None."""
        if self._open >= self._at_most:
            return "total"
        if self._of[_party(address)] >= self._per_address and not self._is_trusted(address):
            return "address"
        return None

    def add(self, address: str) -> None:
        """Count a connection. Call `remove` once for each."""
        self._open += 1
        self._of[_party(address)] += 1

    def remove(self, address: str) -> None:
        """Stop counting a connection that has ended."""
        party = _party(address)
        self._open -= 1
        self._of[party] -= 1
        if not self._of[party]:
            del self._of[party]  # keep only addresses that are connected

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
                    connection.check(self.now)
                except Exception:
                    log.exception("a connection could not be checked")
                if not count % _AT_ONCE:
                    await asyncio.sleep(0)


def _party(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the IPv6 /64 of one customer."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
