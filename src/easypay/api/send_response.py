"""The seam between the API and the server: a response leaves whole, in one write.

`easypay.server.protocol` puts a function into each request's ASGI extensions, and `send_response`
calls it. docs/decisions/0015 has the reason and the measurements. Only a streamed answer goes
another way (`easypay.api.streaming`).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.types import Scope

EXTENSION: Final = "easypay.send_response"
"""The extension's name in `scope["extensions"]`. Its `send` is a `SendWhole`."""

SendWhole = Callable[[int, bytes, bytes, bool], Awaitable[None]]


def send_response(
    scope: Scope, status: int, header_lines: bytes, body: bytes, closes: bool
) -> Awaitable[None]:
    """Send the response to the request of `scope`.

    `header_lines` each end with CRLF. They include Content-Length and leave out what the server
    adds (Date, Connection). With `closes`, the connection is closed afterwards.
    """
    send: SendWhole = scope["extensions"][EXTENSION]["send"]
    return send(status, header_lines, body, closes)


def cut(extensions: Mapping[str, Any]) -> Awaitable[None]:
    """End the connection of a request whose answer has begun and cannot be finished. What was
    written and not yet sent is dropped. `extensions` are those that came with the request."""
    send: SendWhole = extensions[EXTENSION]["send"]
    return send(0, b"", b"", True)
