"""Which URLs an endpoint may have, and to which addresses a webhook may be sent.

A merchant chooses the URL, so it must not lead into the operator's own network. A name is looked
up again for each connection, and what counts is the address that it then leads to: a name that was
public when it was checked may be private a moment later. Private addresses are allowed only where
the operator names their networks.
"""

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final
from urllib.parse import urlsplit

from easypay.card_numbers import contains_card_number
from easypay.processors.host_names import Addresses, HostNames, NoAddress

MOST_CHARACTERS: Final = 2000
_HOST: Final = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
    re.IGNORECASE,
)
"""A name whose last part begins with a letter: `127.1` and `2130706433` are numbers in disguise."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20"),
            *("::/3", "4000::/2", "8000::/1"),
        ),
    )
)
"""Beside what `is_global` refuses: tunnels that lead anywhere, what nobody should use, and all of
IPv6 but 2000::/3, where the public addresses are: translators map the rest to private ones."""

Network = IPv4Network | IPv6Network


class NotAllowed(NoAddress):
    """A name leads only to addresses to which no webhook may be sent."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks such as `10.1.0.0/16`. Raises ValueError."""
    return tuple(ipaddress.ip_network(text.strip()) for text in texts if text.strip())


def is_allowed(address: str, private: Iterable[Network] = ()) -> bool:
    """Whether a webhook may be sent to an address. `private`: networks that the operator allows."""
    try:
        found = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if any(found in network for network in private):
        return True
    return (
        found.is_global
        and not found.is_multicast
        and not any(found in network for network in _NOT_PUBLIC)
    )


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address inside of an IPv6 one, if there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


class AllowedNames(HostNames):
    """Looks names up and gives only the addresses to which a webhook may be sent."""

    def __init__(
        self, private: Iterable[Network] = (), *, resolver: tuple[str, int] | None = None
    ) -> None:
        super().__init__(resolver=resolver, stale_s=60.0)
        self.private = tuple(private)

    async def addresses(self, host: str) -> Addresses:
        """Return a host's allowed addresses. Raises NoAddress, and NotAllowed if it has others."""
        found = await super().addresses(host)
        allowed = tuple(each for each in found.all if is_allowed(each, self.private))
        if not allowed:
            # A merchant reads this: it does not say what the operator's own DNS knows.
            raise NotAllowed(
                f"{host} leads to what is not a public address. Webhooks are sent to public "
                "addresses only."
            )
        return Addresses(allowed, found.answered)


def wrong_url(text: str, *, live: bool, private: Iterable[Network] = ()) -> str | None:
    """Return why an endpoint cannot have this URL, as a sentence, or None.

    A name is not looked up here. `live`: real payments are told over TLS only.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "url must be an address such as https://shop.example/webhooks."
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return "url must be ASCII without blanks: encode other characters as %XX."
    if len(text) > MOST_CHARACTERS:
        return f"url must have at most {MOST_CHARACTERS} characters."
    if parts.scheme not in ("http", "https") or not host:
        return "url must begin with https:// and a host."
    if parts.scheme == "http" and live:
        return "url must begin with https:// in live mode."
    if parts.username is not None or parts.password is not None:
        return "url must not contain a login: check the signature instead."
    if contains_card_number(text):
        return "url must not contain a card number."
    if parts.fragment:
        return "url must not have a fragment (#…): it would not be sent."
    if port == 0:
        return "url has no such port: use 1 to 65535."
    name = f"[{host}]" if ":" in host else host
    if parts.netloc.lower() not in (name, f"{name}:{port}"):  # `[v1.x]`, `a:`, `a:0443`
        return "url must have a host name, or an IP address in its usual form."
    if _is_literal(host):
        if not is_allowed(host, private):
            return "url must lead to a public address. Webhooks are not sent to private ones."
    elif len(host) > 253 or not _HOST.fullmatch(host):
        return "url must have a host name, or an IP address in its usual form."
    return None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
