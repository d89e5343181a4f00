"""What the addresses in settings may be: of listeners, resolvers, websites and servers."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

_CACHE_SCHEMES: Final = ("redis", "rediss", "valkey", "valkeys", "unix", "sentinel", "cluster")


def host_and_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:9464`, `[::1]:9464` or `localhost:9464`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if not colon or not name or (":" in name) != host.startswith("["):
        raise ValueError("use host:port, such as 127.0.0.1:9464")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
        raise ValueError("the port is a number from 1 to 65535")
    return name, int(port)


def resolver_address(text: str) -> tuple[str, int]:
    """`10.0.0.2`, `10.0.0.2:5353`, `::1` or `[::1]:5353`; the port is 53. Raises ValueError."""
    try:
        return str(ip_address(text)), 53
    except ValueError:
        host, port = host_and_port(text)
        return str(ip_address(host)), port


def web_address(text: str) -> str:
    """Return an address to which payments can be sent. Raises ValueError."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bad port, or half a bracket
        good = False
    if not (good and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError(f"{text!r} is no address: use https://host/path or https://host:port/path")
    return text


def by_name(named: Iterable[str]) -> dict[str, str]:
    """`other.test=https://test.example/` as a name and a URL."""
    return {name: url for name, _, url in (each.partition("=") for each in named)}


def check_named(text: str) -> None:
    """Raises ValueError if a text is not what `by_name` reads."""
    name, equals, url = text.partition("=")
    if not equals or "." not in name or not url.startswith(("http://", "https://")):
        raise ValueError("use name.mode=URL, such as other.test=https://test.example/")
    web_address(url)


def check_one_server(url: str) -> None:
    """Raises ValueError if the URL of a database names several servers."""
    parts = urlsplit(url)
    hosts = parse_qs(parts.query).get("host", [""])[0]
    if "," in parts.netloc.rpartition("@")[2] or "," in hosts:
        raise ValueError("name one server: how far behind it is says nothing about another")


def check_cache(url: str) -> None:
    """Raises ValueError if a URL is none of a cache."""
    if url.partition("://")[0] not in _CACHE_SCHEMES:
        raise ValueError(f"begin with one of {', '.join(_CACHE_SCHEMES)}, then ://")


def check_mail_server(url: str) -> None:
    """Raises ValueError if a URL is none of a mail server."""
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("use smtp://host:port or smtps://host:port")


def secret_web_address(text: str) -> str:
    """Return an address whose path may be a secret: no error quotes it. Raises ValueError."""
    try:
        return web_address(text)
    except ValueError:
        raise ValueError("it is no address: use https://host/path") from None


def headers_of(text: str) -> dict[str, str]:
    """Return `Authorization=ApiKey abc,x-tenant=1` as headers; `%20` is a space, as in
    OTEL_EXPORTER_OTLP_HEADERS. Raises ValueError."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name, value = name.strip(), unquote(value.strip())
        good = name.replace("-", "").isalnum() and value.isprintable() and (name + value).isascii()
        if not (equals and good):
            raise ValueError("use name=value, separated by commas")
        found[name] = value
    return found
