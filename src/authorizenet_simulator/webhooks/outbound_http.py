"""Sends one HTTP/1.1 POST to a client's address, and returns the status."""

import asyncio
import contextlib
import ssl
from functools import cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

_MOST_HEADERS: Final = 64 << 10
_MOST_BODY: Final = 256 << 10
_GRACE_S: Final = 2.0
"""How long to go on reading a reply whose status is known already."""


class NoAnswer(Exception):
    """No status came; the text says why, in a few words."""


def problem_of(url: str) -> str | None:
    """Why nothing can be sent to `url`, or None."""
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
    """The status of the answer; redirects are not followed. Raises NoAnswer."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if parts.scheme == "https" else 80),
                ssl=_verifying() if parts.scheme == "https" else None,
                limit=_MOST_HEADERS,
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
def _verifying() -> ssl.SSLContext:
    """The system's certificate authorities, or those of SSL_CERT_FILE; 10 ms to load."""
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
    """Status and content length; interim answers are passed over. Raises ValueError."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ValueError("the answer is no HTTP")
        status = int(rest[:3])
        if status >= 200:
            break
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip().isdigit():
            return status, int(value)
    return status, None


async def _read_body(reader: asyncio.StreamReader, length: int | None) -> None:
    """Let the other side finish, so that it does not see a reset."""
    if length is not None:
        await reader.readexactly(min(length, _MOST_BODY))
        return
    left = _MOST_BODY
    while left > 0 and (data := await reader.read(left)):
        left -= len(data)
