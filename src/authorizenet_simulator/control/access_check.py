"""Rejects requests to /simulator that come from web pages of other origins.

A browser on this machine runs scripts of foreign pages, which can send requests here: from
another origin, or under a host name of theirs that resolves to this address (DNS rebinding).
A browser sends Origin or Sec-Fetch-Site, and Host; curl sends only Host. So a host name that is
not configured is rejected, and so is an origin other than the requested host.
"""

import ipaddress
from collections.abc import Collection, Iterable
from typing import Final

_LOCAL: Final = "localhost"
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})


def refusal_reason(headers: Iterable[tuple[bytes, bytes]], names: Collection[str]) -> str | None:
    """Return why a request is rejected, or None. `names` are the allowed host names besides IP
    addresses and localhost."""
    hosts = {value.lower() for name, value in headers if name == b"host"}
    if len(hosts) > 1:
        return "more than one Host header"
    host = next(iter(hosts), b"")
    if host and not _is_allowed(host.decode("latin-1"), names):
        return "host name not allowed: use an IP address or localhost, or start with --allow-host"
    for name, value in headers:
        if name == b"origin" and value.lower() not in (b"http://" + host, b"https://" + host):
            return "requests from web pages of other origins are not allowed"
        if name == b"sec-fetch-site" and value.lower() not in _OWN_SITES:
            return "requests from web pages of other origins are not allowed"
    return None


def _is_allowed(host: str, names: Collection[str]) -> bool:
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        if not closed or not (port == "" or port.startswith(":")):
            return False
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    name = name.removesuffix(".")
    if name == _LOCAL or name.endswith(f".{_LOCAL}") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
