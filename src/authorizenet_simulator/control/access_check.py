"""Keeps web pages of other origins away from the control surface.

A browser on this machine runs pages of strangers, and their scripts can send requests here: from
another origin, or from a name of their own that they let lead to this address (DNS rebinding).
A browser says where a request comes from and which name it went to; curl says no more than the
address. So names are refused that nobody has told us, and origins other than the one asked.
"""

import ipaddress
from collections.abc import Collection, Iterable
from typing import Final

_LOCAL: Final = "localhost"
_OWN: Final = frozenset({b"same-origin", b"none"})


def why_closed(headers: Iterable[tuple[bytes, bytes]], names: Collection[str]) -> str | None:
    """Why a request is not let in, or None. `names` are those the simulator goes by besides
    addresses and localhost."""
    hosts = {value.lower() for name, value in headers if name == b"host"}
    if len(hosts) > 1:
        return "more than one Host"
    host = next(iter(hosts), b"")
    if host and not _is_ours(host.decode("latin-1"), names):
        return "this name is not one of the simulator's: use its address, or --allow-host"
    for name, value in headers:
        if name == b"origin" and value.lower() not in (b"http://" + host, b"https://" + host):
            return "pages of other origins have no business here"
        if name == b"sec-fetch-site" and value.lower() not in _OWN:
            return "pages of other origins have no business here"
    return None


def _is_ours(host: str, names: Collection[str]) -> bool:
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
