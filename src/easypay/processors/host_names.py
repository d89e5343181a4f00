"""The addresses of host names: from /etc/hosts, then from DNS, each kept as long as DNS allows.

Both families are asked at once and kept apart, so a resolver that answers only for one of them
costs `OTHER_FAMILY_S`. If the resolver fails, the last addresses are used for `stale_s` more. An
answer that there is no such name, or no address, is an answer: nothing older is used then.
"""

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from pathlib import Path
from socket import AddressFamily
from typing import Final, NamedTuple

from easypay.clock import monotonic

log = logging.getLogger(__name__)

FAMILIES: Final = (socket.AF_INET6, socket.AF_INET)
OTHER_FAMILY_S: Final = 0.05
"""How long to wait for the other family once one has addresses (RFC 8305, section 3)."""
STALE_AFTER_S: Final = 0.25
"""How long to wait for a resolver before addresses are used that are no longer fresh."""
RETRY_S: Final = 1.0
"""After a failure, or an answer that there is no address: the least time until the next lookup."""
WARN_EVERY_S: Final = 60.0
MAX_TTL_S: Final = 86_400.0
MAX_ABSENT_S: Final = 60.0
MOST_NAMES: Final = 10_000
"""How many names are remembered, twice as many families: merchants choose some of them."""
TRIED_LAST_S: Final = 60.0
"""How long an address to which a connection failed is tried after all others."""
_RECORDS: Final = {socket.AF_INET6: "AAAA", socket.AF_INET: "A"}
_LOOPBACK: Final = ("127.0.0.1", "::1")


class NoAddress(Exception):
    """The name has no address, or no resolver told it. The text says which."""


class Addresses(NamedTuple):
    """A host's addresses in the order in which to try them."""

    all: tuple[str, ...]
    answered: frozenset[AddressFamily]
    """The families whose addresses are known now, not remembered from before."""

    def lack(self, address: str) -> bool:
        """Whether the host is known to have this address no longer."""
        return family_of(address) in self.answered and address not in self.all


class _Known(NamedTuple):
    addresses: tuple[str, ...]
    fresh_until: float


