"""The wire in XML: the same requests and replies as in JSON, in the schema's own form."""

from typing import Any, Final

from authorizenet_simulator.wire import xml_reader, xml_writer
from authorizenet_simulator.wire.json_wire import BOM, Call, Form, whole
from authorizenet_simulator.wire.replies import ApiError, Reply
from authorizenet_simulator.wire.schema import TEXT, Schema
from authorizenet_simulator.wire.schema_types import NAMESPACE

_ANSWERED_AS: Final = {
    "createCustomerProfileFromTransactionRequest": "createCustomerProfileResponse",
    "getTransactionListForCustomerRequest": "getTransactionListResponse",
}
"""Requests that have no response of their own name in the schema."""
_NOT_TAKEN: Final = frozenset(
    {"E00001", "E00002", "E00003", "E00004", "E00045", "E00053", "E00104"}
)
"""Refusals from before any method had the request; they come under a root of their own."""
_REFUSED: Final = "ErrorResponse"


def read(data: bytes) -> Call:
    """Raises ApiError: E00003 for what is no XML, E00045 for a root of another namespace."""
    try:
        document = xml_reader.read(data)
    except xml_reader.Malformed as error:
        raise ApiError("E00003", str(error)) from None
    if document.namespace != NAMESPACE:
        raise ApiError("E00045")
    tree = document.tree
    if type(tree) is str and tree.strip():
        tree = {TEXT: tree}
    return Call(document.root, tree if type(tree) is dict else {}, XML)


def render(rules: Schema, method: str, reply: Reply, ref_id: str | None) -> bytes:
    """refId, messages, payload, under the response's root; a BOM in front."""
    root = _root(method)
    if reply.code in _NOT_TAKEN or root not in rules.responses:
        root = _REFUSED
    tree: dict[str, Any] = whole(reply, ref_id)
    return BOM + xml_writer.write(root, rules.responses[root], tree)


def _root(method: str) -> str:
    return _ANSWERED_AS.get(method) or method.removesuffix("Request") + "Response"


XML: Final = Form((b"content-type", b"text/xml; charset=utf-8"), read, render)
