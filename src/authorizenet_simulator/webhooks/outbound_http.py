"""Sends an HTTP/1.1 POST to a webhook's address and returns the status."""

import asyncio
import contextlib
import ssl
from functools import cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

_MAX_HEADERS: Final = 64 << 10
_MAX_BODY: Final = 256 << 10
_GRACE_S: Final = 2.0
"""How long to read the rest of a response whose status is known."""


class NoAnswer(Exception):
    """No response arrived; the text says why."""


def problem_of(url: str) -> str | None:
    """Return why `url` cannot be used, or None."""
    if not url.isascii() or any(character <= " " for character in url):
        return "the url must be ASCII, without spaces"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "the url must begin with http:// or https:// and name a host"
    return None


async def post(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> int:
    """Return the response's status; redirects are not followed. Raises NoAnswer."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if parts.scheme == "https" else 80),
                ssl=_tls_context() if parts.scheme == "https" else None,
                limit=_MAX_HEADERS,
            )
            try:
                writer.write(_head(parts, headers, len(body)) + body)
                status, length = await _read_head(reader)
                with contextlib.suppress(OSError, EOFError, TimeoutError):
                    async with asyncio.timeout(min(timeout_s, _GRACE_S)):
                        await _read_body(reader, length)
            finally:
                writer.close()
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(f"certificate: {error.verify_message}") from None
    except OSError as error:
        raise NoAnswer(error.strerror or str(error) or type(error).__name__) from None
    except EOFError:
        raise NoAnswer("the connection was closed without an answer") from None
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise NoAnswer(str(error)[:200]) from None
    return status


@cache
def _tls_context() -> ssl.SSLContext:
    """Load the system's certificate authorities or those of SSL_CERT_FILE (takes 10 ms)."""
    return ssl.create_default_context()


def _head(parts: SplitResult, headers: dict[str, str], length: int) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {length}",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, int | None]:
    """Read status and content length, skipping interim responses. Raises ValueError."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ValueError("the answer is not HTTP")
        status = int(rest[:3])
        if status >= 200:
            break
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip().isdigit():
            return status, int(value)
    return status, None


async def _read_body(reader: asyncio.StreamReader, length: int | None) -> None:
    """Read the rest, so that the other side does not see a reset."""
    if length is not None:
        await reader.readexactly(min(length, _MAX_BODY))
        return
    left = _MAX_BODY
    while left > 0 and (data := await reader.read(left)):
        left -= len(data)
