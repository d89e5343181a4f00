"""Renders a reply as an XML document, following the schema's type of the response.

The schema alone decides the order of the elements, which of a reply's keys appear in XML, and
where a JSON list gets an enclosing element (a type whose only child is repeatable). Exceptions are
two keys of a subscription's status, which Authorize.Net sends although its schema lacks them.
"""

import re
from typing import Any, Final

import msgspec

from authorizenet_simulator.wire.schema import Complex, Field
from authorizenet_simulator.wire.schema_types import NAMESPACE

DECLARATION: Final = '<?xml version="1.0" encoding="utf-8"?>'
_NAMESPACES: Final = (
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
)
_OWN_NAMESPACE: Final = f' xmlns="{NAMESPACE}"'
_SPECIAL: Final = re.compile(r"[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def write(root: str, kind: Complex, tree: dict[str, Any]) -> bytes:
    """Render the document without a byte order mark, omitting keys that are not in the type."""
    note = f' note="{tree["note"]}"' if "note" in tree else ""
    out = [DECLARATION, "<", root, _NAMESPACES, note, _OWN_NAMESPACE, ">"]
    _children(out, kind, tree)
    if "Status" in tree:
        out.append(f"<Status>{tree['Status']}</Status>")
    out.append(f"</{root}>")
    return "".join(out).encode()


def _children(out: list[str], kind: Complex, tree: dict[str, Any]) -> None:
    for rank in kind.ranks:
        for field in rank:
            value = tree.get(field.name)
            if value is None:
                continue
            if field.max != 1 and type(value) is list:
                for each in value:
                    _element(out, field, each)
            else:
                _element(out, field, value)


def _element(out: list[str], field: Field, value: Any) -> None:
    name = field.name
    if field.child is None:
        text = _text(value)
        out.append(f"<{name}>{text}</{name}>" if text else f"<{name} />")
        return
    begun = len(out)
    out.append(f"<{name}>")
    if type(value) is not list:
        _children(out, field.child, value)
    elif (item := _repeated(field.child)) is not None:
        for each in value:
            _element(out, item, each)
    else:  # a list of choices, each a dict
        for each in value:
            _children(out, field.child, each)
    if len(out) == begun + 1:
        out[begun] = f"<{name} />"
    else:
        out.append(f"</{name}>")


def _repeated(kind: Complex) -> Field | None:
    """Return the child of a type that only wraps a list; None for other types."""
    if len(kind.ranks) != 1 or len(kind.ranks[0]) != 1:
        return None
    (field,) = kind.ranks[0]
    return field if field.max != 1 else None


def _text(value: Any) -> str:
    if type(value) is str:
        return _SPECIAL.sub(_escaped, value)
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, msgspec.Raw):  # an amount with two decimals
        return bytes(value).decode()
    return str(value)


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0], _REPLACEMENT)
