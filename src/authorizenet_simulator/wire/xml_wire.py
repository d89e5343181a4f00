"""Parses requests and renders replies in XML: the same content as in JSON."""

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
"""Requests whose response has another name in the schema."""
_BEFORE_METHOD: Final = frozenset(
    {"E00001", "E00002", "E00003", "E00004", "E00045", "E00053", "E00104"}
)
"""Errors raised before a method is called; their replies have the root `ErrorResponse`."""
_ERROR_ROOT: Final = "ErrorResponse"


def read(data: bytes) -> Call:
    """Parse a request. Raises ApiError E00003 for invalid XML, E00045 for a wrong namespace."""
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
    """Render refId, messages and payload under the response's root, after a byte order mark."""
    root = _root(method)
    if reply.code in _BEFORE_METHOD or root not in rules.responses:
        root = _ERROR_ROOT
    tree: dict[str, Any] = whole(reply, ref_id)
    return BOM + xml_writer.write(root, rules.responses[root], tree)


def _root(method: str) -> str:
    return _ANSWERED_AS.get(method) or method.removesuffix("Request") + "Response"


XML: Final = Form((b"content-type", b"text/xml; charset=utf-8"), read, render)