class HostNames:
    """Looks names up for one process. `resolver`: address and port, None for the system's.
    Times are seconds. `lookups` counts by result, `stale` how often old addresses were used."""

    def __init__(
        self,
        *,
        resolver: tuple[str, int] | None = None,
        stale_s: float = 600.0,
        hosts_file: Path = Path("/etc/hosts"),
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.lookups: Counter[str] = Counter()
        self.stale = 0
        self._resolver = resolver
        self._stale_s = stale_s
        self._hosts_file = hosts_file
        self._now = now
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._hosts_version: tuple[int, int] | None = None
        self._known: dict[tuple[str, AddressFamily], _Known] = {}
        self._retry_at: dict[tuple[str, AddressFamily], float] = {}
        self._tasks: dict[tuple[str, AddressFamily], asyncio.Task[_Known | None]] = {}
        self._failed_at: dict[str, float] = {}
        self._warn_at = 0.0

    async def addresses(self, host: str) -> Addresses:
        """Return a host's addresses, IPv6 and IPv4 in turn. Waits for DNS if they are not fresh.

        Raises NoAddress. A lookup goes on if its caller is cancelled: others may wait for it.
        """
        fixed = _literal(host) or self._in_hosts_file(host)
        if fixed:
            return Addresses(self._ordered([fixed]), frozenset(FAMILIES))
        if host == "invalid" or host.endswith(".invalid"):
            raise NoAddress(f"{host} cannot exist (RFC 6761)")
        answers = await self._answers(host)
        found, remembered = [], False
        for family in FAMILIES:
            known = answers.get(family)
            if known is None and (known := self._last(host, family)) is not None:
                remembered = remembered or bool(known.addresses)
            found.append(known.addresses if known is not None else ())
        if not any(found):
            failed = len(answers) < len(FAMILIES)
            self._ask_again_soon(host, answers)
            raise NoAddress(
                f"{'no resolver answered for' if failed else 'DNS has none for'} {host}"
            )
        self.stale += remembered
        return Addresses(self._ordered(found), frozenset(answers))

    def try_last(self, address: str) -> None:
        """Let other addresses be tried before this one for a while: connecting to it failed."""
        now = self._now()
        self._failed_at = {
            each: at for each, at in self._failed_at.items() if now < at + TRIED_LAST_S
        }
        self._failed_at[address] = now

    async def close(self) -> None:
        """Cancel the lookups that are running."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _answers(self, host: str) -> dict[AddressFamily, _Known]:
        """Return what is known of each family now; a family is missing if its lookup failed, or
        takes longer than what is known already is worth."""
        now = self._now()
        answers: dict[AddressFamily, _Known] = {}
        running: dict[asyncio.Task[_Known | None], AddressFamily] = {}
        for family in FAMILIES:
            known = self._known.get((host, family))
            if known is not None and now < known.fresh_until:
                answers[family] = known
            elif now >= self._retry_at.get((host, family), 0):
                running[self._lookup(host, family)] = family
        while running:
            wait_s = None
            if any(known.addresses for known in answers.values()):
                wait_s = OTHER_FAMILY_S
            elif any(self._last(host, family) for family in FAMILIES):
                wait_s = STALE_AFTER_S
            done, _ = await asyncio.wait(
                running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in done:
                family = running.pop(task)
                known = None if task.cancelled() else task.result()
                if known is not None:
                    answers[family] = known
        return answers

    def _last(self, host: str, family: AddressFamily) -> _Known | None:
        """Return the last answer with addresses, if it may still be used without a fresh one."""
        known = self._known.get((host, family))
        if known is None or not known.addresses:
            return None
        return known if self._now() < known.fresh_until + self._stale_s else None

    def _ask_again_soon(self, host: str, answers: dict[AddressFamily, _Known]) -> None:
        """Believe that a host has no address at all for no longer than `RETRY_S`."""
        soon = self._now() + RETRY_S
        for family, known in answers.items():
            if soon < known.fresh_until:
                self._known[host, family] = known._replace(fresh_until=soon)

    def _lookup(self, host: str, family: AddressFamily) -> asyncio.Task[_Known | None]:
        """Return the lookup that is running for this name, or begin one."""
        key = host, family
        task = self._tasks.get(key)
        if task is None or task.done():
            if len(self._tasks) > 2 * MOST_NAMES:
                self._forget_oldest()
            task = self._tasks[key] = asyncio.create_task(self._ask(host, family))
        return task

    def _forget_oldest(self) -> None:
        """Forget the names that were looked up first; who still needs one looks it up again."""
        for key in list(self._tasks)[:MOST_NAMES]:
            if self._tasks[key].done():
                del self._tasks[key]
                self._known.pop(key, None)
                self._retry_at.pop(key, None)

    async def _ask(self, host: str, family: AddressFamily) -> _Known | None:
        """Ask DNS and remember the answer. Return None if the lookup failed."""
        await asyncio.to_thread(__import__, "easypay.processors.dns_query")
        from easypay.processors import dns_query

        try:
            answer = await dns_query.query(host, _RECORDS[family], self._resolver)
        except dns_query.LookupFailed as error:
            self.lookups["failed"] += 1
            self._retry_at[host, family] = self._now() + RETRY_S
            self._warn(host, error)
            return None
        self.lookups["found" if answer.addresses else "absent"] += 1
        if answer.addresses:
            keep_s = min(answer.ttl_s, MAX_TTL_S)
        else:
            keep_s = min(max(answer.ttl_s, RETRY_S), MAX_ABSENT_S)
        known = self._known[host, family] = _Known(answer.addresses, self._now() + keep_s)
        return known

    def _warn(self, host: str, error: Exception) -> None:
        if self._now() >= self._warn_at:
            self._warn_at = self._now() + WARN_EVERY_S
            log.warning(
                "DNS does not answer for %s; its last addresses, if any, are used for %.0f s more: "
                "%s",
                host,
                self._stale_s,
                error,
            )

    def _in_hosts_file(self, host: str) -> tuple[str, ...]:
        """Return the addresses that /etc/hosts gives the name. localhost always has some."""
        try:
            found = self._hosts_file.stat()
            if (version := (found.st_mtime_ns, found.st_size)) != self._hosts_version:
                self._hosts, self._hosts_version = {}, version
            if host not in self._hosts:
                if len(self._hosts) >= MOST_NAMES:
                    self._hosts.clear()
                text = self._hosts_file.read_text(errors="replace")
                self._hosts[host] = _addresses_in(text, host.lower())
        except OSError:
            self._hosts, self._hosts_version = {}, None
        local = host == "localhost" or host.endswith(".localhost")
        return self._hosts.get(host) or (_LOOPBACK if local else ())

    def _ordered(self, groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        """Return one address of each group in turn; those that failed lately come last."""
        turns = chain.from_iterable(zip_longest(*groups))
        addresses = dict.fromkeys(each for each in turns if each is not None)
        if not self._failed_at:
            return tuple(addresses)
        since = self._now() - TRIED_LAST_S

        def failed_at(address: str) -> float:
            at = self._failed_at.get(address, 0.0)
            return at if at > since else 0.0

        return tuple(sorted(addresses, key=failed_at))


def family_of(address: str) -> AddressFamily:
    """Return the family of an address in text form."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _addresses_in(hosts_file: str, name: str) -> tuple[str, ...]:
    """Return the addresses of one name, given in lower case. Lines without it are only skimmed:
    a list of blocked names has 200,000, and payments wait meanwhile."""
    found: dict[str, None] = {}
    for line in hosts_file.split("\n"):
        if name in line.lower():
            address, *names = line.partition("#")[0].split() or [""]
            if name in (each.lower() for each in names):
                found.update(dict.fromkeys(_literal(address)))
    return tuple(found)


def _literal(text: str) -> tuple[str, ...]:
    """Return the address that the text is, in its usual form, or nothing."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ()
    if "%" in text:
        return (text,)
    family = family_of(text)
    return (socket.inet_ntop(family, socket.inet_pton(family, text)),)
