"""Checks replies against the schema, in JSON and XML: order, occurrence, types.

Strict clients (PyXB, the .NET serializer) reject anything else. `look_at` checks every reply in the
simulator's tests, independently of the simulator's code.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import httpx
import msgspec

from simulator.schema_source import SCHEMA, children, facets, fields, response_of, units

_UNKNOWN = {
    ("transactionResponse", "SupplementalDataQualificationIndicator"): int,
    ("ARBGetSubscriptionStatusResponse", "note"): str,
    ("ARBGetSubscriptionStatusResponse", "Status"): str,
}
"""Keys that are not in the schema, by type; `...Specified` may be anywhere."""
_UNREAD = ("E00001", "E00002", "E00003", "E00004", "E00045", "E00053", "E00104")
"""Errors before a method is called: the reply has only messages."""


def look_at(reply: httpx.Response) -> None:
    """Fail if a reply violates the schema. Replies broken by a fault are ignored."""
    request = reply.request
    if request.url.path != "/xml/v1/request.api" or request.method != "POST":
        return
    kind = reply.headers.get("content-type", "")
    content = reply.read()
    if reply.status_code == 200 and "json" in kind:
        try:
            asked = msgspec.json.decode(request.content.removeprefix(b"\xef\xbb\xbf"))
            answer = msgspec.json.decode(content[3:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # an unreadable request has no method to check the reply against
        method = next(iter(asked), "") if isinstance(asked, dict) else ""
        wrong = list(misfits_of_json(method, answer))
    elif reply.status_code == 200 and "xml" in kind:
        try:
            root = ElementTree.fromstring(content)
        except ElementTree.ParseError:
            return
        wrong = list(misfits_of_xml(root))
    else:
        return
    assert wrong == [], f"{wrong} in {content.decode()} for {request.content.decode()}"


def misfits_of_json(method: str, answer: dict[str, Any]) -> Iterator[str]:
    """Yield violations of: payload in the schema's order, then refId, then messages."""
    root = response_of(method)
    base = fields("ANetApiResponse")
    code = answer["messages"]["message"][0]["code"]
    own: list[Any] = []
    if root in SCHEMA["elements"]:
        definition = SCHEMA["elements"][root]
        own = fields(definition)[len(base) :]
    failed = answer["messages"]["resultCode"] == "Error"
    if code in _UNREAD or (failed and not answer.keys() & {field[0] for field in own}):
        own = []
    ref_id, messages, token = base
    yield from _object(root, [*own, token, ref_id, messages], answer)


def _object(name: str, known: list[Any], tree: dict[str, Any]) -> Iterator[str]:
    by_name = {field[0]: place for place, field in enumerate(known)}
    last = -1
    for key, value in tree.items():
        if key not in by_name:
            expected = bool if key.endswith("Specified") else _UNKNOWN.get((name, key))
            if expected is None or not isinstance(value, expected):
                yield f"{key} in {name}"
            continue
        if by_name[key] < last:
            yield f"{key} too late in {name}"
        last = max(last, by_name[key])
        yield from _value(key, known[by_name[key]], value)
    for needed in _missing(known, tree.keys()):
        yield f"no {needed} in {name}"


def _value(name: str, field: list[Any], value: Any) -> Iterator[str]:
    _, _, most, spec, *_ = field
    if most != 1 and not isinstance(value, list):
        yield f"{name} is no list"
    for each in value if most != 1 and isinstance(value, list) else [value]:
        yield from _one(name, spec, each)


def _one(name: str, spec: Any, value: Any) -> Iterator[str]:
    if (inner := children(spec)) is None:
        yield from _leaf(name, spec, value)
    elif len(inner) == 1 and inner[0][2] != 1:  # a type that only wraps a list
        if not isinstance(value, list):
            yield f"{name} is no list"
            return
        for each in value:
            yield from _one(inner[0][0], inner[0][3], each)
    elif not isinstance(value, dict):
        yield f"{name} is no object"
    else:
        yield from _object(name, inner, value)


_KINDS: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "int": (int,),
    "short": (int,),
    "decimal": (int, float),
}


