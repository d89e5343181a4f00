"""`EASYPAY_CACHE_URL`: where the shared cache is, and how it is reached.

    redis://[user:password@]host[:port][/database]      one server; rediss:// with TLS
    unix:///path/to/socket[?password=…]                 one server on this host
    sentinel://[user:password@]host[:port],host…/name   the primary that the sentinels name
    cluster://[user:password@]host[:port],host…         a cluster, found from any of these

`valkey` may stand for `redis`. `?tls=true` with the last two; `?sentinel_password=…` if the
sentinels have a password of their own. With TLS the certificate must be for the host that is named;
`?ca=/path` is a file with the authorities that may have signed it, instead of the system's.
"""

import ssl
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

_SINGLE: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_USUAL_USER: Final = "default"


class Address(msgspec.Struct, frozen=True):
    """Where a server listens. `path`: of a socket on this host, instead of host and port."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class CacheUrl(msgspec.Struct, frozen=True):
    """A parsed EASYPAY_CACHE_URL."""

    kind: str
    """`single`, `sentinel` or `cluster`."""
    addresses: tuple[Address, ...]
    user: str
    password: str
    tls: bool
    database: int = 0
    primary_name: str = ""
    sentinel_password: str = ""
    ca: str = ""
    """A file with the certificates of authorities; empty: those of the system."""

    def login(self, password: str | None = None) -> tuple[str, ...]:
        """Return the words of AUTH, or nothing if there is no password."""
        given = self.password if password is None else password
        return (self.user or _USUAL_USER, given) if given else ()

    def context(self) -> ssl.SSLContext | None:
        """Return how a connection is encrypted; None: not at all. Raises OSError."""
        return _context(self.ca) if self.tls else None


@lru_cache(maxsize=8)
def _context(ca: str) -> ssl.SSLContext:
    """Return how a certificate is checked. It takes 20 ms to read the system's authorities."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise OSError(f"EASYPAY_CACHE_URL: the file of ?ca={ca} cannot be used: {error}") from error


def parse(text: str) -> CacheUrl:
    """Return what the URL says. Raises ValueError."""
    # urlsplit refuses an IPv6 address that is not the first host.
    scheme, _, rest = text.partition("://")
    where, _, asked = rest.partition("?")
    netloc, slash, path = where.partition("/")
    path = slash + path
    query = {name: values[-1] for name, values in parse_qs(asked).items()}
    login, _, hosts = netloc.rpartition("@")
    user, _, password = login.partition(":")
    user, password = unquote(user), unquote(password)
    ca = query.get("ca", "")
    if scheme == "unix":
        return CacheUrl(
            "single", (Address(path=unquote(path)),), user, query.get("password", ""), False
        )
    if scheme in _SINGLE:
        database = path.strip("/") or "0"
        if not database.isdigit():
            raise ValueError("the database is a number, such as redis://host:6379/0")
        (address, *others) = _addresses(hosts, _PORT)
        if others:
            raise ValueError("name one server, or use sentinel:// or cluster://")
        return CacheUrl("single", (address,), user, password, _SINGLE[scheme], int(database), ca=ca)
    tls = query.get("tls", "").lower() in ("1", "true", "yes")
    if scheme == "cluster":
        return CacheUrl("cluster", _addresses(hosts, _PORT), user, password, tls, ca=ca)
    if scheme == "sentinel":
        name = path.strip("/")
        if not name:
            raise ValueError("name the primary: sentinel://host:26379/name")
        return CacheUrl(
            "sentinel",
            _addresses(hosts, _SENTINEL_PORT),
            user,
            password,
            tls,
            primary_name=name,
            sentinel_password=query.get("sentinel_password", ""),
            ca=ca,
        )
    raise ValueError("it begins with redis://, rediss://, unix://, sentinel:// or cluster://")


def _addresses(hosts: str, usual_port: int) -> tuple[Address, ...]:
    found = []
    for each in hosts.split(","):
        try:
            parts = urlsplit(f"//{each}")
            host, port = parts.hostname, parts.port or usual_port
        except ValueError:
            # Python's message quotes the port: part of a password, if that has a bare / or ?.
            raise ValueError(
                "a host or a port is not one; in a password write / as %2F and ? as %3F"
            ) from None
        if not host:
            raise ValueError("it names no host")
        found.append(Address(host, port))
    return tuple(found)
