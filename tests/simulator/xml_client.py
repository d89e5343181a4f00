"""An XML client, independent of the simulator's code."""

import json
import re
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from simulator.merchant_client import BOM, WIRE, Merchant, Process, card
from simulator.schema_source import NS

IN = f" in namespace '{NS}'"
CARD = card()
HEAD = '<?xml version="1.0" encoding="utf-8"?>'
ARTEFACTS = re.compile(r"\w+Specified|SupplementalDataQualificationIndicator|note")
"""Keys that exist only in JSON; `note` is an attribute in XML."""


def element(name: str, value: Any) -> str:
    """Write one element, or several of the same name for a list."""
    if isinstance(value, list):
        return "".join(element(name, each) for each in value)
    if isinstance(value, dict):
        inner = "".join(element(key, each) for key, each in value.items())
    else:
        inner = escape(str(value), {"\r": "&#13;"})
    return f"<{name}>{inner}</{name}>" if inner else f"<{name}/>"


def document(method: str, body: dict[str, Any]) -> str:
    return HEAD + element(method, body).replace(f"<{method}", f'<{method} xmlns="{NS}"', 1)


def post(process: Process, body: str | bytes, kind: str | None = "text/xml") -> bytes:
    """Send a body and return the reply's bytes; the status must be 200."""
    headers = {} if kind is None else {"content-type": kind}
    content = body.encode() if isinstance(body, str) else body
    reply = process.client.post(WIRE, content=content, headers=headers)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/xml; charset=utf-8"
    return reply.content


def parse(answer: bytes) -> ElementTree.Element:
    """Check BOM, declaration and namespaces of a reply; return its root."""
    assert answer.startswith(BOM + HEAD.encode() + b"<")
    root = ElementTree.fromstring(answer)
    for each in root.iter():
        assert each.tag.startswith(f"{{{NS}}}")
        each.tag = each.tag.removeprefix(f"{{{NS}}}")
    return root


def call(shop: Merchant, method: str, **body: Any) -> ElementTree.Element:
    whole = {"merchantAuthentication": shop.credentials, **body}
    return parse(post(shop.process, document(method, whole)))


def error(root: ElementTree.Element) -> tuple[str, str]:
    assert root.findtext("messages/resultCode") == "Error"
    return root.findtext("messages/message/code", ""), root.findtext("messages/message/text", "")


def sale(amount: str = "12.50", **after: Any) -> dict[str, Any]:
    return {"transactionType": "authCaptureTransaction", "amount": amount, "payment": CARD, **after}


def refused(process: Process, body: str | bytes, kind: str | None = "text/xml") -> tuple[str, str]:
    """Send an invalid request; return code and text of the ErrorResponse."""
    root = parse(post(process, body, kind))
    assert root.tag == "ErrorResponse"
    return error(root)


def alive(inner: str) -> str:
    return f'<isAliveRequest xmlns="{NS}">{inner}</isAliveRequest>'


def ref_id(process: Process, body: str | bytes, kind: str | None = "text/xml") -> str | None:
    root = parse(post(process, body, kind))
    assert (root.tag, root.findtext("messages/message/code")) == ("isAliveResponse", "I00001")
    return root.findtext("refId")


def facts_of_xml(root: ElementTree.Element) -> list[tuple[str, str]]:
    """Return every leaf as (name, text), sorted. Items of a list of texts have the list's name."""
    found = []
    for parent in root.iter():
        for child in parent:
            if len(child) == 0:
                name = parent.tag if parent.tag in TEXT_LISTS else child.tag
                found.append((name, child.text or ""))
    return sorted(found)


TEXT_LISTS = {
    *("cardTypes", "marketTypes", "productCodes", "paymentMethods", "currencies"),
    *("ids", "customerPaymentProfileIdList", "customerShippingAddressIdList"),
    *("validationDirectResponseList", "subscriptionIds", "fraudFilterList"),
}


def facts_of_json(tree: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the same for a JSON reply, whose numbers were read as text."""
    children: list[tuple[str, Any]] = []
    if isinstance(tree, dict):
        children = [pair for pair in tree.items() if not ARTEFACTS.fullmatch(pair[0])]
    elif isinstance(tree, list):
        children = [(name, each) for each in tree]
    if children:
        return sorted(fact for key, each in children for fact in facts_of_json(each, key))
    text = {True: "true", False: "false"}.get(tree) if isinstance(tree, bool) else tree
    if isinstance(tree, dict) and tree:
        return []  # what XML leaves out
    return [(name, str(text or ""))]


def read_json(answer: bytes) -> Any:
    return json.loads(answer.decode("utf-8-sig"), parse_float=str, parse_int=str)