def _leaf(name: str, spec: Any, value: Any) -> Iterator[str]:
    base = facets(spec)["base"]
    if isinstance(value, bool) is not (base == "boolean"):
        yield f"{name} is {value!r}"
    elif not isinstance(value, _KINDS.get(base, (str,))):
        yield f"{name} is {value!r}, and should be {base}"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    yield from _facets(name, spec, text)


def misfits_of_xml(root: ElementTree.Element) -> Iterator[str]:
    """Yield violations of order, occurrence and type."""
    name = _local(root)
    whole = fields(SCHEMA["elements"][name])
    failed = any(each.text == "Error" for each in root.iter() if _local(each) == "resultCode")
    base = fields("ANetApiResponse")
    payload = {_local(child) for child in root} - {field[0] for field in base}
    yield from _element(root, base if failed and not payload else whole)


def _element(parent: ElementTree.Element, known: list[Any]) -> Iterator[str]:
    places = {field[0]: place for place, field in enumerate(known)}
    names = [_local(child) for child in parent]
    yield from (f"no {each} in {_local(parent)}" for each in _missing(known, names))
    last = -1
    for name, child in zip(names, parent, strict=True):
        if name not in places:
            if (_local(parent), name) not in _UNKNOWN:
                yield f"{name} in {_local(parent)}"
            continue
        if places[name] < last:
            yield f"{name} too late in {_local(parent)}"
        last = max(last, places[name])
        _, _, most, spec, *_ = known[places[name]]
        if most == 1 and names.count(name) > 1:
            yield f"{name} more than once in {_local(parent)}"
        if (inner := children(spec)) is not None:
            yield from _element(child, inner)
        elif len(child):
            yield f"children in {name}"
        else:
            yield from _facets(name, spec, child.text or "")


def _missing(known: list[Any], names: Any) -> Iterator[str]:
    there = set(names)
    choices = [field for field in known if len(field) > 4]
    for field in known:
        if field[1] and len(field) <= 4 and field[0] not in there:
            yield field[0]
    if choices and all(field[1] for field in choices) and not there & {f[0] for f in choices}:
        yield " or ".join(field[0] for field in choices)


_PRIMITIVES: dict[str, Callable[[str], Any]] = {
    "string": lambda text: True,
    "boolean": re.compile("true|false").fullmatch,
    "int": lambda text: _is_whole(text, 32),
    "long": lambda text: _is_whole(text, 64),
    "short": lambda text: _is_whole(text, 16),
    "decimal": re.compile(r"-?[0-9]+(\.[0-9]+)?").fullmatch,
    "date": date.fromisoformat,
    "dateTime": datetime.fromisoformat,
}
"""Check of each base type: falsy or a ValueError if the text is invalid."""
_FACETS: dict[str, Callable[[str, Any], bool]] = {
    "pattern": lambda text, pattern: re.fullmatch(pattern, text) is not None,
    "enum": lambda text, listed: text in listed,
    "length": lambda text, size: units(text) == size,
    "minLength": lambda text, least: units(text) >= least,
    "maxLength": lambda text, most: units(text) <= most,
    "minInclusive": lambda text, least: Decimal(text) >= Decimal(least),
    "maxInclusive": lambda text, most: Decimal(text) <= Decimal(most),
    "fractionDigits": lambda text, most: len(text.partition(".")[2].rstrip("0")) <= most,
    "totalDigits": lambda text, most: len(text.strip("-0").replace(".", "")) <= most,
}


def _is_whole(text: str, bits: int) -> bool:
    return re.fullmatch("-?[0-9]+", text) is not None and abs(int(text)) < 1 << (bits - 1)


def _facets(name: str, spec: Any, text: str) -> Iterator[str]:
    """Yield the first rule of the leaf's type, or of its base, that the text violates."""
    rules = facets(spec)
    base = rules.pop("base")
    valid = False
    with suppress(ValueError):
        valid = bool(_PRIMITIVES[base](text))
    if not valid:
        yield f"{name}: {text!r} is no {base}"
        return
    for rule, limit in rules.items():
        if not _FACETS[rule](text, limit):
            yield f"{name}: {text!r} breaks {rule} {limit}"
            return


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
