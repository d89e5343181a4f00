"""Parses requests and renders replies in JSON."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from authorizenet_simulator.wire import schema
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree

BOM: Final = b"\xef\xbb\xbf"
_UNREADABLE: Final = "Error reading JToken from JsonReader. Path '', line 0, position 0."

# A JSON number is decoded to the text that was sent, as in XML.
_decode = msgspec.json.Decoder(float_hook=str).decode
_encode = msgspec.json.Encoder().encode


class Form(NamedTuple):
    """One of the two formats, JSON or XML. A reply has the format of its request."""

    header: tuple[bytes, bytes]
    """The Content-Type header of replies."""
    read: Callable[[bytes], "Call"]
    """Parses a request; raises ApiError if it cannot."""
    render: Callable[[schema.Schema, str, Reply, str | None], bytes]
    """Renders the reply to a method; the last argument is the request's refId."""


class Call:
    """A parsed request: its method and its body, not yet validated."""

    __slots__ = ("body", "form", "method")

    def __init__(self, method: str, body: Tree, form: Form) -> None:
        self.method = method
        self.body = body
        self.form = form

    @property
    def transaction_type(self) -> str | None:
        inner = self.body.get("transactionRequest")
        found = inner.get("transactionType") if isinstance(inner, dict) else None
        return found if isinstance(found, str) else None

    @property
    def login(self) -> str | None:
        inner = self.body.get("merchantAuthentication")
        found = inner.get("name") if isinstance(inner, dict) else None
        return found if isinstance(found, str) else None


def read(data: bytes) -> Call:
    """Parse a JSON object with one method as its key. Raises ApiError E00001 for others."""
    try:
        tree = _decode(data[3:] if data.startswith(BOM) else data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError("E00001", _UNREADABLE) from None
    if type(tree) is not dict or len(tree) != 1:
        raise ApiError("E00001", _UNREADABLE)
    ((method, body),) = tree.items()
    if type(body) is not dict:
        body = {}
    return Call(method, body, JSON)


def whole(reply: Reply, ref_id: str | None) -> Tree:
    """Build the tree of a reply: payload, then refId, then messages."""
    tree = reply.payload
    if ref_id is not None:
        tree["refId"] = ref_id
    messages = [{"code": reply.code, "text": reply.text}]
    if reply.second is not None:
        messages.append(dict(zip(("code", "text"), reply.second, strict=True)))
    tree["messages"] = {"resultCode": reply.result, "message": messages}
    return tree


def render(rules: schema.Schema, method: str, reply: Reply, ref_id: str | None) -> bytes:
    """Render a reply in JSON, after a byte order mark; JSON replies do not name the method."""
    return BOM + _encode(whole(reply, ref_id))


def refusal(error: ApiError, payload: Mapping[str, Any] | None = None) -> Reply:
    """Build the reply for an error; a code that begins with I is Ok."""
    result = "Ok" if error.code.startswith("I") else "Error"
    return Reply(dict(payload or {}), result, error.code, error.text, error.second)


JSON: Final = Form((b"content-type", b"application/json; charset=utf-8"), read, render)
