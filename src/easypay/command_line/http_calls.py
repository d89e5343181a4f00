"""One HTTP request of a command, with a time limit and a bounded answer. Follows no redirect."""

import http.client
import ssl
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, NamedTuple
from urllib.parse import urlsplit

MOST_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an answer that are read. A page of 100 events has at most a few megabytes."""

_PIECE: Final = 64 * 1024


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes


class NoAnswer(Exception):
    """No whole answer came. The text is the reason; the request may have arrived."""


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | BinaryIO | None = None,
    limit_s: float,
    most_bytes: int = MOST_BYTES,
    into: Callable[[bytes], object] | None = None,
) -> Answer:
    """Send one request and return the answer, whatever its status.

    `body` may be an open file; then `headers` has its Content-Length. `into` is given the body of
    an answer with status 200 as it comes, however long it is; the answer has none then.

    `limit_s` holds for connecting and for each wait for bytes. Raises NoAnswer, and ValueError if
    `url` does not begin with http:// or https:// and a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address: use http://host:port")
    connection = (
        http.client.HTTPSConnection(parts.netloc, timeout=limit_s, context=_tls())
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=limit_s)
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, dict(headers or {}))
        reply = connection.getresponse()
        if into is not None and reply.status == 200:
            while piece := reply.read(_PIECE):
                into(piece)
            return Answer(reply.status, b"")
        return Answer(reply.status, reply.read(most_bytes))
    except TimeoutError:
        raise NoAnswer(f"no answer within {limit_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(getattr(error, "strerror", None) or str(error) or repr(error)) from error
    finally:
        connection.close()


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
