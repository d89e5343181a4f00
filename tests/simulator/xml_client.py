"""An XML client, independent of the simulator's code, that checks replies against the schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import authorizenet_simulator
from simulator.merchant_client import BOM, WIRE, Merchant, Process, card

NS = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
IN = f" in namespace '{NS}'"
CARD = card()
HEAD = '<?xml version="1.0" encoding="utf-8"?>'
SCHEMA = json.loads(
    (Path(authorizenet_simulator.__file__).parent / "data/schema.json").read_bytes()
)
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
    """Check BOM, declaration, namespaces and schema of a reply; return its root."""
    assert answer.startswith(BOM + HEAD.encode() + b"<")
    root = ElementTree.fromstring(answer)
    for each in root.iter():
        assert each.tag.startswith(f"{{{NS}}}")
        each.tag = each.tag.removeprefix(f"{{{NS}}}")
    assert misfits(root) == []
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


def misfits(root: ElementTree.Element) -> list[str]:
    """Return where the document violates the order or names of the response's type."""
    return list(_misfits(root, SCHEMA["elements"][root.tag]))


def _misfits(parent: ElementTree.Element, definition: Any) -> Iterator[str]:
    fields = list(_fields(definition))
    names = [field[0] for field in fields]
    position = 0
    for child in parent:
        if (parent.tag, child.tag) == ("ARBGetSubscriptionStatusResponse", "Status"):
            continue  # what the schema does not know
        if child.tag not in names[position:]:
            yield f"{child.tag} in {parent.tag}"
            continue
        position = names.index(child.tag)
        _, _, most, spec, *_ = fields[position]
        if most == 1 and len(parent.findall(child.tag)) > 1:
            yield f"{child.tag} more than once in {parent.tag}"
        if isinstance(spec, list):
            yield from _misfits(child, [None, spec])
        elif isinstance(spec, str) and spec in SCHEMA["types"]:
            yield from _misfits(child, spec)
        elif len(child):
            yield f"children in {child.tag}"


def _fields(definition: Any) -> Iterator[Any]:
    if isinstance(definition, str):
        definition = SCHEMA["types"][definition]
    extends, own = definition
    if extends is not None:
        yield from _fields(extends)
    yield from own


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


def leaf_type(spec: Any) -> dict[str, Any]:
    """Return a leaf's facets, including those of its base."""
    facets = {"base": spec} if isinstance(spec, str) else spec
    if facets["base"] in SCHEMA["simple"]:
        return leaf_type(SCHEMA["simple"][facets["base"]]) | {
            key: value for key, value in facets.items() if key != "base"
        }
    return facets


def fields_of(definition: Any) -> list[list[Any]]:
    """Return a type's fields in groups; a group with several fields is a choice."""
    groups: list[list[Any]] = []
    in_choice = False
    for field in _fields(definition):
        choice = len(field) > 4
        if not (choice and in_choice):
            groups.append([])
        in_choice = choice
        groups[-1].append(field)
    return groups
